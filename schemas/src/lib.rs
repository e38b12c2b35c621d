//! Every message that TrackLens nodes exchange: its Arrow type, encoding and decoding.
//!
//! Pure data: nothing here knows of dora. Messages come from other processes, so decoding checks
//! everything and returns a [`SchemaError`] that names the field; it never panics. Coordinates are
//! pixels of the source frame, origin top-left, x right, y down.

mod columns;
mod credit_message;
mod error;
mod geometry;
mod ids;
mod image;
pub mod jsonl;
mod metadata;
mod quality;
pub mod rle;
mod shard;

pub mod boxes2d;
pub mod chunks;
pub mod crops;
pub mod frame_rows;
pub mod identifications;
pub mod prompts;
pub mod stream_events;
pub mod tracks;

pub use arrow;

pub use boxes2d::Box2d;
pub use chunks::{ChunkInfo, Codec};
pub use credit_message::Credit;
pub use crops::Crop;
pub use error::SchemaError;
pub use frame_rows::FrameRow;
pub use geometry::BBox;
pub use identifications::{Identification, Outcome};
pub use ids::{Epoch, FrameId, FrameIndex, InvalidStreamId, StreamId, TrackId};
pub use image::{Image, ImageInfo, PixelEncoding};
pub use metadata::{Header, Metadata, Value, keys, thread_cpu_time, wall_clock_ns};
pub use prompts::{Prompt, PromptsInfo};
pub use quality::Quality;
pub use rle::{Mask, RleError};
pub use shard::{Shard, ShardError};
pub use stream_events::{StreamEvent, StreamEventKind};
pub use tracks::{Track, TrackState, TracksInfo, TracksStatus};

/// Encoding and decoding of `credit` messages.
pub mod credit {
    pub use crate::credit_message::{data_type, decode};
}
