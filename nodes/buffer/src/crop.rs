//! Objects cut out of a frame at full resolution, as rgb8.

use tracklens_schemas::{BBox, Crop, Image, ImageInfo, PixelEncoding, TrackId};

use crate::{ResizeError, Resizer};

/// Cuts an object out of a source frame with a border of `padding` times its box on each side,
/// scaled down where its longest side exceeds `max_side` pixels. Converts only the cut pixels (from
/// YUV by ITU-R BT.601, limited range).
///
/// `None` where nothing of the box lies inside the frame.
///
/// # Errors
/// Where scaling fails.
pub fn crop(
    image: &Image<'_>,
    track_id: TrackId,
    bbox: &BBox,
    padding: f32,
    max_side: u32,
) -> Result<Option<Crop>, ResizeError> {
    let (pad_x, pad_y) = (bbox.width() * padding, bbox.height() * padding);
    let padded = BBox::new(
        (bbox.x0 - pad_x).floor(),
        (bbox.y0 - pad_y).floor(),
        (bbox.x1 + pad_x).ceil(),
        (bbox.y1 + pad_y).ceil(),
    )
    .clamp(image.info.width, image.info.height);
    let (width, height) = (padded.width() as u32, padded.height() as u32);
    if width == 0 || height == 0 {
        return Ok(None);
    }
    let cut = ImageInfo::new(width, height, PixelEncoding::Rgb8);
    let mut pixels = cut_rgb(image, padded.x0 as usize, padded.y0 as usize, &cut);
    let mut size = (width, height);
    let longest = width.max(height);
    if longest > max_side {
        let shrink =
            |side: u32| (u64::from(side) * u64::from(max_side) / u64::from(longest)).max(1);
        let to = ImageInfo::new(
            shrink(width) as u32,
            shrink(height) as u32,
            PixelEncoding::Rgb8,
        );
        let mut small = vec![0; to.byte_len()];
        let full = Image {
            info: cut,
            data: &pixels,
        };
        Resizer::default().resize(&full, &to, &mut small)?;
        pixels = small;
        size = (to.width, to.height);
    }
    Ok(Some(Crop {
        track_id,
        bbox: padded,
        width: size.0,
        height: size.1,
        sharpness: sharpness(&pixels, size.0 as usize, size.1 as usize),
        pixels,
    }))
}

fn cut_rgb(image: &Image<'_>, left: usize, top: usize, cut: &ImageInfo) -> Vec<u8> {
    let stride = image.info.width as usize;
    let chroma_stride = stride.div_ceil(2);
    let planes = image.planes();
    let mut pixels = Vec::with_capacity(cut.byte_len());
    for y in top..top + cut.height as usize {
        for x in left..left + cut.width as usize {
            let at = y * stride + x;
            let chroma = (y / 2) * chroma_stride + x / 2;
            let rgb = match image.info.encoding {
                PixelEncoding::Yuv420p => rgb(planes[0][at], planes[1][chroma], planes[2][chroma]),
                PixelEncoding::Nv12 => rgb(
                    planes[0][at],
                    planes[1][2 * chroma],
                    planes[1][2 * chroma + 1],
                ),
                PixelEncoding::Rgb8 => [0, 1, 2].map(|i| planes[0][3 * at + i]),
                PixelEncoding::Bgr8 => [2, 1, 0].map(|i| planes[0][3 * at + i]),
            };
            pixels.extend(rgb);
        }
    }
    pixels
}

/// ITU-R BT.601 limited range to full-range RGB, in 8-bit fixed point.
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (i32::from(y) - 16, i32::from(u) - 128, i32::from(v) - 128);
    let clamp = |value: i32| ((value + 128) >> 8).clamp(0, 255) as u8;
    [
        clamp(298 * y + 409 * v),
        clamp(298 * y - 100 * u - 208 * v),
        clamp(298 * y + 516 * u),
    ]
}

/// Sharpness of an rgb8 picture: the variance of its Laplacian (green channel), 0 for pictures
/// under three pixels on a side.
#[must_use]
pub fn sharpness(pixels: &[u8], width: usize, height: usize) -> f32 {
    if width < 3 || height < 3 || pixels.len() < 3 * width * height {
        return 0.0;
    }
    let green = |x: usize, y: usize| f64::from(pixels[3 * (y * width + x) + 1]);
    let (mut sum, mut squares) = (0.0, 0.0);
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let laplacian = green(x - 1, y) + green(x + 1, y) + green(x, y - 1) + green(x, y + 1)
                - 4.0 * green(x, y);
            sum += laplacian;
            squares += laplacian * laplacian;
        }
    }
    let count = ((width - 2) * (height - 2)) as f64;
    (squares / count - (sum / count) * (sum / count)) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cuts_with_padding_inside_the_frame() {
        let info = ImageInfo::new(100, 50, PixelEncoding::Yuv420p);
        let mut data = vec![128; info.byte_len()];
        data[..5000].fill(235);
        let image = Image::new(info, &data).unwrap();
        let bbox = BBox::new(90.0, 10.0, 100.0, 30.0);
        let crop = super::crop(&image, TrackId(1), &bbox, 0.5, 512)
            .unwrap()
            .unwrap();
        assert_eq!(crop.bbox.to_array(), [85.0, 0.0, 100.0, 40.0]);
        assert_eq!((crop.width, crop.height), (15, 40));
        assert!(
            crop.pixels.iter().all(|byte| *byte == 255),
            "white is white"
        );
        assert_eq!(crop.sharpness, 0.0);
        let small = super::crop(&image, TrackId(1), &bbox, 0.5, 20)
            .unwrap()
            .unwrap();
        assert_eq!((small.width, small.height), (7, 20));
        let outside = BBox::new(200.0, 10.0, 300.0, 30.0);
        assert!(
            super::crop(&image, TrackId(1), &outside, 0.1, 20)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn an_edge_is_sharper_than_a_ramp() {
        let picture = |shade: fn(usize) -> u8| -> Vec<u8> {
            (0..100).flat_map(|i| [shade(i % 10); 3]).collect()
        };
        let edge = sharpness(&picture(|x| if x < 5 { 0 } else { 255 }), 10, 10);
        let ramp = sharpness(&picture(|x| x as u8 * 20), 10, 10);
        assert!(edge > 100.0 && ramp < 1.0);
    }
}
