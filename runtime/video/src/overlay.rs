//! Draws tracks on a packed yuv420p picture: translucent masks with a contour, boxes, ids.

use tracklens_schemas::{Mask, Track};

use crate::label::{draw_text, glyph_scale, text_size};
use crate::palette::track_color;

/// How much of a mask's colour is seen, of 255.
const MASK_OPACITY: u8 = 100;
const OPAQUE: u8 = 255;

/// A packed yuv420p picture to draw on. Everything outside is cut off.
pub(crate) struct Canvas<'a> {
    y: &'a mut [u8],
    u: &'a mut [u8],
    v: &'a mut [u8],
    width: usize,
    height: usize,
}

impl<'a> Canvas<'a> {
    /// `None` where the buffer is not of the picture's size.
    pub(crate) fn new(pixels: &'a mut [u8], width: u32, height: u32) -> Option<Self> {
        let (width, height) = (width as usize, height as usize);
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        if width == 0 || pixels.len() != width * height + 2 * chroma {
            return None;
        }
        let (y, rest) = pixels.split_at_mut(width * height);
        let (u, v) = rest.split_at_mut(chroma);
        Some(Self {
            y,
            u,
            v,
            width,
            height,
        })
    }

    /// Mixes a colour into the pixels with `x0 <= x < x1`, `y0 <= y < y1`. Chroma is shared by
    /// blocks of 2 by 2; the pixel with even coordinates speaks for its block, or the first one
    /// of a narrow rectangle.
    pub(crate) fn fill(&mut self, x0: i64, y0: i64, x1: i64, y1: i64, yuv: [u8; 3], opacity: u8) {
        let inside = |value: i64, limit: usize| value.clamp(0, limit as i64) as usize;
        let (x0, x1) = (inside(x0, self.width), inside(x1, self.width));
        let (y0, y1) = (inside(y0, self.height), inside(y1, self.height));
        if x0 >= x1 || y0 >= y1 {
            return;
        }
        for row in self.y.chunks_exact_mut(self.width).take(y1).skip(y0) {
            for luma in &mut row[x0..x1] {
                *luma = mix(*luma, yuv[0], opacity);
            }
        }
        let half = |from: usize, to: usize| {
            let (first, end) = (from.div_ceil(2), to.div_ceil(2));
            if first < end {
                first..end
            } else {
                from / 2..from / 2 + 1
            }
        };
        let (columns, rows) = (half(x0, x1), half(y0, y1));
        let stride = self.width.div_ceil(2);
        for row in rows {
            let range = row * stride + columns.start..row * stride + columns.end;
            for chroma in &mut self.u[range.clone()] {
                *chroma = mix(*chroma, yuv[1], opacity);
            }
            for chroma in &mut self.v[range] {
                *chroma = mix(*chroma, yuv[2], opacity);
            }
        }
    }

    /// A column of a mask; single even pixels speak for chroma, so that no block is mixed twice.
    fn fill_column(&mut self, x: usize, y0: usize, y1: usize, yuv: [u8; 3], opacity: u8) {
        let y1 = y1.min(self.height);
        if x >= self.width {
            return;
        }
        for y in y0..y1 {
            let luma = &mut self.y[y * self.width + x];
            *luma = mix(*luma, yuv[0], opacity);
        }
        if x.is_multiple_of(2) {
            let stride = self.width.div_ceil(2);
            for row in y0.div_ceil(2)..y1.div_ceil(2) {
                let at = row * stride + x / 2;
                self.u[at] = mix(self.u[at], yuv[1], opacity);
                self.v[at] = mix(self.v[at], yuv[2], opacity);
            }
        }
    }

    fn outline(&mut self, [x0, y0, x1, y1]: [i64; 4], thickness: i64, yuv: [u8; 3]) {
        let t = thickness;
        self.fill(x0, y0, x1, y0 + t, yuv, OPAQUE);
        self.fill(x0, y1 - t, x1, y1, yuv, OPAQUE);
        self.fill(x0, y0 + t, x0 + t, y1 - t, yuv, OPAQUE);
        self.fill(x1 - t, y0 + t, x1, y1 - t, yuv, OPAQUE);
    }

    fn mask(&mut self, mask: &Mask, yuv: [u8; 3], thickness: i64) {
        let columns = columns_of(mask);
        for (x, spans) in columns.iter().enumerate() {
            for &(y0, y1) in spans {
                self.fill_column(x, y0, y1, yuv, MASK_OPACITY);
            }
        }
        let none = Vec::new();
        let half = thickness / 2;
        for (x, spans) in columns.iter().enumerate() {
            let left = x.checked_sub(1).map_or(&none, |x| &columns[x]);
            let right = columns.get(x + 1).unwrap_or(&none);
            let column = x as i64 - half;
            let mut edge = |y0: usize, y1: usize| {
                let (y0, y1) = (y0 as i64 - half, y1 as i64 - half + thickness - 1);
                self.fill(column, y0, column + thickness, y1, yuv, OPAQUE);
            };
            for &(y0, y1) in spans {
                edge(y0, y0 + 1);
                edge(y1 - 1, y1);
                uncovered((y0, y1), left, &mut edge);
                uncovered((y0, y1), right, &mut edge);
            }
        }
    }
}

fn mix(below: u8, above: u8, opacity: u8) -> u8 {
    let (below, above, opacity) = (u32::from(below), u32::from(above), u32::from(opacity));
    ((below * (255 - opacity) + above * opacity + 127) / 255) as u8
}

/// The object's spans (first row, row after the last) by column.
fn columns_of(mask: &Mask) -> Vec<Vec<(usize, usize)>> {
    let mut columns = vec![Vec::new(); mask.width() as usize];
    for (x, y0, y1) in mask.spans() {
        if let Some(column) = columns.get_mut(x as usize) {
            column.push((y0 as usize, y1 as usize));
        }
    }
    columns
}

/// Calls `edge` with the parts of a span that no span of the neighbouring column covers.
fn uncovered(
    (mut start, end): (usize, usize),
    neighbour: &[(usize, usize)],
    edge: &mut impl FnMut(usize, usize),
) {
    for &(y0, y1) in neighbour {
        if y1 <= start || y0 >= end {
            continue;
        }
        if y0 > start {
            edge(start, y0);
        }
        start = y1;
    }
    if start < end {
        edge(start, end);
    }
}

/// Draws the visible tracks on a packed yuv420p picture of `width` by `height` pixels. Masks and
/// boxes of another frame size are scaled. A buffer of another size is left as it is.
pub fn draw_tracks(pixels: &mut [u8], width: u32, height: u32, tracks: &[Track]) {
    let Some(mut canvas) = Canvas::new(pixels, width, height) else {
        return;
    };
    let thickness = i64::from(height / 480).clamp(1, 6);
    let visible = || tracks.iter().filter(|track| track.visible);
    for track in visible() {
        let yuv = track_color(track.track_id).yuv();
        let mask = &track.mask;
        if (mask.width(), mask.height()) == (width, height) {
            canvas.mask(mask, yuv, thickness);
        } else if mask.width() > 0 && mask.height() > 0 {
            canvas.mask(&mask.scale(width, height), yuv, thickness);
        }
    }
    for track in visible() {
        let color = track_color(track.track_id);
        let size = (
            track.mask.width().max(1) as f32,
            track.mask.height().max(1) as f32,
        );
        let scaled = track
            .bbox
            .scale(width as f32 / size.0, height as f32 / size.1);
        let edges = scaled
            .clamp(width, height)
            .to_array()
            .map(|edge| edge.round() as i64);
        canvas.outline(edges, thickness + 1, color.yuv());
        let text = track.track_id.0.to_string();
        let scale = glyph_scale(height);
        let (label_width, label_height) = text_size(&text, scale);
        let x = edges[0].min(i64::from(width) - label_width).max(0);
        let above = edges[1] - label_height;
        let y = if above >= 0 { above } else { edges[1] };
        draw_text(&mut canvas, (x, y), &text, scale, (color, OPAQUE));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use tracklens_schemas::{BBox, TrackId, TrackState};

    fn track(id: u32, bbox: [f32; 4], width: u32, height: u32) -> Track {
        let inside = |x: u32, y: u32| {
            let (x, y) = (x as f32, y as f32);
            x >= bbox[0] && x < bbox[2] && y >= bbox[1] && y < bbox[3]
        };
        let bitmap: Vec<u8> = (0..width * height)
            .map(|i| u8::from(inside(i % width, i / width)))
            .collect();
        let mask = Mask::from_bitmap(&bitmap, width, height);
        Track {
            track_id: TrackId(id),
            bbox: BBox::from(bbox),
            area: mask.area().try_into().unwrap(),
            mask,
            score: 1.0,
            visible: true,
            state: TrackState::Tracked,
            age: 1,
        }
    }

    fn grey(width: u32, height: u32) -> Vec<u8> {
        vec![128; (width * height + 2 * width.div_ceil(2) * height.div_ceil(2)) as usize]
    }

    #[test]
    fn a_mask_is_translucent_inside_and_opaque_on_its_contour() {
        let (w, h) = (64, 64);
        let mut pixels = grey(w, h);
        let mut object = track(7, [8.0, 20.0, 40.0, 60.0], w, h);
        object.bbox = BBox::new(0.0, 0.0, 64.0, 64.0);
        draw_tracks(&mut pixels, w, h, &[object]);
        let yuv = track_color(TrackId(7)).yuv();
        let at = |x: usize, y: usize| pixels[y * 64 + x];
        assert_eq!(at(24, 40), mix(128, yuv[0], MASK_OPACITY));
        assert_eq!(at(8, 40), yuv[0]);
        assert_eq!(at(39, 40), yuv[0]);
        assert_eq!(at(24, 59), yuv[0]);
        assert_eq!(at(50, 40), 128);
        let chroma = 64 * 64 + 20 * 32 + 12;
        assert_eq!(pixels[chroma], mix(128, yuv[1], MASK_OPACITY));
    }

    #[test]
    fn invisible_tracks_and_wrong_buffers_are_left_alone() {
        let mut hidden = track(1, [0.0, 0.0, 9.0, 9.0], 16, 16);
        hidden.visible = false;
        let mut pixels = grey(16, 16);
        draw_tracks(&mut pixels, 16, 16, &[hidden]);
        assert_eq!(pixels, grey(16, 16));
        let mut short = vec![0; 5];
        draw_tracks(
            &mut short,
            16,
            16,
            &[track(1, [0.0, 0.0, 9.0, 9.0], 16, 16)],
        );
        assert_eq!(short, [0; 5]);
    }

    #[test]
    fn labels_stay_inside_and_masks_are_scaled() {
        let mut pixels = grey(64, 48);
        draw_tracks(
            &mut pixels,
            64,
            48,
            &[track(12, [28.0, 0.0, 32.0, 20.0], 32, 24)],
        );
        assert_ne!(pixels[10 * 64 + 60], 128);
        assert_eq!(pixels[30 * 64 + 10], 128);
    }

    proptest! {
        #[test]
        fn drawing_never_panics(
            width in 1u32..40, height in 1u32..40, id: u32,
            edges in prop::array::uniform4(-50f32..90.0), mask_width in 1u32..20,
        ) {
            let mut pixels = grey(width, height);
            draw_tracks(&mut pixels, width, height, &[track(id, edges, mask_width, 13)]);
            crate::draw_caption(&mut pixels, width, height, "cam-1 ö 17");
        }
    }
}
