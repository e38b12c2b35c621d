//! What can go wrong with a sink, said so that the reader knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use tracklens_schemas::SchemaError;
use tracklens_video::VideoError;

/// An error of one sink; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The output folder cannot be made.
    #[error(
        "OUT_DIR {}: the folder cannot be made: {source}; set OUT_DIR to a folder that can be written",
        path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error(
        "{}: cannot be opened for writing: {source}; set OUT_DIR to a folder that can be written",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file left by a process before this one cannot be read, so nothing can be added to it.
    #[error("{}: cannot be read to go on where it ends: {source}", path.display())]
    Recover {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Rows cannot be written. What was whole before is whole still.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No more rows may wait for the broker. The frame's rows are lost to this sink.
    #[error(
        "{}: {megabytes} MiB of rows wait for the broker and no more may; see to the broker, or raise \
         AMQP_SINK_OUTBOX_MB",
        path.display()
    )]
    OutboxFull {
        /// The outbox.
        path: PathBuf,
        /// Its limit.
        megabytes: u64,
    },
    /// The end has come before everything was sent. Nothing is lost.
    #[error(
        "{}: {rows} rows were not sent in time ({trouble}); they wait on disk and go out with the next \
         run in this OUT_DIR",
        path.display()
    )]
    Unsent {
        /// The outbox.
        path: PathBuf,
        /// Rows that wait.
        rows: u64,
        /// What keeps them.
        trouble: String,
    },
    /// The broker's address is none.
    #[error("AMQP_SINK_URL: expected amqp://user:password@host:port/vhost or amqps://…: {reason}")]
    BrokerUrl {
        /// What is wrong with it, without the URL.
        reason: String,
    },
    /// The sink `rerun` is not in this build.
    #[error(
        "SINKS has `rerun`, which this publisher was built without: build it with `cargo build --release \
         --workspace --features tracklens-publisher/rerun`, or take `rerun` out of SINKS"
    )]
    NoRerun,
    /// A thread cannot be started.
    #[error("no thread for the sink {sink}: {source}")]
    Thread {
        /// The sink.
        sink: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A video cannot be written.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// A frame's pixels do not fit its description.
    #[error(transparent)]
    Pixels(#[from] SchemaError),
}

impl SinkError {
    pub(crate) fn open(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Open {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn recover(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Recover {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write {
            path: path.into(),
            source,
        }
    }
}
