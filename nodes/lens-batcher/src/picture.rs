//! The picture of an object, as it is compared, enhanced and sent.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageError, ImageFormat, Rgb, RgbImage};

/// Quality of the JPEGs that are sent, 1 to 100.
const JPEG_QUALITY: u8 = 90;

/// Interleaved rgb8 pixels, and which of them belong to the object where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// `3 * width * height` bytes, rows from the top.
    pub pixels: Vec<u8>,
    /// One byte a pixel: 0 background, anything else the object. `None`: not known.
    pub mask: Option<Vec<u8>>,
}

impl Picture {
    /// A picture without a mask; `None` where the pixels do not fill it.
    #[must_use]
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let expected = 3 * u64::from(width) * u64::from(height);
        (expected > 0 && pixels.len() as u64 == expected).then_some(Self {
            width,
            height,
            pixels,
            mask: None,
        })
    }

    /// A picture from a file's bytes (PNG or JPEG).
    ///
    /// # Errors
    /// Where they are no such file.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let decoded = image::load_from_memory(bytes)?.into_rgb8();
        Ok(Self {
            width: decoded.width(),
            height: decoded.height(),
            pixels: decoded.into_raw(),
            mask: None,
        })
    }

    /// The picture as a JPEG file.
    ///
    /// # Errors
    /// Where a side is beyond what JPEG can hold.
    pub fn to_jpeg(&self) -> Result<Vec<u8>, ImageError> {
        let mut file = Cursor::new(Vec::new());
        JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY).encode(
            &self.pixels,
            self.width,
            self.height,
            ExtendedColorType::Rgb8,
        )?;
        Ok(file.into_inner())
    }

    /// Writes the picture as a PNG file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<(), ImageError> {
        image::save_buffer_with_format(
            path,
            &self.pixels,
            self.width,
            self.height,
            ExtendedColorType::Rgb8,
            ImageFormat::Png,
        )
    }

    /// Brightness of every pixel (ITU-R BT.601), 0 to 255.
    #[must_use]
    pub fn luma(&self) -> Vec<u8> {
        self.pixels
            .chunks_exact(3)
            .map(|p| {
                ((77 * u32::from(p[0]) + 150 * u32::from(p[1]) + 29 * u32::from(p[2]) + 128) >> 8)
                    as u8
            })
            .collect()
    }

    /// The picture for the crate `image`; its pixels are handed over and left empty.
    pub(crate) fn take_image(&mut self) -> RgbImage {
        let pixels = std::mem::take(&mut self.pixels);
        RgbImage::from_raw(self.width, self.height, pixels)
            .unwrap_or_else(|| RgbImage::from_pixel(self.width, self.height, Rgb([0; 3])))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A random picture of many waves: what two seeds make has nothing in common.
    pub(crate) fn scene(seed: u64, width: u32, height: u32) -> Picture {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut waves = || {
            let mut number = |scale: f32| random.f32() * scale;
            [(); 16].map(|()| {
                [
                    number(50.0) - 25.0,
                    number(50.0) - 25.0,
                    number(6.3),
                    number(25.0),
                ]
            })
        };
        let channels = [waves(), waves(), waves()];
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
                for waves in &channels {
                    let sum: f32 = waves
                        .iter()
                        .map(|[a, b, phase, size]| size * (a * u + b * v + phase).sin())
                        .sum();
                    pixels.push((128.0 + sum).clamp(0.0, 255.0) as u8);
                }
            }
        }
        Picture::new(width, height, pixels).unwrap()
    }

    #[test]
    fn a_jpeg_is_read_back_much_the_same() {
        let picture = scene(1, 40, 30);
        let read = Picture::read(&picture.to_jpeg().unwrap()).unwrap();
        assert_eq!((read.width, read.height), (40, 30));
        let far = read.pixels.iter().zip(&picture.pixels);
        let mean: u32 = far.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>() / 3600;
        assert!(mean < 8, "{mean}");
        assert!(Picture::new(2, 2, vec![0; 11]).is_none());
        assert!(Picture::new(0, 2, vec![]).is_none());
    }
}
