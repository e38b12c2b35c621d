//! Contrast by place: contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV,
//! 1994) of brightness; colours keep their proportions.

use super::Enhancer;
use crate::Picture;

/// Tiles a side; fewer where tiles would be smaller than [`LEAST`].
const TILES: u32 = 4;
/// Smallest side of a tile in pixels.
const LEAST: u32 = 16;
/// A grey value may have so many times the mean count before it is cut off.
const CLIP: f32 = 3.0;
/// Share of the equalised brightness in the result: the whole looks drawn.
const STRENGTH: f32 = 0.6;
/// Most that a pixel is made brighter by.
const MOST: f32 = 3.0;

/// Brings out what lies in shadow or glare.
#[derive(Clone, Copy, Debug)]
pub struct Contrast;

/// Where each grey value of a tile goes.
type Curve = [u8; 256];

impl Enhancer for Contrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn enhance(&mut self, picture: &mut Picture) {
        let (width, height) = (picture.width, picture.height);
        let luma = picture.luma();
        let across = (width / LEAST).clamp(1, TILES);
        let down = (height / LEAST).clamp(1, TILES);
        let curves: Vec<Curve> = (0..across * down)
            .map(|tile| {
                let (column, row) = (tile % across, tile / across);
                let xs = column * width / across..(column + 1) * width / across;
                let ys = row * height / down..(row + 1) * height / down;
                curve(&luma, width, xs, ys)
            })
            .collect();
        for y in 0..height {
            let (top, bottom, v) = between(y, height, down);
            for x in 0..width {
                let (left, right, u) = between(x, width, across);
                let at = (y * width + x) as usize;
                let grey = usize::from(luma[at]);
                let to = |column, row| f32::from(curves[(row * across + column) as usize][grey]);
                let upper = to(left, top) * (1.0 - u) + to(right, top) * u;
                let lower = to(left, bottom) * (1.0 - u) + to(right, bottom) * u;
                let equal = upper * (1.0 - v) + lower * v;
                let gain = (equal.max(1.0) / (grey as f32).max(1.0)).min(MOST);
                let gain = 1.0 + (gain - 1.0) * STRENGTH;
                for byte in &mut picture.pixels[3 * at..3 * at + 3] {
                    *byte = (f32::from(*byte) * gain).round().min(255.0) as u8;
                }
            }
        }
    }
}

/// The two tiles whose centres a pixel lies between, and how far on its way from one to the other.
fn between(pixel: u32, side: u32, tiles: u32) -> (u32, u32, f32) {
    let at = (pixel as f32 + 0.5) * tiles as f32 / side as f32 - 0.5;
    let first = at.floor().clamp(0.0, tiles as f32 - 1.0);
    let second = (first + 1.0).min(tiles as f32 - 1.0);
    (first as u32, second as u32, (at - first).clamp(0.0, 1.0))
}

fn curve(luma: &[u8], width: u32, xs: std::ops::Range<u32>, ys: std::ops::Range<u32>) -> Curve {
    let mut counts = [0f32; 256];
    for y in ys.clone() {
        for x in xs.clone() {
            counts[usize::from(luma[(y * width + x) as usize])] += 1.0;
        }
    }
    let pixels = (xs.len() * ys.len()).max(1) as f32;
    let limit = (CLIP * pixels / 256.0).max(1.0);
    // What is cut off is spread over all values: the curve stays below that slope.
    let over: f32 = counts.iter().map(|count| (count - limit).max(0.0)).sum();
    let mut sum = 0.0;
    counts.map(|count| {
        sum += count.min(limit) + over / 256.0;
        (sum * 255.0 / pixels).round().min(255.0) as u8
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dull_picture_gets_more_contrast_and_its_colours_stay() {
        let mut pixels = Vec::new();
        for at in 0..64 * 64u32 {
            let grey = 100 + ((at % 64) * 30 / 64) as u8;
            pixels.extend([grey, grey / 2, grey / 2]);
        }
        let mut picture = Picture::new(64, 64, pixels).unwrap();
        let spread = |picture: &Picture| {
            let luma = picture.luma();
            luma.iter().max().unwrap() - luma.iter().min().unwrap()
        };
        let before = spread(&picture);
        Contrast.enhance(&mut picture);
        assert!(
            spread(&picture) > before + before / 4,
            "{} from {before}",
            spread(&picture)
        );
        let pixel = &picture.pixels[3 * 2000..3 * 2000 + 3];
        assert!(pixel[0].abs_diff(2 * pixel[1]) <= 3, "{pixel:?}");
    }
}
