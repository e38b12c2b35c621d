//! Decodes video files, URLs and streams that come in chunks into frames.
//!
//! Each source has a thread of its own that decodes a few frames ahead ([`StreamWorker`]); what the
//! sources are is a YAML list ([`sources`]). Streams that come in chunks have one each, too
//! ([`ChunkStreams`]). Nothing here knows of the dataflow.

mod chunk_streams;
mod chunk_worker;
mod sequence;
pub mod sources;
mod stream;
mod takeover;

pub use chunk_streams::{ChunkStreams, Step};
pub use chunk_worker::{Chunk, ChunkItem, ChunkWorker};
pub use sources::{Source, SourcesError};
pub use stream::{Playback, StreamItem, StreamWorker, threads_for};
