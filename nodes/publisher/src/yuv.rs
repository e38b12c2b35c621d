//! Copies a frame of any encoding into a packed yuv420p buffer, the layout that overlays are
//! drawn on. Red, green and blue become BT.601 in video range.

use tracklens_schemas::{Image, PixelEncoding};

/// Replaces the content of `target`; its memory is kept from frame to frame.
pub(crate) fn copy_as_yuv420p(image: &Image<'_>, target: &mut Vec<u8>) {
    target.clear();
    match image.info.encoding {
        PixelEncoding::Yuv420p => target.extend_from_slice(image.data),
        PixelEncoding::Nv12 => {
            if let [luma, chroma] = image.planes().as_slice() {
                target.extend_from_slice(luma);
                target.extend(chroma.iter().step_by(2));
                target.extend(chroma.iter().skip(1).step_by(2));
            }
        }
        PixelEncoding::Rgb8 => from_rgb(image, [0, 1, 2], target),
        PixelEncoding::Bgr8 => from_rgb(image, [2, 1, 0], target),
    }
}

/// `order`: where red, green and blue are in a pixel. A block of 2 by 2 takes its chroma from the
/// mean of its pixels.
fn from_rgb(image: &Image<'_>, order: [usize; 3], target: &mut Vec<u8>) {
    let (width, height) = (image.info.width as usize, image.info.height as usize);
    let pixel = |x: usize, y: usize| {
        let at = 3 * (y * width + x);
        order.map(|channel| i32::from(image.data[at + channel]))
    };
    target.reserve(PixelEncoding::Yuv420p.byte_len(image.info.width, image.info.height));
    for y in 0..height {
        target.extend((0..width).map(|x| luma(pixel(x, y))));
    }
    for weights in [[-38, -74, 112], [112, -94, -18]] {
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                let (right, below) = ((x + 1).min(width - 1), (y + 1).min(height - 1));
                let corners = [
                    pixel(x, y),
                    pixel(right, y),
                    pixel(x, below),
                    pixel(right, below),
                ];
                let sum = |channel: usize| corners.iter().map(|c| c[channel]).sum::<i32>();
                let weighted: i32 = weights
                    .iter()
                    .enumerate()
                    .map(|(channel, w)| w * sum(channel))
                    .sum();
                target.push(((weighted + 512).div_euclid(1024) + 128).clamp(16, 240) as u8);
            }
        }
    }
}

fn luma([red, green, blue]: [i32; 3]) -> u8 {
    (((66 * red + 129 * green + 25 * blue + 128) >> 8) + 16).clamp(16, 235) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::ImageInfo;

    fn converted(encoding: PixelEncoding, width: u32, height: u32, data: &[u8]) -> Vec<u8> {
        let info = ImageInfo::new(width, height, encoding);
        let mut target = vec![7];
        copy_as_yuv420p(&Image::new(info, data).unwrap(), &mut target);
        assert_eq!(target.len(), PixelEncoding::Yuv420p.byte_len(width, height));
        target
    }

    #[test]
    fn planes_are_copied_and_interleaved_chroma_is_parted() {
        let yuv = [1, 2, 3, 4, 5, 6];
        assert_eq!(converted(PixelEncoding::Yuv420p, 2, 2, &yuv), yuv);
        let nv12 = [1, 2, 3, 4, 5, 6, 50, 60, 51, 61];
        assert_eq!(
            converted(PixelEncoding::Nv12, 3, 2, &nv12),
            [1, 2, 3, 4, 5, 6, 50, 51, 60, 61]
        );
    }

    #[test]
    fn primary_colours_become_their_bt601_values() {
        let red = [255, 0, 0].repeat(9);
        let yuv = converted(PixelEncoding::Rgb8, 3, 3, &red);
        assert_eq!((yuv[0], yuv[9], yuv[13]), (82, 90, 240));
        assert_eq!(
            converted(PixelEncoding::Bgr8, 3, 3, &[0, 0, 255].repeat(9)),
            yuv
        );
        let white = converted(PixelEncoding::Rgb8, 2, 2, &[255; 12]);
        assert_eq!(white, [235, 235, 235, 235, 128, 128]);
    }
}
