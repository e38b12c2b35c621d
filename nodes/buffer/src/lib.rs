//! The memory of frames: the last frames of each stream at source resolution, resized copies for
//! the tracker, pacing, quality that follows the load, and crops of objects on demand.

mod adaptive_quality;
mod crop;
mod pacing;
mod resize;
mod ring;

pub use adaptive_quality::{AdaptiveQuality, Rates, Step};
pub use crop::{crop, sharpness};
pub use pacing::Pacer;
pub use resize::{ResizeError, Resizer, target_size};
pub use ring::Ring;
