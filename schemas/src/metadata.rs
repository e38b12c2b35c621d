//! Metadata that travels beside every message, and its typed header.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Epoch, FrameId, FrameIndex, SchemaError};

/// The keys of metadata, spelt once.
pub mod keys {
    /// The stream (text).
    pub const STREAM_ID: &str = "stream_id";
    /// The epoch (int).
    pub const EPOCH: &str = "epoch";
    /// The frame in the epoch (int).
    pub const FRAME: &str = "frame";
    /// Presentation time in the stream, nanoseconds (int).
    pub const PTS_NS: &str = "pts_ns";
    /// Wall clock when the bytes came in, nanoseconds since 1970 (int).
    pub const CAPTURE_NS: &str = "capture_ns";
    /// Width of the pixels (int).
    pub const WIDTH: &str = "width";
    /// Height of the pixels (int).
    pub const HEIGHT: &str = "height";
    /// Pixel encoding (text).
    pub const ENCODING: &str = "encoding";
    /// What kind of thing the payload is, after dora's hub nodes (text).
    pub const PRIMITIVE: &str = "primitive";
    /// What the numbers of a box are, in `boxes2d` of dora's hub nodes (text).
    pub const FORMAT: &str = "format";
    /// Width of the source frame (int).
    pub const SOURCE_WIDTH: &str = "source_width";
    /// Height of the source frame (int).
    pub const SOURCE_HEIGHT: &str = "source_height";
    /// Whether the frame decodes by itself (bool).
    pub const KEYFRAME: &str = "keyframe";
    /// Whether a scene begins with this frame (bool); left out: no.
    pub const SCENE_CUT: &str = "scene_cut";
    /// Whether tracking worked on this frame (text).
    pub const STATUS: &str = "status";
    /// Time spent on the frame, milliseconds (float).
    pub const PROCESSING_MS: &str = "processing_ms";
    /// The model that made the result (text).
    pub const MODEL: &str = "model";
    /// The codec of a piece of coded video (text).
    pub const CODEC: &str = "codec";
    /// The source's own number of a piece of coded video (int).
    pub const SEQ: &str = "seq";
    /// Nothing comes after this piece in its epoch (bool).
    pub const END_OF_STREAM: &str = "end_of_stream";
    /// Everything before this frame in its epoch is acknowledged (bool).
    pub const START: &str = "start";
    /// How many frames the sender has on their way at most (int, with [`START`]).
    pub const WINDOW: &str = "window";
    /// A credit message of a receiver that knows nothing (bool).
    pub const HELLO: &str = "hello";
    /// The part of all streams that the receiver takes (text); left out: all.
    pub const SHARD: &str = "shard";
    /// Steps below full quality (int, frames of live graphs).
    pub const QUALITY: &str = "quality";
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float(_) => "a float",
            Self::Text(_) => "a text",
        }
    }
}

/// The metadata of one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    /// Sets a value.
    pub fn insert(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_string(), value);
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn typed<'a, T>(
        &'a self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, SchemaError> {
        let value = self.0.get(key).ok_or(SchemaError::Missing { key })?;
        read(value).ok_or_else(|| SchemaError::WrongType {
            field: key,
            expected: expected.into(),
            found: value.type_name().into(),
        })
    }

    /// A text.
    ///
    /// # Errors
    /// Where the key is missing or no text.
    pub fn text(&self, key: &'static str) -> Result<&str, SchemaError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number.
    ///
    /// # Errors
    /// Where the key is missing or no int.
    pub fn int(&self, key: &'static str) -> Result<i64, SchemaError> {
        self.typed(key, "an int", |value| match value {
            Value::Int(number) => Some(*number),
            _ => None,
        })
    }

    /// A number; an int will do.
    ///
    /// # Errors
    /// Where the key is missing or no number.
    pub fn float(&self, key: &'static str) -> Result<f64, SchemaError> {
        self.typed(key, "a float", |value| match value {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// A bool.
    ///
    /// # Errors
    /// Where the key is missing or no bool.
    pub fn bool(&self, key: &'static str) -> Result<bool, SchemaError> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A whole number of a narrower type.
    ///
    /// # Errors
    /// Where the key is missing, no int, or out of the type's range.
    pub fn whole<T: TryFrom<i64>>(&self, key: &'static str) -> Result<T, SchemaError> {
        let number = self.int(key)?;
        T::try_from(number).map_err(|_| SchemaError::OutOfRange {
            field: key,
            expected: format!("a {}", std::any::type_name::<T>()),
            found: number.to_string(),
        })
    }
}

/// The wall clock, nanoseconds since 1970 (0 before): the clock of [`Header::capture_ns`].
#[must_use]
pub fn wall_clock_ns() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}

/// CPU time that this thread has used: what lies between two of these is work, without waiting for a
/// core.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Whose message it is: on every message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The frame.
    pub id: FrameId,
    /// Presentation time in the stream, nanoseconds.
    pub pts_ns: i64,
    /// Wall clock when the bytes came in, nanoseconds since 1970.
    pub capture_ns: i64,
}

impl Header {
    /// Adds the header to metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(keys::STREAM_ID, Value::Text(self.id.stream.to_string()));
        metadata.insert(keys::EPOCH, Value::Int(self.id.epoch.0.into()));
        // A frame number beyond i64 would take a stream of billions of years.
        metadata.insert(keys::FRAME, Value::Int(self.id.frame.0 as i64));
        metadata.insert(keys::PTS_NS, Value::Int(self.pts_ns));
        metadata.insert(keys::CAPTURE_NS, Value::Int(self.capture_ns));
    }

    /// Reads the header from metadata.
    ///
    /// # Errors
    /// Where a key is missing or wrong.
    pub fn read(metadata: &Metadata) -> Result<Self, SchemaError> {
        Ok(Self {
            id: FrameId {
                stream: metadata.text(keys::STREAM_ID)?.parse()?,
                epoch: Epoch(metadata.whole(keys::EPOCH)?),
                frame: FrameIndex(metadata.whole(keys::FRAME)?),
            },
            pts_ns: metadata.int(keys::PTS_NS)?,
            capture_ns: metadata.int(keys::CAPTURE_NS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_round_trip(
            stream in "[A-Za-z0-9._-]{1,128}", epoch: u32, frame in 0..i64::MAX as u64,
            pts_ns: i64, capture_ns: i64,
        ) {
            let header = Header {
                id: FrameId {
                    stream: stream.parse().unwrap(),
                    epoch: Epoch(epoch),
                    frame: FrameIndex(frame),
                },
                pts_ns,
                capture_ns,
            };
            let mut metadata = Metadata::default();
            header.write(&mut metadata);
            prop_assert_eq!(Header::read(&metadata), Ok(header));
        }
    }

    #[test]
    fn errors_name_the_key() {
        let mut metadata = Metadata::default();
        let missing = Header::read(&metadata).unwrap_err();
        assert_eq!(missing, SchemaError::Missing { key: "stream_id" });
        metadata.insert(keys::STREAM_ID, Value::Int(3));
        let wrong = Header::read(&metadata).unwrap_err().to_string();
        assert_eq!(wrong, "`stream_id` should be a text, is an int");
        metadata.insert(keys::STREAM_ID, Value::Text("cam".into()));
        metadata.insert(keys::EPOCH, Value::Int(-1));
        let range = Header::read(&metadata).unwrap_err().to_string();
        assert!(range.contains("`epoch` should be a u32, is -1"), "{range}");
    }
}
