//! `chunks`: pieces of a coded video stream, cut anywhere.
//!
//! The payload is bytes of an H.264 or HEVC stream with start codes (Annex B). The header's `frame`
//! numbers the messages of an epoch, without gaps; `seq` is the source's own count, where a gap says
//! that something was lost before it came here, and equal numbers that one piece was cut in several.
//! The header's `pts_ns` belongs to the first picture that begins in the piece.

use std::str::FromStr;

use arrow::datatypes::DataType;

use crate::{Metadata, SchemaError, Value, keys};

/// How the video is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// ITU-T H.264.
    #[default]
    H264,
    /// ITU-T H.265.
    Hevc,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 2] = [Self::H264, Self::Hevc];

    /// The name in metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
        }
    }
}

impl FromStr for Codec {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "h264" => Ok(Self::H264),
            "hevc" | "h265" => Ok(Self::Hevc),
            _ => Err(SchemaError::OutOfRange {
                field: keys::CODEC,
                expected: "h264 or hevc".into(),
                found: text.chars().take(32).collect(),
            }),
        }
    }
}

/// What a chunk says of itself, beside its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    /// How it is coded.
    pub codec: Codec,
    /// The source's number of it.
    pub seq: u64,
    /// Whether nothing comes after it in its epoch; such a chunk may be empty.
    pub end_of_stream: bool,
}

/// The Arrow type: bytes.
#[must_use]
pub fn data_type() -> DataType {
    DataType::UInt8
}

impl ChunkInfo {
    /// The keys in metadata, beside those of the header.
    pub const KEYS: [&'static str; 3] = [keys::CODEC, keys::SEQ, keys::END_OF_STREAM];

    /// Adds it to metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(keys::CODEC, Value::Text(self.codec.as_str().into()));
        // Beyond i64 the number could not have been counted to.
        metadata.insert(keys::SEQ, Value::Int(self.seq as i64));
        metadata.insert(keys::END_OF_STREAM, Value::Bool(self.end_of_stream));
    }

    /// Reads it from metadata; `end_of_stream` may be missing.
    ///
    /// # Errors
    /// Where a key is missing or wrong.
    pub fn read(metadata: &Metadata) -> Result<Self, SchemaError> {
        Ok(Self {
            codec: metadata.text(keys::CODEC)?.parse()?,
            seq: metadata.whole(keys::SEQ)?,
            end_of_stream: match metadata.get(keys::END_OF_STREAM) {
                Some(_) => metadata.bool(keys::END_OF_STREAM)?,
                None => false,
            },
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
        fn descriptions_round_trip(which in 0usize..2, seq in 0..i64::MAX as u64, end_of_stream: bool) {
            let info = ChunkInfo { codec: Codec::ALL[which], seq, end_of_stream };
            let mut metadata = Metadata::default();
            info.write(&mut metadata);
            prop_assert_eq!(ChunkInfo::read(&metadata), Ok(info));
        }

        #[test]
        fn any_codec_text_is_read_or_refused(text in ".{0,60}") {
            match text.parse::<Codec>() {
                Ok(codec) => prop_assert!(text.starts_with('h'), "{codec:?}"),
                Err(error) => prop_assert!(error.to_string().contains("h264 or hevc")),
            }
        }
    }

    #[test]
    fn errors_name_the_key() {
        let mut metadata = Metadata::default();
        assert_eq!(
            ChunkInfo::read(&metadata),
            Err(SchemaError::Missing { key: "codec" })
        );
        metadata.insert(keys::CODEC, Value::Text("av1".into()));
        assert!(
            ChunkInfo::read(&metadata)
                .unwrap_err()
                .to_string()
                .contains("h264 or hevc")
        );
        metadata.insert(keys::CODEC, Value::Text("hevc".into()));
        metadata.insert(keys::SEQ, Value::Int(-1));
        assert!(ChunkInfo::read(&metadata).is_err());
        metadata.insert(keys::SEQ, Value::Int(4));
        let expected = ChunkInfo {
            codec: Codec::Hevc,
            seq: 4,
            end_of_stream: false,
        };
        assert_eq!(ChunkInfo::read(&metadata), Ok(expected));
    }
}
