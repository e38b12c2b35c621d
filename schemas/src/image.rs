//! Frames: what the bytes of an image mean.

use std::str::FromStr;

use crate::{Metadata, Quality, SchemaError, Value, keys};

/// Longest side of an image, in pixels.
pub(crate) const MAX_SIDE: u32 = 16_384;

/// How pixels lie in memory. Chroma planes of odd sizes are rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelEncoding {
    /// Planes Y, U, V; chroma halved on both axes.
    Yuv420p,
    /// Plane Y, then U and V interleaved; chroma halved on both axes.
    Nv12,
    /// Interleaved red, green, blue.
    Rgb8,
    /// Interleaved blue, green, red.
    Bgr8,
}

impl PixelEncoding {
    const ALL: [Self; 4] = [Self::Yuv420p, Self::Nv12, Self::Rgb8, Self::Bgr8];

    /// The name in metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yuv420p => "yuv420p",
            Self::Nv12 => "nv12",
            Self::Rgb8 => "rgb8",
            Self::Bgr8 => "bgr8",
        }
    }

    /// Bytes of an image of this size.
    #[must_use]
    pub fn byte_len(self, width: u32, height: u32) -> usize {
        let (w, h) = (width as usize, height as usize);
        match self {
            Self::Yuv420p | Self::Nv12 => w * h + 2 * w.div_ceil(2) * h.div_ceil(2),
            Self::Rgb8 | Self::Bgr8 => 3 * w * h,
        }
    }
}

impl FromStr for PixelEncoding {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|encoding| encoding.as_str() == text)
            .ok_or_else(|| SchemaError::OutOfRange {
                field: keys::ENCODING,
                expected: "yuv420p, nv12, rgb8 or bgr8".into(),
                found: text.into(),
            })
    }
}

/// The description of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How the pixels lie.
    pub encoding: PixelEncoding,
    /// Width of the source frame; differs where the image has been resized.
    pub source_width: u32,
    /// Height of the source frame.
    pub source_height: u32,
    /// Whether the frame was coded without reference to others.
    pub keyframe: bool,
    /// How much is to be spent on it.
    pub quality: Quality,
}

impl ImageInfo {
    /// An image at source resolution.
    #[must_use]
    pub fn new(width: u32, height: u32, encoding: PixelEncoding) -> Self {
        Self {
            width,
            height,
            encoding,
            source_width: width,
            source_height: height,
            keyframe: false,
            quality: Quality::FULL,
        }
    }

    /// Bytes of the image.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.encoding.byte_len(self.width, self.height)
    }

    /// Adds the description to metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(keys::PRIMITIVE, Value::Text("image".into()));
        metadata.insert(keys::WIDTH, Value::Int(self.width.into()));
        metadata.insert(keys::HEIGHT, Value::Int(self.height.into()));
        metadata.insert(
            keys::ENCODING,
            Value::Text(self.encoding.as_str().to_string()),
        );
        metadata.insert(keys::KEYFRAME, Value::Bool(self.keyframe));
        if (self.source_width, self.source_height) != (self.width, self.height) {
            metadata.insert(keys::SOURCE_WIDTH, Value::Int(self.source_width.into()));
            metadata.insert(keys::SOURCE_HEIGHT, Value::Int(self.source_height.into()));
        }
        self.quality.write(metadata);
    }

    /// Reads the description from metadata. Without a source size it is the image's own; without
    /// `keyframe` it is none.
    ///
    /// # Errors
    /// Where a key is missing or wrong, or a side is not 1 to 16384.
    pub fn read(metadata: &Metadata) -> Result<Self, SchemaError> {
        let width = side(metadata, keys::WIDTH)?;
        let height = side(metadata, keys::HEIGHT)?;
        let source = |key, own| match metadata.get(key) {
            Some(_) => side(metadata, key),
            None => Ok(own),
        };
        Ok(Self {
            width,
            height,
            encoding: metadata.text(keys::ENCODING)?.parse()?,
            source_width: source(keys::SOURCE_WIDTH, width)?,
            source_height: source(keys::SOURCE_HEIGHT, height)?,
            keyframe: match metadata.get(keys::KEYFRAME) {
                Some(_) => metadata.bool(keys::KEYFRAME)?,
                None => false,
            },
            quality: Quality::read(metadata)?,
        })
    }
}

/// An image's side in metadata.
pub(crate) fn side(metadata: &Metadata, key: &'static str) -> Result<u32, SchemaError> {
    checked_side(key, metadata.int(key)?)
}

/// A number of pixels that an image's side can have.
pub(crate) fn checked_side(field: &'static str, pixels: i64) -> Result<u32, SchemaError> {
    u32::try_from(pixels)
        .ok()
        .filter(|side| (1..=MAX_SIDE).contains(side))
        .ok_or_else(|| SchemaError::OutOfRange {
            field,
            expected: format!("1 to {MAX_SIDE} pixels"),
            found: pixels.to_string(),
        })
}

/// An image whose bytes fill its description.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The description.
    pub info: ImageInfo,
    /// The pixels, without padding.
    pub data: &'a [u8],
}

impl<'a> Image<'a> {
    /// Joins bytes and description.
    ///
    /// # Errors
    /// Where the number of bytes is not the description's.
    pub fn new(info: ImageInfo, data: &'a [u8]) -> Result<Self, SchemaError> {
        if data.len() == info.byte_len() {
            Ok(Self { info, data })
        } else {
            Err(SchemaError::PixelCount {
                width: info.width,
                height: info.height,
                encoding: info.encoding.as_str(),
                expected: info.byte_len(),
                found: data.len(),
            })
        }
    }

    /// The brightness plane, `width * height` bytes; `None` for interleaved encodings.
    #[must_use]
    pub fn luma(&self) -> Option<&'a [u8]> {
        let pixels = self.info.width as usize * self.info.height as usize;
        match self.info.encoding {
            PixelEncoding::Yuv420p | PixelEncoding::Nv12 => self.data.get(..pixels),
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => None,
        }
    }

    /// The planes, in order: Y, U, V; or Y, UV; or the one interleaved plane.
    #[must_use]
    pub fn planes(&self) -> Vec<&'a [u8]> {
        let (w, h) = (self.info.width as usize, self.info.height as usize);
        let chroma = w.div_ceil(2) * h.div_ceil(2);
        match self.info.encoding {
            PixelEncoding::Yuv420p => {
                let (y, rest) = self.data.split_at(w * h);
                let (u, v) = rest.split_at(chroma);
                vec![y, u, v]
            }
            PixelEncoding::Nv12 => {
                let (y, uv) = self.data.split_at(w * h);
                vec![y, uv]
            }
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => vec![self.data],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn descriptions_round_trip(
            width in 1..=MAX_SIDE, height in 1..=MAX_SIDE, which in 0usize..4,
            source_width in 1..=MAX_SIDE, keyframe: bool,
        ) {
            let info = ImageInfo {
                source_width,
                keyframe,
                ..ImageInfo::new(width, height, PixelEncoding::ALL[which])
            };
            let mut metadata = Metadata::default();
            info.write(&mut metadata);
            prop_assert_eq!(ImageInfo::read(&metadata), Ok(info));
        }
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        assert_eq!(PixelEncoding::Yuv420p.byte_len(3, 3), 9 + 2 * 4);
        let info = ImageInfo::new(3, 3, PixelEncoding::Yuv420p);
        let data = [0; 17];
        let image = Image::new(info, &data).unwrap();
        let sizes: Vec<usize> = image.planes().iter().map(|plane| plane.len()).collect();
        assert_eq!(sizes, [9, 4, 4]);
    }

    #[test]
    fn a_wrong_length_is_refused_with_both_lengths() {
        let info = ImageInfo::new(4, 2, PixelEncoding::Rgb8);
        let error = Image::new(info, &[0; 5]).unwrap_err().to_string();
        assert_eq!(error, "4x2 rgb8 needs 24 bytes, came 5");
    }
}
