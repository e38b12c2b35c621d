//! Recordings of dataflows: dora's `.drec` files, with a checksum in every record.
//!
//! [`event`] makes the bytes of a record, [`Reader`] reads a recording up to its end or to the first
//! fault, which it names with the byte and the reason.

mod event;
mod reader;

pub use event::{CHECKSUM, EventError, event};
pub use reader::{End, Fault, ReadError, Reader, Record};
