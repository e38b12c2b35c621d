//! A small language for end-to-end tests: make a clip, run a graph with the real dora CLI, look at
//! what it wrote.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod browser;
mod chaos;
mod clips;
mod coded;
mod machines;
mod output;
mod rtsp;
mod run;
mod sender;

pub use broker::{Broker, free_port, free_ports};
pub use browser::look;
pub use chaos::{Chaos, Mode, Report, chaos};
pub use clips::{Clip, clip, clips, ffmpeg, frame_count};
pub use coded::Coded;
pub use machines::Machines;
pub use output::{Output, Row};
pub use rtsp::RtspServer;
pub use run::{Graph, Run, dora};
pub use sender::Sender;

use std::path::PathBuf;

/// The project's root folder.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the project")
        .to_path_buf()
}
