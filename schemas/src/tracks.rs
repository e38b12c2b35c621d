//! `tracks`: one row per object on a frame.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, StringArray, UInt32Array,
};
use arrow::datatypes::{DataType, UInt32Type};

use crate::columns::{Rows, box_column, box_type, field, fields, rows};
use crate::image::side;
use crate::{BBox, Mask, Metadata, SchemaError, TrackId, Value, keys};

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrackState {
    /// Seen for the first time.
    New,
    /// Followed.
    Tracked,
    /// Hidden for now.
    Occluded,
    /// Not seen for long; soon forgotten.
    Lost,
}

impl TrackState {
    const ALL: [Self; 4] = [Self::New, Self::Tracked, Self::Occluded, Self::Lost];

    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Tracked => "tracked",
            Self::Occluded => "occluded",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An object on a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Its name in the stream.
    pub track_id: TrackId,
    /// Its box in source pixels.
    pub bbox: BBox,
    /// Its mask, of the source frame's size; empty where it is not visible.
    pub mask: Mask,
    /// Object pixels.
    pub area: u32,
    /// Predicted IoU or detection score, 0 to 1.
    pub score: f32,
    /// Whether it is seen on this frame.
    pub visible: bool,
    /// Where it is in its life.
    pub state: TrackState,
    /// Frames since it was first seen.
    pub age: u32,
}

/// Whether tracking worked on a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TracksStatus {
    /// It did.
    #[default]
    Ok,
    /// It failed, and the last good result is repeated.
    Held,
    /// It failed.
    Failed,
}

impl TracksStatus {
    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

/// Metadata of a `tracks` message beside its header.
#[derive(Clone, Debug, PartialEq)]
pub struct TracksInfo {
    /// Whether tracking worked.
    pub status: TracksStatus,
    /// Time spent on the frame, milliseconds.
    pub processing_ms: f64,
    /// The model or detector.
    pub model: String,
    /// Width of the source frame, and of the masks.
    pub width: u32,
    /// Height of the source frame, and of the masks.
    pub height: u32,
}

impl TracksInfo {
    /// Adds the information to metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(keys::STATUS, Value::Text(self.status.as_str().into()));
        metadata.insert(keys::PROCESSING_MS, Value::Float(self.processing_ms));
        metadata.insert(keys::MODEL, Value::Text(self.model.clone()));
        metadata.insert(keys::SOURCE_WIDTH, Value::Int(self.width.into()));
        metadata.insert(keys::SOURCE_HEIGHT, Value::Int(self.height.into()));
    }

    /// Reads the information from metadata.
    ///
    /// # Errors
    /// Where a key is missing or wrong.
    pub fn read(metadata: &Metadata) -> Result<Self, SchemaError> {
        let status = match metadata.text(keys::STATUS)? {
            "ok" => TracksStatus::Ok,
            "held" => TracksStatus::Held,
            "failed" => TracksStatus::Failed,
            other => {
                return Err(SchemaError::OutOfRange {
                    field: keys::STATUS,
                    expected: "ok, held or failed".into(),
                    found: other.chars().take(64).collect(),
                });
            }
        };
        Ok(Self {
            status,
            processing_ms: metadata.float(keys::PROCESSING_MS)?,
            model: metadata.text(keys::MODEL)?.to_string(),
            width: side(metadata, keys::SOURCE_WIDTH)?,
            height: side(metadata, keys::SOURCE_HEIGHT)?,
        })
    }
}

/// The Arrow type of the rows.
#[must_use]
pub fn data_type() -> DataType {
    DataType::Struct(
        vec![
            field("track_id", DataType::UInt32),
            field("bbox", box_type()),
            field("mask", DataType::Binary),
            field("area", DataType::UInt32),
            field("score", DataType::Float32),
            field("visible", DataType::Boolean),
            field("state", DataType::Utf8),
            field("age", DataType::UInt32),
        ]
        .into(),
    )
}

/// Encodes rows. The masks' size travels in [`TracksInfo`].
#[must_use]
pub fn encode(tracks: &[Track]) -> ArrayRef {
    let numbers = |read: fn(&Track) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(tracks.iter().map(read)))
    };
    let masks = BinaryArray::from_iter_values(tracks.iter().map(|track| track.mask.encode()));
    let scores = tracks.iter().map(|track| track.score);
    let visible: Vec<bool> = tracks.iter().map(|track| track.visible).collect();
    let states = tracks.iter().map(|track| track.state.as_str());
    rows(
        fields(data_type()),
        vec![
            numbers(|track| track.track_id.0),
            box_column(tracks.iter().map(|track| Some(track.bbox))),
            Arc::new(masks),
            numbers(|track| track.area),
            Arc::new(Float32Array::from_iter_values(scores)),
            Arc::new(BooleanArray::from(visible)),
            Arc::new(StringArray::from_iter_values(states)),
            numbers(|track| track.age),
        ],
        tracks.len(),
    )
}

/// Decodes rows whose masks are of this size.
///
/// # Errors
/// Where a column is missing or wrong, or a mask cannot be decoded.
pub fn decode(array: &dyn Array, width: u32, height: u32) -> Result<Vec<Track>, SchemaError> {
    let rows = Rows::of(array)?;
    let ids = rows.numbers::<UInt32Type>("track_id")?;
    let boxes = rows.every_box("bbox")?;
    let masks = rows.bytes("mask")?;
    let areas = rows.numbers::<UInt32Type>("area")?;
    let scores = rows.finite("score")?;
    let visible = rows.bools("visible")?;
    let accepted = "new, tracked, occluded or lost";
    let states = rows.words("state", accepted, TrackState::parse)?;
    let ages = rows.numbers::<UInt32Type>("age")?;
    (0..rows.len())
        .map(|row| {
            let mask = Mask::decode(masks.value(row), width, height)
                .map_err(|source| SchemaError::Mask { row, source })?;
            Ok(Track {
                track_id: TrackId(ids.value(row)),
                bbox: boxes[row],
                mask,
                area: areas.value(row),
                score: scores.value(row),
                visible: visible.value(row),
                state: states[row],
                age: ages.value(row),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn track() -> impl Strategy<Value = Track> {
        let pixels = prop::collection::vec(0u8..2, 20);
        (any::<u32>(), pixels, 0.0f32..1.0, 0usize..4, any::<bool>()).prop_map(
            |(id, pixels, score, state, visible)| Track {
                track_id: TrackId(id),
                bbox: BBox::new(0.0, 1.0, 4.5, 5.0),
                mask: Mask::from_bitmap(&pixels, 5, 4),
                area: 7,
                score,
                visible,
                state: TrackState::ALL[state],
                age: id % 100,
            },
        )
    }

    proptest! {
        #[test]
        fn rows_round_trip(tracks in prop::collection::vec(track(), 0..5)) {
            prop_assert_eq!(decode(&encode(&tracks), 5, 4), Ok(tracks));
        }
    }

    #[test]
    fn other_arrays_are_refused_by_name() {
        let numbers: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
        let error = decode(&numbers, 5, 4).unwrap_err().to_string();
        assert_eq!(error, "`rows` should be a struct, is UInt32");
        let event = crate::stream_events::encode(&[]);
        let error = decode(&event, 5, 4).unwrap_err().to_string();
        assert_eq!(error, "column `track_id` is missing");
    }

    #[test]
    fn the_type_of_encoded_rows_is_the_declared_one() {
        assert_eq!(encode(&[]).data_type(), &data_type());
    }
}
