//! The node that `dora record` adds to a graph: every message of the recorded topics goes into a
//! `.drec` file, and what could not be kept is counted and named.
//!
//! [`Recording`] is the file and its account, and [`Topics`] are the recorded
//! outputs; `tracklens_recording` has the form of a record. [`Receipts`] make the recorder a consumer that is
//! waited for where nothing may be lost, and [`Gaps`] finds frames that never came. `main.rs` joins them
//! to the dataflow.

mod descriptor;
mod error;
mod gaps;
mod receipts;
mod recording;
mod topics;

pub use descriptor::absolute_paths;
pub use error::RecordError;
pub use gaps::Gaps;
pub use receipts::Receipts;
pub use recording::{Loss, Recording, Report};
pub use topics::{Topic, Topics};
