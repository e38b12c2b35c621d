//! Takes the colour of the light off: grey world (Buchsbaum, "A spatial processor model for object
//! colour perception", 1980), with a limit on how much.

use super::Enhancer;
use crate::Picture;

/// Most that a channel is made stronger or weaker by: a red car fills its own crop with red.
const MOST: f64 = 1.25;

/// Brings the means of red, green and blue together.
#[derive(Clone, Copy, Debug)]
pub struct WhiteBalance;

impl Enhancer for WhiteBalance {
    fn name(&self) -> &'static str {
        "white_balance"
    }

    fn enhance(&mut self, picture: &mut Picture) {
        let mut sums = [0u64; 3];
        for pixel in picture.pixels.chunks_exact(3) {
            (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
        }
        let mean = sums.iter().sum::<u64>() as f64 / 3.0;
        let tables = sums.map(|sum| {
            let gain = if sum == 0 {
                1.0
            } else {
                (mean / sum as f64).clamp(1.0 / MOST, MOST)
            };
            std::array::from_fn::<u8, 256, _>(|value| {
                (value as f64 * gain).round().min(255.0) as u8
            })
        });
        for pixel in picture.pixels.chunks_exact_mut(3) {
            (0..3)
                .for_each(|channel| pixel[channel] = tables[channel][usize::from(pixel[channel])]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_weak_tint_goes_and_a_strong_colour_stays() {
        let mut tinted = Picture::new(1, 2, vec![110, 100, 90, 55, 50, 45]).unwrap();
        WhiteBalance.enhance(&mut tinted);
        assert_eq!(tinted.pixels, [100, 100, 100, 50, 50, 50]);
        let mut red = Picture::new(1, 1, vec![200, 20, 20]).unwrap();
        WhiteBalance.enhance(&mut red);
        assert_eq!(red.pixels, [160, 25, 25]);
        let mut black = Picture::new(1, 1, vec![0; 3]).unwrap();
        WhiteBalance.enhance(&mut black);
        assert_eq!(black.pixels, [0; 3]);
    }
}
