//! `crops`: objects cut out of the source frame.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Float32Array, UInt32Array};
use arrow::datatypes::{DataType, UInt32Type};

use crate::columns::{Rows, box_column, box_type, field, fields, rows};
use crate::image::checked_side;
use crate::{BBox, PixelEncoding, SchemaError, TrackId};

/// One object's picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Crop {
    /// The object.
    pub track_id: TrackId,
    /// What was cut, in source pixels, padding included.
    pub bbox: BBox,
    /// Width of the picture.
    pub width: u32,
    /// Height of the picture.
    pub height: u32,
    /// Interleaved rgb8, `3 * width * height` bytes.
    pub pixels: Vec<u8>,
    /// Variance of the Laplacian: greater is sharper.
    pub sharpness: f32,
}

/// The Arrow type of the rows.
#[must_use]
pub fn data_type() -> DataType {
    DataType::Struct(
        vec![
            field("track_id", DataType::UInt32),
            field("bbox", box_type()),
            field("width", DataType::UInt32),
            field("height", DataType::UInt32),
            field("pixels", DataType::Binary),
            field("sharpness", DataType::Float32),
        ]
        .into(),
    )
}

/// Encodes crops.
#[must_use]
pub fn encode(crops: &[Crop]) -> ArrayRef {
    let numbers = |read: fn(&Crop) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(crops.iter().map(read)))
    };
    rows(
        fields(data_type()),
        vec![
            numbers(|crop| crop.track_id.0),
            box_column(crops.iter().map(|crop| Some(crop.bbox))),
            numbers(|crop| crop.width),
            numbers(|crop| crop.height),
            Arc::new(BinaryArray::from_iter_values(
                crops.iter().map(|crop| &crop.pixels),
            )),
            Arc::new(Float32Array::from_iter_values(
                crops.iter().map(|crop| crop.sharpness),
            )),
        ],
        crops.len(),
    )
}

/// Decodes crops.
///
/// # Errors
/// Where a column is missing or wrong, a side is not 1 to 16384, or pixels do not fill their
/// picture.
pub fn decode(array: &dyn Array) -> Result<Vec<Crop>, SchemaError> {
    let rows = Rows::of(array)?;
    let ids = rows.numbers::<UInt32Type>("track_id")?;
    let boxes = rows.every_box("bbox")?;
    let widths = rows.numbers::<UInt32Type>("width")?;
    let heights = rows.numbers::<UInt32Type>("height")?;
    let pixels = rows.bytes("pixels")?;
    let sharpness = rows.finite("sharpness")?;
    (0..rows.len())
        .map(|row| {
            let width = checked_side("width", widths.value(row).into())?;
            let height = checked_side("height", heights.value(row).into())?;
            let bytes = pixels.value(row);
            let expected = PixelEncoding::Rgb8.byte_len(width, height);
            if bytes.len() != expected {
                return Err(SchemaError::PixelCount {
                    width,
                    height,
                    encoding: PixelEncoding::Rgb8.as_str(),
                    expected,
                    found: bytes.len(),
                });
            }
            Ok(Crop {
                track_id: TrackId(ids.value(row)),
                bbox: boxes[row],
                width,
                height,
                pixels: bytes.to_vec(),
                sharpness: sharpness.value(row),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn crops_round_trip_and_short_pixels_are_refused() {
        let mut crop = Crop {
            track_id: TrackId(3),
            bbox: BBox::new(1.0, 2.0, 3.0, 3.0),
            width: 2,
            height: 1,
            pixels: vec![1, 2, 3, 4, 5, 6],
            sharpness: 12.5,
        };
        assert_eq!(decode(&encode(&[crop.clone()])).unwrap(), [crop.clone()]);
        crop.pixels.pop();
        let error = decode(&encode(&[crop])).unwrap_err().to_string();
        assert_eq!(error, "2x1 rgb8 needs 6 bytes, came 5");
    }
}
