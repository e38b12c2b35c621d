//! Places that a strategy proposes, and which of them become prompts.

use tracklens_schemas::{BBox, Prompt};

use crate::Coverage;

/// A place that may show an object, in source pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// A point on it (x, y).
    pub point: [f32; 2],
    /// A box around it, where its extent is known.
    pub bbox: Option<BBox>,
    /// How promising it is, 0 to 1.
    pub score: f32,
    /// The strategy that found it.
    pub strategy: &'static str,
}

/// What a look at a frame has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The places.
    pub candidates: Vec<Candidate>,
    /// Places to fall back on, in this order, where fewer than `least` candidates are free.
    pub reserve: Vec<Candidate>,
    /// How many prompts there should be at least.
    pub least: usize,
    /// Prompts that are made already; with them there are no candidates.
    pub ready: Vec<Ready>,
}

/// A prompt that is made already, and the place it points at.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The place: what live tracks cover will be left out.
    pub place: Candidate,
    /// The prompt.
    pub prompt: Prompt,
}

/// What a strategy has to say about a frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Proposal {
    /// Nothing.
    #[default]
    Nothing,
    /// Prompts given by hand: sent as they are, whatever is tracked.
    Given(Vec<Prompt>),
    /// Whatever another node has found on this frame.
    Detections,
    /// Places found; what live tracks cover will be left out.
    Found(Found),
}

/// Edge of the square around a point in which a reserve is no new place, in shares of the frame's
/// longer side.
const NEAR: f32 = 0.02;

impl Found {
    /// The prompts: free candidates, topped up from the reserve, at most `most` of them, ranked by
    /// score. `size` is that of the source frame in pixels.
    #[must_use]
    pub fn select(self, coverage: &Coverage, size: (u32, u32), most: usize) -> Vec<Prompt> {
        if !self.ready.is_empty() {
            return choose(self.ready, coverage, most);
        }
        let (width, height) = (size.0 as f32, size.1 as f32);
        let mut chosen: Vec<Candidate> = self
            .candidates
            .into_iter()
            .filter(|candidate| !coverage.covers(candidate))
            .collect();
        let near = NEAR * width.max(height);
        for spare in self.reserve {
            if chosen.len() >= self.least {
                break;
            }
            let is_new = |other: &Candidate| {
                let apart = |axis: usize| (other.point[axis] - spare.point[axis]).abs();
                apart(0).max(apart(1)) > near
            };
            if !coverage.covers(&spare) && chosen.iter().all(is_new) {
                chosen.push(spare);
            }
        }
        cap(&mut chosen, most, |candidate| candidate.score);
        (0..)
            .zip(chosen)
            .map(|(prompt_id, candidate)| Prompt {
                prompt_id,
                points: vec![[
                    candidate.point[0].clamp(0.0, width - 1.0),
                    candidate.point[1].clamp(0.0, height - 1.0),
                ]],
                labels: vec![1],
                bbox: candidate.bbox.map(|bbox| bbox.clamp(size.0, size.1)),
                mask: None,
                score: candidate.score,
                strategy: candidate.strategy.into(),
            })
            .collect()
    }
}

fn choose(mut ready: Vec<Ready>, coverage: &Coverage, most: usize) -> Vec<Prompt> {
    ready.retain(|ready| !coverage.covers(&ready.place));
    cap(&mut ready, most, |ready| ready.prompt.score);
    let numbered = (0..).zip(ready).map(|(prompt_id, ready)| Prompt {
        prompt_id,
        ..ready.prompt
    });
    numbered.collect()
}

/// Ranks by score and keeps the best `most`. Where the limit falls among equals, as it does in a
/// grid, those that stay are spread evenly over them.
fn cap<T>(candidates: &mut Vec<T>, most: usize, score: impl Fn(&T) -> f32) {
    candidates.sort_by(|a, b| score(b).total_cmp(&score(a)));
    if candidates.len() <= most {
        return;
    }
    let Some(last) = most.checked_sub(1).map(|last| score(&candidates[last])) else {
        candidates.clear();
        return;
    };
    let first = candidates.partition_point(|candidate| score(candidate) > last);
    let end = candidates.partition_point(|candidate| score(candidate) >= last);
    let (places, equals) = (most - first, end - first);
    for place in 0..places {
        candidates.swap(first + place, first + place * equals / places);
    }
    candidates.truncate(most);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(x: f32, y: f32, score: f32) -> Candidate {
        Candidate {
            point: [x, y],
            bbox: Some(BBox::new(x - 5.0, y - 5.0, x + 5.0, y + 5.0)),
            score,
            strategy: "test",
        }
    }

    proptest! {
        #[test]
        fn prompts_lie_in_the_frame_ranked_and_within_the_limit(
            places in prop::collection::vec((-20.0f32..120.0, -20.0f32..90.0, 0u8..4), 0..40),
            most in 0usize..30, least in 0usize..10,
        ) {
            let mut candidates: Vec<Candidate> = places
                .iter()
                .map(|&(x, y, score)| candidate(x, y, f32::from(score) / 4.0))
                .collect();
            let reserve = candidates.split_off(candidates.len() / 2);
            let found = Found { candidates, reserve, least, ..Found::default() };
            let prompts = found.select(&Coverage::default(), (100, 70), most);
            prop_assert!(prompts.len() <= most);
            prop_assert!(prompts.windows(2).all(|pair| pair[0].score >= pair[1].score));
            for prompt in prompts {
                let [x, y] = prompt.points[0];
                prop_assert!((0.0..100.0).contains(&x) && (0.0..70.0).contains(&y));
                prop_assert_eq!(prompt.bbox.map(|bbox| bbox.clamp(100, 70)), prompt.bbox);
            }
        }
    }

    #[test]
    fn the_best_stay_and_equals_are_thinned_evenly() {
        let mut candidates: Vec<Candidate> =
            (0..10).map(|x| candidate(x as f32, 0.0, 0.5)).collect();
        candidates.push(candidate(99.0, 0.0, 0.9));
        cap(&mut candidates, 6, |candidate| candidate.score);
        let places: Vec<f32> = candidates.iter().map(|c| c.point[0]).collect();
        assert_eq!(places, [99.0, 0.0, 2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn the_reserve_fills_up_to_the_minimum_with_new_places_only() {
        let found = Found {
            candidates: vec![candidate(50.0, 50.0, 0.9)],
            reserve: vec![
                candidate(51.0, 50.0, 0.5),
                candidate(10.0, 10.0, 0.5),
                candidate(90.0, 10.0, 0.5),
                candidate(10.0, 60.0, 0.5),
            ],
            least: 3,
            ..Found::default()
        };
        let prompts = found.select(&Coverage::default(), (100, 70), 100);
        let points: Vec<[f32; 2]> = prompts.iter().map(|prompt| prompt.points[0]).collect();
        assert_eq!(points, [[50.0, 50.0], [10.0, 10.0], [90.0, 10.0]]);
    }
}
