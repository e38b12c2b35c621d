//! The shell that every TrackLens node runs in.
//!
//! A node is an algorithm that knows nothing of dora, and a `main.rs` that implements [`Node`] and
//! calls [`run`]. The shell does what all nodes have in common: settings, logging, metrics, the
//! event loop, the life of streams, and the flow control that makes a graph lossless.
//!
//! How flow control works: a sender keeps every message in its [`Outbox`] until all its
//! consumers have acknowledged it on their `credit_<input>` outputs; a consumer acknowledges a
//! frame once *its* consumers have. A consumer that starts, restarts or misses a frame says
//! `hello` and gets everything unacknowledged again; [`Inbox`] drops what it has seen before.

mod acknowledger;
mod alarm;
mod backoff;
mod context;
mod endings;
mod event_loop;
mod graph;
mod help;
mod inbox;
mod last_words;
mod load;
mod logging;
pub mod metrics;
mod node;
mod outbox;
pub mod pairing;
pub mod settings;
mod streams;
mod together;
mod transport;
mod wire;
mod wiring;

/// The allocator of nodes in which many small things come and go with every stream: the system's
/// never gives back the holes they leave. (Not of the decoder: FFmpeg has the system's anyway.)
pub use mimalloc::MiMalloc as Allocator;

pub use backoff::Backoff;
pub use context::{Context, Outputs, Waker, send_credit};
pub use event_loop::{run, run_wired, run_with};
pub use graph::{Edge, Graph};
pub use inbox::{Arrival, Inbox};
pub use load::Load;
pub use node::{Node, Work};
pub use outbox::{Outbox, Policy, Sending};
pub use streams::{LifeCycle, StreamChange, StreamTable};
pub use wire::{
    BadMessage, Message, from_dora as metadata_of, header_of, to_dora as parameters_of,
};
pub use wiring::{RECORDER, Wiring};
