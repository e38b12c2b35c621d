//! Publishes tracks: what comes in is written once, in frame order per stream, to any number of
//! sinks, each of which fails and recovers alone.
//!
//! [`Publisher`] is the whole of it; `main.rs` joins it to the dataflow. A new sink implements
//! [`Sink`] in a file of its own and gets a name in [`SinkKind`].

mod error;
mod identified;
mod jsonl;
mod mot;
mod order;
mod overlay;
mod pairing;
mod publisher;
mod row_file;
mod sink;
mod summary;
mod track_count;
mod yuv;

pub use error::SinkError;
pub use identified::Identified;
pub use jsonl::Jsonl;
pub use mot::Mot;
pub use order::Order;
pub use overlay::Overlay;
pub use publisher::{Options, Publisher};
pub use row_file::{Disk, RowFile};
pub use sink::{Sink, SinkFile, SinkKind};
pub use summary::{
    RunState, SinkSummary, SourceInfo, StreamState, StreamSummary, Summary, SummaryFile,
};
