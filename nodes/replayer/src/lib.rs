//! Plays what a node has said, out of a recording, in that node's place.
//!
//! [`Options`] are what `dora replay` and `tracklens replay` pass, [`Script`] turns records into what is
//! to be sent, and [`Playback`] reads them in a thread of its own, at the pace that is asked for.
//! `main.rs` joins them to the dataflow, in which the player waits for credit as the node did.

mod options;
mod playback;
mod script;

pub use options::{OptionError, Options};
pub use playback::{Playback, Played};
pub use script::{Parcel, Script, Step};
