//! Makes edges steeper: unsharp mask of brightness, with a threshold below which it is noise.

use super::Enhancer;
use crate::Picture;

/// Share of the difference to the blurred picture that is added.
const AMOUNT: f32 = 0.6;
/// Smaller differences stay as they are.
const THRESHOLD: f32 = 3.0;
/// Weights of a pixel's neighbours at distance 0, 1 and 2, of 16: a binomial blur.
const BLUR: [f32; 3] = [6.0, 4.0, 1.0];

/// Sharpens.
#[derive(Clone, Debug, Default)]
pub struct Sharpen {
    rows: Vec<f32>,
}

impl Enhancer for Sharpen {
    fn name(&self) -> &'static str {
        "sharpen"
    }

    fn enhance(&mut self, picture: &mut Picture) {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let luma = picture.luma();
        let near =
            |at: usize, step: isize, side: usize| at.saturating_add_signed(step).min(side - 1);
        let blur = |value: &dyn Fn(isize) -> f32| -> f32 {
            let sum: f32 = (-2isize..=2)
                .map(|step| BLUR[step.unsigned_abs()] * value(step))
                .sum();
            sum / 16.0
        };
        self.rows.clear();
        for y in 0..height {
            for x in 0..width {
                let value = |step| f32::from(luma[y * width + near(x, step, width)]);
                self.rows.push(blur(&value));
            }
        }
        for y in 0..height {
            for x in 0..width {
                let at = y * width + x;
                let blurred = blur(&|step| self.rows[near(y, step, height) * width + x]);
                let difference = f32::from(luma[at]) - blurred;
                if difference.abs() >= THRESHOLD {
                    for byte in &mut picture.pixels[3 * at..3 * at + 3] {
                        let sharper = f32::from(*byte) + AMOUNT * difference;
                        *byte = sharper.round().clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_soft_edge_gets_steeper_and_a_plain_area_stays() {
        let row: Vec<u8> = (0..16)
            .map(|x: u8| 80 + 10 * x.saturating_sub(4).min(8))
            .collect();
        let pixels = (0..256).flat_map(|at| [row[at % 16]; 3]).collect();
        let mut picture = Picture::new(16, 16, pixels).unwrap();
        Sharpen::default().enhance(&mut picture);
        let after = |x: usize| picture.pixels[3 * (8 * 16 + x)];
        assert!(after(4) < row[4] && after(12) > row[12]);
        assert_eq!((after(0), after(15)), (row[0], row[15]));
    }
}
