//! Decodes video files and URLs into frames.
//!
//! Each source has a thread of its own that decodes a few frames ahead ([`StreamWorker`]); what the
//! sources are is a YAML list ([`sources`]). Nothing here knows of the dataflow.

pub mod sources;
mod stream;

pub use sources::{Source, SourcesError};
pub use stream::{Playback, StreamItem, StreamWorker};
