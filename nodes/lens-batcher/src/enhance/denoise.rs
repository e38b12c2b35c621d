//! Takes noise off and leaves edges: the sigma filter (Lee, "Digital image smoothing and the sigma
//! filter", 1983). A pixel becomes the mean of those around it that differ little from it.

use super::Enhancer;
use crate::Picture;

/// Side of the neighbourhood to each side.
const REACH: usize = 1;
/// Largest difference in brightness that counts as noise.
const NOISE: i32 = 18;

/// Smooths within edges.
#[derive(Clone, Debug, Default)]
pub struct Denoise {
    before: Vec<u8>,
}

impl Enhancer for Denoise {
    fn name(&self) -> &'static str {
        "denoise"
    }

    fn enhance(&mut self, picture: &mut Picture) {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let luma = picture.luma();
        self.before.clone_from(&picture.pixels);
        for y in 0..height {
            for x in 0..width {
                let at = y * width + x;
                let own = i32::from(luma[at]);
                let (mut sums, mut count) = ([0u32; 3], 0);
                for near_y in y.saturating_sub(REACH)..=(y + REACH).min(height - 1) {
                    for near_x in x.saturating_sub(REACH)..=(x + REACH).min(width - 1) {
                        let near = near_y * width + near_x;
                        if (i32::from(luma[near]) - own).abs() <= NOISE {
                            let pixel = &self.before[3 * near..3 * near + 3];
                            (0..3).for_each(|channel| sums[channel] += u32::from(pixel[channel]));
                            count += 1;
                        }
                    }
                }
                for (channel, sum) in sums.into_iter().enumerate() {
                    picture.pixels[3 * at + channel] = ((sum + count / 2) / count) as u8;
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
    fn noise_goes_and_an_edge_stays() {
        let mut random = fastrand::Rng::with_seed(3);
        let clean = |x: u32| if x < 16 { 60 } else { 200 };
        let pixels = (0..32 * 32u32).flat_map(|at| [clean(at % 32) + random.u8(0..16) - 8; 3]);
        let mut picture = Picture::new(32, 32, pixels.collect()).unwrap();
        let error = |picture: &Picture| -> u32 {
            let pixels = picture.pixels.chunks_exact(3).enumerate();
            pixels
                .map(|(at, p)| u32::from(p[0].abs_diff(clean(at as u32 % 32))))
                .sum()
        };
        let before = error(&picture);
        Denoise::default().enhance(&mut picture);
        assert!(
            error(&picture) * 2 < before,
            "{} from {before}",
            error(&picture)
        );
    }
}
