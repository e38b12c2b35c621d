//! Frames at the processing resolution, plane by plane.

use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions};
use tracklens_schemas::{Image, ImageInfo, PixelEncoding};

/// A frame that cannot be resized: its planes do not have the size its description says.
#[derive(Debug, thiserror::Error)]
#[error("cannot resize {from:?} to {to:?}: {reason}")]
pub struct ResizeError {
    from: (u32, u32),
    to: (u32, u32),
    reason: String,
}

/// The size at a processing resolution (a height in pixels): never enlarged, same shape, even.
#[must_use]
pub fn target_size(info: &ImageInfo, processing_height: u32) -> (u32, u32) {
    if info.height <= processing_height {
        return (info.width, info.height);
    }
    let scale = f64::from(processing_height) / f64::from(info.height);
    let even = |side: f64| ((side / 2.0).round() as u32).max(1) * 2;
    (
        even(f64::from(info.width) * scale),
        even(f64::from(processing_height)),
    )
}

/// One plane's size before and after, and its pixels.
type PlaneShape = ((u32, u32), (u32, u32), PixelType);

/// Resizes frames; keeps its working memory.
#[derive(Debug, Default)]
pub struct Resizer {
    inner: fast_image_resize::Resizer,
}

impl Resizer {
    /// Resizes a frame of any encoding into `out`, which `to` describes (same encoding).
    ///
    /// # Errors
    /// Where `out` is not as large as `to` says.
    pub fn resize(
        &mut self,
        image: &Image<'_>,
        to: &ImageInfo,
        out: &mut [u8],
    ) -> Result<(), ResizeError> {
        let from = (image.info.width, image.info.height);
        let error = |reason: String| ResizeError {
            from,
            to: (to.width, to.height),
            reason,
        };
        if out.len() != to.byte_len() || to.encoding != image.info.encoding {
            return Err(error("the target's length or encoding differs".into()));
        }
        let half = |(w, h): (u32, u32)| (w.div_ceil(2), h.div_ceil(2));
        let size = (to.width, to.height);
        let shapes: &[PlaneShape] = match to.encoding {
            PixelEncoding::Yuv420p => &[
                (from, size, PixelType::U8),
                (half(from), half(size), PixelType::U8),
                (half(from), half(size), PixelType::U8),
            ],
            PixelEncoding::Nv12 => &[
                (from, size, PixelType::U8),
                (half(from), half(size), PixelType::U8x2),
            ],
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => &[(from, size, PixelType::U8x3)],
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        let mut rest = out;
        for (plane, (source, target, pixel)) in image.planes().into_iter().zip(shapes) {
            let bytes = target.0 as usize * target.1 as usize * pixel.size();
            let (now, later) = rest.split_at_mut(bytes);
            rest = later;
            let source = ImageRef::new(source.0, source.1, plane, *pixel)
                .map_err(|reason| error(reason.to_string()))?;
            let mut target = Target::from_slice_u8(target.0, target.1, now, *pixel)
                .map_err(|reason| error(reason.to_string()))?;
            self.inner
                .resize(&source, &mut target, &options)
                .map_err(|reason| error(reason.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ENCODINGS: [PixelEncoding; 4] = [
        PixelEncoding::Yuv420p,
        PixelEncoding::Nv12,
        PixelEncoding::Rgb8,
        PixelEncoding::Bgr8,
    ];

    proptest! {
        #[test]
        fn a_flat_frame_stays_flat_in_every_encoding(
            width in 1u32..200, height in 1u32..200, target in 2u32..120, which in 0usize..4,
        ) {
            let info = ImageInfo::new(width, height, ENCODINGS[which]);
            let data = vec![77; info.byte_len()];
            let image = Image::new(info, &data).unwrap();
            let (w, h) = target_size(&info, target);
            prop_assert!(h <= height.max(2));
            let to = ImageInfo { width: w, height: h, ..info };
            let mut out = vec![0; to.byte_len()];
            Resizer::default().resize(&image, &to, &mut out).unwrap();
            // The convolution is in fixed point: one step of rounding is its own.
            prop_assert!(out.iter().all(|byte| byte.abs_diff(77) <= 1));
        }
    }

    #[test]
    fn sizes_keep_their_shape_and_never_grow() {
        let size = |w, h, to| target_size(&ImageInfo::new(w, h, PixelEncoding::Yuv420p), to);
        assert_eq!(size(1920, 1080, 720), (1280, 720));
        assert_eq!(size(640, 272, 720), (640, 272));
        assert_eq!(size(1080, 1920, 480), (270, 480));
    }
}
