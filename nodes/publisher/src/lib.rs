//! Publishes tracks: what comes in is written once, in frame order per stream, to any number of
//! sinks, each of which fails and recovers alone.
//!
//! [`Publisher`] is the whole of it; `main.rs` joins it to the dataflow. A new sink implements
//! [`Sink`] in a file of its own and gets a name in [`SinkKind`].

pub mod amqp;
mod coco;
mod error;
mod identified;
mod jsonl;
mod latency;
pub mod live;
mod mot;
mod order;
mod overlay;
mod page;
mod pairing;
mod publisher;
mod row_file;
#[cfg(feature = "rerun")]
mod rrd;
mod sink;
mod summary;
mod track_count;
mod websocket;
mod yuv;

pub use coco::Coco;
pub use error::SinkError;
pub use identified::Identified;
pub use jsonl::Jsonl;
pub use latency::{Latency, LatencySummary};
pub use mot::Mot;
pub use order::Order;
pub use overlay::Overlay;
pub use page::Page;
pub use publisher::{LiveOptions, Options, Publisher};
pub use row_file::{Disk, RowFile};
#[cfg(feature = "rerun")]
pub use rrd::Rrd;
pub use sink::{Sink, SinkFile, SinkKind};
pub use summary::{
    RunState, SinkSummary, SourceInfo, StreamState, StreamSummary, Summary, SummaryFile,
};
pub use websocket::Feed;
