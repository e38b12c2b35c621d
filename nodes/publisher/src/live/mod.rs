//! The live page and the feed: what is shown, who may look, and the server that both share.

mod access;
mod album;
mod board;
mod pages;
mod pictures;
mod scene;
mod server;
mod sockets;

pub use access::{Access, AccessError, Refusal};
pub use album::{Album, Kept};
pub use board::{Board, Changes, IdentificationLine, StreamLife, StreamLine, TrackLine};
pub(crate) use pictures::write_rows;
pub use pictures::{Picture, Pictures};
pub(crate) use scene::Said;
pub use scene::{Live, Scene};
pub use server::{Offer, Server};
