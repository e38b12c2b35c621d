//! Frames at the processing resolution, plane by plane.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x2, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions};
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
        let whole = (from, (to.width, to.height));
        let chroma = (half(whole.0), half(whole.1));
        let mut rest = out;
        for (number, source) in image.planes().into_iter().enumerate() {
            let resize = match (to.encoding, number) {
                (PixelEncoding::Yuv420p, _) | (PixelEncoding::Nv12, 0) => plane::<U8>,
                (PixelEncoding::Nv12, _) => plane::<U8x2>,
                (PixelEncoding::Rgb8 | PixelEncoding::Bgr8, _) => plane::<U8x3>,
            };
            let sizes = if number == 0 { whole } else { chroma };
            rest = resize(&mut self.inner, source, sizes, rest).map_err(&error)?;
        }
        Ok(())
    }
}

/// Resizes one plane into the beginning of `out`, and returns what is behind it. All channels of a
/// pixel are alike; none is an alpha channel.
fn plane<'a, P: PixelTrait>(
    resizer: &mut fast_image_resize::Resizer,
    source: &[u8],
    (from, to): ((u32, u32), (u32, u32)),
    out: &'a mut [u8],
) -> Result<&'a mut [u8], String> {
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false);
    let (target, rest) = out.split_at_mut(to.0 as usize * to.1 as usize * P::size());
    let source = TypedImageRef::<P>::from_buffer(from.0, from.1, source)
        .map_err(|reason| reason.to_string())?;
    let mut target =
        TypedImage::<P>::from_buffer(to.0, to.1, target).map_err(|reason| reason.to_string())?;
    resizer
        .resize_typed(&source, &mut target, &options)
        .map_err(|reason| reason.to_string())?;
    Ok(rest)
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

    proptest! {
        /// Chroma of nv12 is that of yuv420p side by side, whatever is in it.
        #[test]
        fn both_kinds_of_chroma_come_out_alike(
            width in 1u32..80, height in 1u32..80, target in 2u32..60, seed in any::<u64>(),
        ) {
            let planar = ImageInfo::new(width, height, PixelEncoding::Yuv420p);
            let packed = ImageInfo::new(width, height, PixelEncoding::Nv12);
            let mut random = fastrand::Rng::with_seed(seed);
            let pixels: Vec<u8> = (0..planar.byte_len()).map(|_| random.u8(..)).collect();
            let interleave = |pixels: &[u8], info: &ImageInfo| {
                let (luma, chroma) = pixels.split_at((info.width * info.height) as usize);
                let (u, v) = chroma.split_at(chroma.len() / 2);
                let pairs = u.iter().zip(v).flat_map(|(u, v)| [*u, *v]);
                luma.iter().copied().chain(pairs).collect::<Vec<u8>>()
            };
            let resized = |info: ImageInfo, pixels: &[u8]| {
                let (width, height) = target_size(&info, target);
                let to = ImageInfo { width, height, ..info };
                let mut out = vec![0; to.byte_len()];
                let image = Image::new(info, pixels).unwrap();
                Resizer::default().resize(&image, &to, &mut out).unwrap();
                (out, to)
            };
            let (expected, to) = resized(planar, &pixels);
            let (found, _) = resized(packed, &interleave(&pixels, &planar));
            prop_assert_eq!(found, interleave(&expected, &to));
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
