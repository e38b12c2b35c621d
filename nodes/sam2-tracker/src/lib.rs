//! Streaming video segmentation with memory: SAM 2 (Ravi et al. 2024) and models of its family.
//!
//! A model is four pure functions ([`modules`]) that ONNX Runtime computes ([`engines`]); everything
//! with a state is here. [`tracker`] is the loop; [`memory_bank`] what it remembers; [`mask`] what
//! comes out.

pub mod bitmap;
pub mod engines;
pub mod mask;
pub mod memory_bank;
pub mod model_folder;
pub mod modules;
pub mod object;
pub mod pairing;
pub mod preprocess;
pub mod prompt;
pub mod proposals;
pub mod resample;
pub mod selection;
pub mod sighting;
pub mod snapshot;
pub mod stream;
pub mod tracker;

pub use engines::Engines;
pub use model_folder::{ModelConfig, ModelError, ModelFolder};
pub use modules::{InferenceError, Modules};
pub use preprocess::ColourMatrix;
pub use proposals::ProposalRules;
pub use tracker::{Late, Outcome, Stages, Tracker, TrackerSettings};
