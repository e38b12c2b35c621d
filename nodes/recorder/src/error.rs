//! What can go wrong with a recording.

use std::io;
use std::path::{Path, PathBuf};

/// Why nothing, or one message, cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The topics are not what `dora record` passes.
    #[error(
        "DORA_RECORD_TOPICS={found}: expected a JSON object of input: \"node/output\", as `dora record` sets it"
    )]
    Topics {
        /// What came.
        found: String,
    },
    /// A topic names no output.
    #[error("DORA_RECORD_TOPICS: expected node/output for the input {input}, found {found:?}")]
    Topic {
        /// The recorder's input.
        input: String,
        /// What came.
        found: String,
    },
    /// The file cannot be made.
    #[error("{}: cannot be made: {source}; give `dora record --output` a path that can be written", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record cannot be written. The records before it stay.
    #[error("{}: cannot be written: {reason}; the records before it are kept", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A message cannot be put into dora's form.
    #[error(transparent)]
    Encode(#[from] tracklens_recording::EventError),
}

impl RecordError {
    pub(crate) fn write(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Write {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}
