//! Text on a picture: labels of tracks and the caption.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::overlay::Canvas;
use crate::palette::Color;

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;

/// How often each pixel of the font is repeated on a picture of this height.
#[must_use]
pub fn glyph_scale(height: u32) -> u32 {
    (height / 600).clamp(1, 4)
}

/// Width and height in pixels of a text with its border.
pub(crate) fn text_size(text: &str, scale: u32) -> (i64, i64) {
    let glyph = get_raster_width(WEIGHT, HEIGHT) as i64;
    let border = 2;
    let width = text.chars().count() as i64 * glyph + 2 * border;
    (
        width * i64::from(scale),
        HEIGHT.val() as i64 * i64::from(scale),
    )
}

/// Draws a text with its upper left corner at (x, y) on a filled background. Characters that the
/// font lacks are drawn as `?`.
pub(crate) fn draw_text(
    canvas: &mut Canvas<'_>,
    (x, y): (i64, i64),
    text: &str,
    scale: u32,
    background: (Color, u8),
) {
    let (width, height) = text_size(text, scale);
    let (color, opacity) = background;
    canvas.fill(x, y, x + width, y + height, color.yuv(), opacity);
    let ink = color.contrast().yuv();
    let scale = i64::from(scale);
    let mut left = x + 2 * scale;
    for character in text.chars() {
        let glyph =
            get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT));
        let Some(glyph) = glyph else { continue };
        for (row, pixels) in glyph.raster().iter().enumerate() {
            for (column, &level) in pixels.iter().enumerate().filter(|(_, level)| **level > 0) {
                let (x, y) = (left + column as i64 * scale, y + row as i64 * scale);
                canvas.fill(x, y, x + scale, y + scale, ink, level);
            }
        }
        left += glyph.width() as i64 * scale;
    }
}

/// Writes a line (say, stream id and frame number) into the upper left corner of a packed yuv420p
/// picture. A buffer of another size is left as it is.
pub fn draw_caption(pixels: &mut [u8], width: u32, height: u32, text: &str) {
    if let Some(mut canvas) = Canvas::new(pixels, width, height) {
        draw_text(
            &mut canvas,
            (0, 0),
            text,
            glyph_scale(height),
            (Color::BLACK, 160),
        );
    }
}
