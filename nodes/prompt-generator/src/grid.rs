//! `grid`: points evenly over the frame, as SAM's automatic mask generator places them (Kirillov et
//! al., Segment Anything, 2023, appendix B).

use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Found, Proposal};

/// Name of the strategy.
pub(crate) const NAME: &str = "grid";
/// Border without points, as a share of each side: half a cell of a grid of 16.
const MARGIN: f32 = 1.0 / 32.0;
/// Frames of more pixels than this have half the points per side …
const FULL_HD: u32 = 1920 * 1080;
/// … but no fewer than this.
const LEAST_HALVED: usize = 8;
/// What a point of a grid promises.
const SCORE: f32 = 0.3;

/// A grid of points.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    density: usize,
}

impl Grid {
    /// A grid of this many points per side.
    #[must_use]
    pub fn new(density: usize) -> Self {
        Self { density }
    }

    /// Points per side in a source frame of this size in pixels.
    fn per_side(&self, (width, height): (u32, u32)) -> usize {
        if width * height > FULL_HD {
            (self.density / 2).max(LEAST_HALVED).min(self.density)
        } else {
            self.density
        }
    }

    /// The grid with as many points as are to be spent on this frame.
    #[must_use]
    pub(crate) fn thinned(self, frame: &Frame<'_>) -> Self {
        Self::new(frame.image.info.quality.density(self.density))
    }

    /// The points, row by row, in source pixels.
    #[must_use]
    pub fn candidates(&self, size: (u32, u32)) -> Vec<Candidate> {
        let count = self.per_side(size);
        let place = |at: usize, side: u32| {
            let share = match count {
                1 => 0.5,
                _ => MARGIN + (1.0 - 2.0 * MARGIN) * at as f32 / (count - 1) as f32,
            };
            share * side as f32
        };
        (0..count * count)
            .map(|at| Candidate {
                point: [place(at % count, size.0), place(at / count, size.1)],
                bbox: None,
                score: SCORE,
                strategy: NAME,
            })
            .collect()
    }
}

impl Strategy for Grid {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        if !frame.look {
            return Proposal::Nothing;
        }
        Proposal::Found(Found {
            candidates: self.thinned(frame).candidates(frame.source_size()),
            ..Found::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_the_frame_up_to_its_margin() {
        let points = Grid::new(3).candidates((320, 160));
        assert_eq!(points.len(), 9);
        assert_eq!(points[0].point, [10.0, 5.0]);
        assert_eq!(points[4].point, [160.0, 80.0]);
        assert_eq!(points[8].point, [310.0, 155.0]);
        assert_eq!(Grid::new(1).candidates((100, 100))[0].point, [50.0, 50.0]);
    }

    #[test]
    fn is_halved_above_full_hd_but_not_under_eight() {
        let count = |density, size| Grid::new(density).candidates(size).len();
        assert_eq!(count(16, (1920, 1080)), 256);
        assert_eq!(count(16, (1080, 1920)), 256);
        assert_eq!(count(24, (3840, 2160)), 144);
        assert_eq!(count(10, (3840, 2160)), 64);
        assert_eq!(count(4, (3840, 2160)), 16);
    }

    proptest! {
        #[test]
        fn points_lie_inside_any_frame(
            density in 1usize..40, width in 1u32..16_384, height in 1u32..16_384,
        ) {
            for candidate in Grid::new(density).candidates((width, height)) {
                let [x, y] = candidate.point;
                prop_assert!(x >= 0.0 && x < width as f32 && y >= 0.0 && y < height as f32);
            }
        }
    }
}
