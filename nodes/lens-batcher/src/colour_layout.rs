//! Where on a picture which colours are, coarsely: what a perceptual hash, which sees only grey, misses.
//!
//! After the colour layout descriptor of MPEG-7 (ISO/IEC 15938-3), without its transform: the mean
//! brightness and colour of a grid's cells, compared cell by cell.

use crate::Picture;

/// Cells across and down: objects are more often high than wide.
const COLUMNS: u32 = 4;
const ROWS: u32 = 6;
const CELLS: usize = (COLUMNS * ROWS) as usize;
/// Mean difference of two channels at which nothing is alike any more.
const FAR: f32 = 48.0;
/// How much more colour counts than brightness, which changes with the light.
const COLOUR: f32 = 2.0;
/// How much more the middle counts than the rim, which is mostly background.
const MIDDLE: f32 = 3.0;

/// The layout of one picture: per cell Y, Cb and Cr (ITU-R BT.601), 0 to 255.
#[derive(Clone, Debug, PartialEq)]
pub struct ColourLayout([[f32; 3]; CELLS]);

impl ColourLayout {
    /// Of this picture.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let mut cells = [[0.0; 3]; CELLS];
        let side = |at: u32, parts: u32, side: u32| {
            // A cell has a pixel at least.
            let from = at * side / parts;
            from..((at + 1) * side / parts).max(from + 1)
        };
        for (at, cell) in (0..).zip(&mut cells) {
            let (xs, ys) = (
                side(at % COLUMNS, COLUMNS, picture.width),
                side(at / COLUMNS, ROWS, picture.height),
            );
            let mut sums = [0u64; 3];
            for y in ys.clone() {
                for x in xs.clone() {
                    let pixel = 3 * (y * picture.width + x) as usize;
                    let pixel = &picture.pixels[pixel..pixel + 3];
                    (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
                }
            }
            let count = (xs.len() * ys.len()) as f32;
            let [r, g, b] = sums.map(|sum| sum as f32 / count);
            let luma = 0.299 * r + 0.587 * g + 0.114 * b;
            *cell = [luma, 128.0 + 0.564 * (b - luma), 128.0 + 0.713 * (r - luma)];
        }
        Self(cells)
    }

    /// How alike two layouts are, 0 to 1.
    #[must_use]
    pub fn similarity(&self, other: &Self) -> f32 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (at, (a, b)) in (0..).zip(self.0.iter().zip(&other.0)) {
            let (x, y) = (at % COLUMNS, at / COLUMNS);
            let inside = (1..COLUMNS - 1).contains(&x) && (1..ROWS - 1).contains(&y);
            let place = if inside { MIDDLE } else { 1.0 };
            for (channel, (a, b)) in a.iter().zip(b).enumerate() {
                let weight = if channel == 0 { place } else { COLOUR * place };
                sum += weight * (a - b).abs();
                weights += weight;
            }
        }
        (1.0 - sum / weights / FAR).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::picture::tests::scene;

    #[test]
    fn colours_tell_pictures_apart_that_are_alike_in_grey() {
        let plain = |pixel: [u8; 3]| Picture::new(20, 40, pixel.repeat(800)).unwrap();
        let layout = |pixel| ColourLayout::of(&plain(pixel));
        let red = layout([200, 60, 60]);
        assert_eq!(red.similarity(&red), 1.0);
        assert!(red.similarity(&layout([190, 70, 60])) > 0.8);
        assert!(red.similarity(&layout([60, 90, 200])) < 0.2);
    }

    #[test]
    fn any_size_has_a_layout_and_size_changes_it_little() {
        for (width, height) in [(1, 1), (1, 9), (3, 2), (7, 5)] {
            let layout = ColourLayout::of(&scene(1, width, height));
            assert!((layout.similarity(&layout) - 1.0).abs() < 1e-6);
        }
        let [large, small] = [90, 45].map(|side| ColourLayout::of(&scene(4, side, side)));
        assert!(large.similarity(&small) > 0.9);
    }
}
