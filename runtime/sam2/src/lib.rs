//! SAM 2 (Ravi et al. 2024) and models of its family, without the loop over a stream.
//!
//! A model is four pure functions ([`modules`]) that ONNX Runtime computes ([`engines`]), described
//! by its folder ([`model_folder`]). [`sighting`] asks them about many objects at once;
//! [`memory_bank`] is what is shown to them of an object; [`mask`] what comes out.

pub mod appearance;
pub mod bitmap;
pub mod engines;
pub mod mask;
pub mod memory_bank;
pub mod model_choice;
pub mod model_folder;
pub mod modules;
pub mod preprocess;
pub mod prompt;
pub mod proposals;
pub mod reach;
pub mod resample;
pub mod selection;
pub mod sighting;
pub mod stages;

pub use engines::Engines;
pub use model_choice::ModelChoice;
pub use model_folder::{ModelConfig, ModelError, ModelFolder};
pub use modules::{InferenceError, Modules};
pub use preprocess::ColourMatrix;
pub use proposals::ProposalRules;
pub use stages::Stages;
