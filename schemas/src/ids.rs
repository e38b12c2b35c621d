//! Names of things: streams, epochs, frames, tracks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest stream id in bytes.
const MAX_STREAM_ID: usize = 128;

/// The name of a stream: 1 to 128 characters of `A-Z a-z 0-9 . _ -`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId(Arc<str>);

/// A text that is no stream id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream id should be 1 to 128 characters of A-Z a-z 0-9 . _ -, is {text:?}")]
pub struct InvalidStreamId {
    /// The text, cut to a printable length.
    pub text: String,
}

impl StreamId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if (1..=MAX_STREAM_ID).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidStreamId {
                text: text.chars().take(MAX_STREAM_ID).collect(),
            })
        }
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidStreamId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(id: StreamId) -> Self {
        id.0.to_string()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Grows each time a stream is opened anew; state never crosses epochs by accident.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u32);

/// Number of a frame in its epoch, from 0, in presentation order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FrameIndex(pub u64);

/// Names an object in its stream for ever; never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TrackId(pub u32);

/// Names a frame everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FrameId {
    /// The stream.
    pub stream: StreamId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The frame in the epoch.
    pub frame: FrameIndex,
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stream, self.epoch.0, self.frame.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stream_ids_are_what_the_rule_says(text in ".{0,140}") {
            let rule = (1..=128).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            prop_assert_eq!(text.parse::<StreamId>().is_ok(), rule);
        }
    }

    #[test]
    fn paths_and_long_names_are_refused() {
        for text in ["", "../../x", "a/b", "ü", &"x".repeat(129)] {
            assert!(text.parse::<StreamId>().is_err(), "{text}");
        }
        assert!("cam-1.front_left".parse::<StreamId>().is_ok());
    }
}
