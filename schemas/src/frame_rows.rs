//! Frames as rows, one each: what plug-ins that look at frames are given. Between nodes frames travel
//! as plain bytes ([`crate::Image`]).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, StringArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, UInt32Type, UInt64Type};

use crate::columns::{Rows, field, fields, rows};
use crate::{FrameIndex, Image, ImageInfo, PixelEncoding, SchemaError, StreamId};

/// One frame.
#[derive(Clone, Debug)]
pub struct FrameRow<'a> {
    /// The stream.
    pub stream: StreamId,
    /// Its number in the epoch.
    pub frame: FrameIndex,
    /// Nothing before this frame belongs to it: an epoch or a scene begins.
    pub fresh: bool,
    /// Objects are looked for on this frame.
    pub look: bool,
    /// The pixels, at processing resolution, and the size of the source frame.
    pub image: Image<'a>,
}

/// The Arrow type of the rows.
#[must_use]
pub fn data_type() -> DataType {
    DataType::Struct(
        vec![
            field("stream_id", DataType::Utf8),
            field("frame", DataType::UInt64),
            field("fresh", DataType::Boolean),
            field("look", DataType::Boolean),
            field("width", DataType::UInt32),
            field("height", DataType::UInt32),
            field("source_width", DataType::UInt32),
            field("source_height", DataType::UInt32),
            field("encoding", DataType::Utf8),
            field("pixels", DataType::Binary),
        ]
        .into(),
    )
}

/// Encodes one frame. `pixels` are those of the row's image, in memory that the batch can own.
#[must_use]
pub fn encode(row: &FrameRow<'_>, pixels: Buffer) -> ArrayRef {
    let info = row.image.info;
    let number = |number: u32| -> ArrayRef { Arc::new(UInt32Array::from(vec![number])) };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let flag = |flag: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![flag])) };
    let ends = OffsetBuffer::from_lengths([pixels.len()]);
    rows(
        fields(data_type()),
        vec![
            text(row.stream.as_str()),
            Arc::new(UInt64Array::from(vec![row.frame.0])),
            flag(row.fresh),
            flag(row.look),
            number(info.width),
            number(info.height),
            number(info.source_width),
            number(info.source_height),
            text(info.encoding.as_str()),
            Arc::new(BinaryArray::new(ends, pixels, None)),
        ],
        1,
    )
}

/// Decodes frames; their pixels stay where they are.
///
/// # Errors
/// Where a column is missing or wrong, or pixels do not fill their image.
pub fn decode(array: &dyn Array) -> Result<Vec<FrameRow<'_>>, SchemaError> {
    let rows = Rows::of(array)?;
    let streams = rows.texts("stream_id")?;
    let frames = rows.numbers::<UInt64Type>("frame")?;
    let (fresh, look) = (rows.bools("fresh")?, rows.bools("look")?);
    let widths = rows.numbers::<UInt32Type>("width")?;
    let heights = rows.numbers::<UInt32Type>("height")?;
    let source_widths = rows.numbers::<UInt32Type>("source_width")?;
    let source_heights = rows.numbers::<UInt32Type>("source_height")?;
    let encodings = rows.texts("encoding")?;
    let pixels = rows.bytes("pixels")?;
    (0..rows.len())
        .map(|row| {
            let encoding: PixelEncoding = encodings.value(row).parse()?;
            let info = ImageInfo {
                source_width: source_widths.value(row),
                source_height: source_heights.value(row),
                ..ImageInfo::new(widths.value(row), heights.value(row), encoding)
            };
            Ok(FrameRow {
                stream: streams.value(row).parse()?,
                frame: FrameIndex(frames.value(row)),
                fresh: fresh.value(row),
                look: look.value(row),
                image: Image::new(info, pixels.value(row))?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_frame_comes_back_with_its_pixels_in_place() {
        let mut info = ImageInfo::new(3, 2, PixelEncoding::Bgr8);
        info.source_width = 30;
        let data: Vec<u8> = (0..18).collect();
        let row = FrameRow {
            stream: "door".parse().unwrap(),
            frame: FrameIndex(7),
            fresh: true,
            look: false,
            image: Image::new(info, &data).unwrap(),
        };
        let pixels = Buffer::from(data.clone());
        let array = encode(&row, pixels.clone());
        let back = decode(&array).unwrap();
        assert_eq!(back[0].image.data.as_ptr(), pixels.as_ptr());
        assert_eq!((back[0].image.info, back[0].frame), (info, FrameIndex(7)));
        assert_eq!((back[0].fresh, back[0].look), (true, false));
        assert_eq!(array.data_type(), &data_type());

        let short = encode(&row, Buffer::from(vec![0; 17]));
        assert!(matches!(
            decode(&short),
            Err(SchemaError::PixelCount { .. })
        ));
    }
}
