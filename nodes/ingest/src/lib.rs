//! Takes in coded video that senders push: over WebSockets ([`websocket`]) and from a message broker
//! ([`amqp`]). Nothing here knows of the dataflow.
//!
//! Nothing that was taken is dropped: what the dataflow is too slow for stays with the sender, held
//! back by TCP, or with the broker, held back by the prefetch count.

pub mod amqp;
pub mod doors;
mod epochs;
mod error;
pub mod ledger;
pub mod network;
mod rate;
mod received;
pub mod secret;
mod sessions;
pub mod websocket;

use std::collections::BTreeMap;
use std::sync::Mutex;

pub use epochs::Epochs;
pub use error::IngestError;
pub use rate::RateLimit;
pub use received::{PIECE, Piece, Received, Room};
pub use sessions::{Sessions, Step};

/// Counts a message that cannot be used; whether it is worth a line in the log (the 1st, 2nd, 4th …
/// of its kind is).
fn bad_message(input: &'static str, reason: &'static str) -> bool {
    static COUNTS: Mutex<BTreeMap<(&str, &str), u64>> = Mutex::new(BTreeMap::new());
    metrics::counter!(
        tracklens_node::metrics::BAD_MESSAGES, "input" => input, "reason" => reason
    )
    .increment(1);
    let mut counts = COUNTS.lock().unwrap_or_else(|broken| broken.into_inner());
    let count = counts.entry((input, reason)).or_default();
    *count += 1;
    count.is_power_of_two()
}
