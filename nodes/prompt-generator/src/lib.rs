//! Where to look for objects: strategies that propose places on a frame, and the rules that they
//! share.
//!
//! A [`Strategy`] sees every frame of one stream and proposes places when it is asked to look. The
//! [`Prompter`] around it decides when that is (every so many frames, and on a scene cut), leaves
//! out what live tracks cover already, and answers every frame in order. The same frames and tracks
//! give the same prompts: nothing here takes anything from the clock or from chance.

mod camera;
mod coverage;
pub mod detections;
mod error;
mod grid;
mod hybrid;
mod motion;
mod plugged_in;
mod prompt_file;
mod prompter;
mod proposal;
mod saliency;
mod scene_cut;
#[cfg(test)]
mod scene_sketch;
mod spectrum;
mod strategy;

pub use camera::{CameraMotion, Pyramid};
pub use coverage::Coverage;
pub use detections::{Detections, DetectionsUse};
pub use error::{PromptFileError, StrategyError};
pub use grid::Grid;
pub use hybrid::Hybrid;
pub use motion::Motion;
pub use prompt_file::PromptFile;
pub use prompter::{Answer, Prompter, Rules, TracksUse};
pub use proposal::{Candidate, Found, Proposal, Ready};
pub use saliency::Saliency;
pub use scene_cut::CutDetector;
pub use strategy::{Frame, Strategies, Strategy, StrategyKind};
