//! `hybrid`: what moves, what stands out, and a coarse grid, joined and ranked.

use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Found, Grid, Motion, Proposal, Saliency};

/// What the strategies' scores are worth beside each other.
const MOTION: f32 = 1.0;
const SALIENCY: f32 = 0.7;
const GRID: f32 = 0.5;
/// The grid has this part of the points per side of a full one, but at least so many.
const GRID_PART: usize = 4;
const LEAST_PER_SIDE: usize = 3;
/// Places nearer to each other than this share of the frame's longer side are one.
const NEAR: f32 = 0.04;

/// The three strategies of one stream.
#[derive(Debug)]
pub struct Hybrid {
    grid: Grid,
    motion: Motion,
    saliency: Saliency,
}

impl Hybrid {
    /// `density`: points per side of a full grid.
    #[must_use]
    pub fn new(density: usize) -> Self {
        Self {
            grid: Grid::new((density / GRID_PART).max(LEAST_PER_SIDE)),
            motion: Motion::new(density),
            saliency: Saliency::default(),
        }
    }
}

impl Strategy for Hybrid {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        let motion = self.motion.find(frame);
        let saliency = self.saliency.find(frame);
        if !frame.look {
            return Proposal::Nothing;
        }
        let size = frame.source_size();
        let parts = [
            (motion.map(|found| found.candidates), MOTION),
            (saliency.map(|found| found.candidates), SALIENCY),
            (Some(self.grid.thinned(frame).candidates(size)), GRID),
        ];
        let weighted = parts.into_iter().flat_map(|(candidates, weight)| {
            candidates
                .into_iter()
                .flatten()
                .map(move |candidate| Candidate {
                    score: candidate.score * weight,
                    ..candidate
                })
        });
        Proposal::Found(Found {
            candidates: join(weighted.collect(), NEAR * size.0.max(size.1) as f32),
            ..Found::default()
        })
    }
}

/// Best first; places that are near each other, or one in the box of the other, become one, which
/// promises more than either: the chance that not both are wrong.
fn join(mut candidates: Vec<Candidate>, near: f32) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut joined: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let [x, y] = candidate.point;
        let same = joined.iter_mut().find(|known| {
            let distance = (known.point[0] - x).hypot(known.point[1] - y);
            let in_box =
                |b: &tracklens_schemas::BBox| x >= b.x0 && x < b.x1 && y >= b.y0 && y < b.y1;
            distance < near || known.bbox.as_ref().is_some_and(in_box)
        });
        match same {
            Some(known) if known.strategy != candidate.strategy => {
                known.score = 1.0 - (1.0 - known.score) * (1.0 - candidate.score);
            }
            // Two finds of one strategy were told apart by it.
            Some(_) if candidate.bbox.is_none() => {}
            _ => joined.push(candidate),
        }
    }
    joined.sort_by(|a, b| b.score.total_cmp(&a.score));
    joined
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scene_sketch::Sketch;
    use tracklens_schemas::BBox;

    fn candidate(
        point: [f32; 2],
        bbox: Option<BBox>,
        score: f32,
        strategy: &'static str,
    ) -> Candidate {
        Candidate {
            point,
            bbox,
            score,
            strategy,
        }
    }

    #[test]
    fn near_duplicates_become_one_that_promises_more() {
        let bbox = Some(BBox::new(0.0, 0.0, 40.0, 40.0));
        let joined = join(
            vec![
                candidate([100.0, 100.0], None, 0.2, "grid"),
                candidate([20.0, 20.0], bbox, 0.5, "motion"),
                candidate([35.0, 35.0], None, 0.5, "saliency"),
                candidate([103.0, 100.0], None, 0.3, "saliency"),
                candidate([200.0, 100.0], None, 0.1, "grid"),
            ],
            8.0,
        );
        let short: Vec<(&str, u32)> = joined
            .iter()
            .map(|c| (c.strategy, (c.score * 100.0).round() as u32))
            .collect();
        assert_eq!(short, [("motion", 75), ("saliency", 44), ("grid", 10)]);
    }

    #[test]
    fn the_moving_square_is_ranked_first_and_prompts_are_few() {
        let mut hybrid = Hybrid::new(16);
        let mut last = Proposal::Nothing;
        for step in 0..22 {
            let sketch = Sketch {
                camera: (2.0 * step as f32, 0.0),
                square: Some((100.0 + 6.0 * step as f32, 120.0)),
                ..Sketch::default()
            };
            last = sketch.show(step, step == 0, step == 21, |frame| hybrid.propose(frame));
        }
        let Proposal::Found(found) = last else {
            panic!("{last:?}")
        };
        let best = &found.candidates[0];
        assert_eq!(best.strategy, "motion");
        assert!((226.0..266.0).contains(&best.point[0]), "{best:?}");
        assert!(
            found.candidates.len() < 256 * 3 / 10,
            "{}",
            found.candidates.len()
        );
    }
}
