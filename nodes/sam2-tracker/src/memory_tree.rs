//! Several hypotheses of where an object is, each with its own memory.
//!
//! After SAM2Long (Ding et al. 2024, arXiv 2410.16268, sections 3.2 and 3.3): every path is shown its
//! own memories and may take any of the decoder's candidates; a path's score is the sum of the
//! logarithms of its predicted IoUs; the best paths live on, and what is published is the best one's
//! mask. Where the model is unsure of all of them, paths that differ less are kept, too. Other than
//! there, paths whose masks agree are one, so that an object that is plain to see costs what it
//! costs without a tree; old scores fade; a candidate that plain tracking would not take has to be
//! clearly better, and may be neither off the object's course nor another object; and a path on which the object is hidden, of which
//! a predicted IoU says nothing, keeps pace with the best of those on which it is seen.

use std::sync::Arc;

use tracklens_sam2::bitmap::Bitmap;
use tracklens_sam2::memory_bank::MemoryBank;
use tracklens_sam2::model_folder::MemoryRules;
use tracklens_sam2::sighting::Sighting;
use tracklens_schemas::BBox;

use crate::object::Object;

/// Object score under which the model is unsure (`δ_conf` of the paper).
const SURE: f32 = 2.0;
/// Overlap (IoU) from which unsure paths are the same.
const SAME_WHERE_UNSURE: f32 = 0.95;
/// A path so much worse than the best one, in logarithms, is given up.
const HOPELESS: f32 = 3.0;
/// What a candidate loses, in logarithms, that plain tracking would not take: a small model's predicted
/// IoUs are too rough to go by alone.
const DOUBT: f32 = 0.3;
/// What is left of a path's score after a frame, so that long ago does not decide today.
const MEMORY: f32 = 0.9;
/// What a path on which the object is hidden falls behind, in logarithms, a frame.
const HIDDEN: f32 = 0.05;
/// How far a rival may be from where the object would be at its velocity, in sides of its box: at
/// once, and more with every frame without sight.
const OFF_COURSE: f32 = 0.75;
const OFF_COURSE_PER_FRAME: f32 = 0.03;
/// Share of the smaller of two masks from which they are one object.
const OTHER: f32 = 0.5;
/// Least predicted IoU, for its logarithm.
const LEAST_IOU: f32 = 1e-3;

/// How the tree grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TreeRules {
    /// Most paths of an object; 1: no tree.
    pub branches: usize,
    /// Overlap (IoU) from which two paths are the same.
    pub consistency: f32,
}

impl Default for TreeRules {
    fn default() -> Self {
        Self {
            branches: 1,
            consistency: 0.5,
        }
    }
}

/// A path beside the best one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rival {
    /// What it remembers.
    pub bank: MemoryBank,
    /// Its score less the best one's: at most 0.
    pub score: f32,
    /// Its last mask, logits on the model's grid.
    pub last: Vec<f32>,
    /// Where that is, pixels of the source.
    pub bbox: BBox,
    /// Frames without sight.
    pub missed: u32,
}

/// A path as it goes on through a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The path that it goes on: 0 is the best one, then the rivals in order.
    pub from: usize,
    /// Its score less the best one's.
    pub score: f32,
    /// What was seen.
    pub sighting: Sighting,
}

/// A path's step with what the memory encoder made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// As in [`Step`].
    pub from: usize,
    /// As in [`Step`].
    pub score: f32,
    /// As in [`Step`].
    pub sighting: Sighting,
    /// Its memory.
    pub memory: Arc<[f32]>,
}

impl Remembered {
    /// The rival that this step on frame `step` makes of one of an object's paths; `cells` are height and
    /// width of the grid, `size` width and height of the source.
    #[must_use]
    pub fn goes_on(
        self,
        object: &Object,
        step: u64,
        rules: &MemoryRules,
        cells: [usize; 2],
        size: (u32, u32),
    ) -> Rival {
        let before = self.from.checked_sub(1).map(|at| &object.rivals[at]);
        let (bank, bbox, missed) = match before {
            Some(rival) => (&rival.bank, rival.bbox, rival.missed),
            None => (&object.bank, object.bbox, object.missed),
        };
        let mut bank = bank.clone();
        bank.push(self.sighting.memory(step, self.memory, rules), rules);
        let now = bounds(&self.sighting.logits, cells, size);
        Rival {
            bank,
            score: self.score,
            bbox: now.unwrap_or(bbox),
            missed: match now {
                Some(_) => 0,
                None => missed.saturating_add(1),
            },
            last: self.sighting.logits,
        }
    }
}

/// The paths that live on, the best one first. `scores` are those of the paths, `seen` their
/// candidates, the one that tracking would take first; `others` are the masks of other objects, as
/// plain tracking would take them. Of equals the first is taken. Sightings that are not used go to
/// `spare`.
pub fn grow(
    rules: &TreeRules,
    scores: &[f32],
    seen: Vec<Vec<Sighting>>,
    others: &[&Bitmap],
    spare: &mut Vec<Sighting>,
) -> Vec<Step> {
    let seen_best = seen.iter().flatten().filter(|s| s.object_score > 0.0);
    let seen_best = seen_best.map(|s| s.iou).reduce(f32::max).unwrap_or(1.0);
    let mut steps: Vec<(Step, Bitmap)> = Vec::new();
    for (from, candidates) in seen.into_iter().enumerate() {
        let before = scores.get(from).copied().unwrap_or_default();
        for (at, sighting) in candidates.into_iter().enumerate() {
            let bitmap = Bitmap::new(&sighting.logits);
            let plain = from == 0 && at == 0;
            if !plain && others.iter().any(|other| other.overlap(&bitmap) >= OTHER) {
                spare.push(sighting);
                continue;
            }
            let now = match sighting.object_score > 0.0 {
                true => sighting.iou.max(LEAST_IOU).ln(),
                false => seen_best.max(LEAST_IOU).ln() - HIDDEN,
            };
            let doubt = if at == 0 { 0.0 } else { DOUBT };
            let step = Step {
                from,
                score: before * MEMORY + now - doubt,
                sighting,
            };
            steps.push((step, bitmap));
        }
    }
    steps.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
    let mut scores = steps.iter().map(|(step, _)| step.sighting.object_score);
    let unsure = scores.all(|score| score.abs() < SURE);
    let same = match unsure {
        true => SAME_WHERE_UNSURE.max(rules.consistency),
        false => rules.consistency,
    };
    let best = steps.first().map_or(0.0, |(step, _)| step.score);
    let mut kept: Vec<Step> = Vec::new();
    let mut bitmaps: Vec<Bitmap> = Vec::new();
    for (mut step, bitmap) in steps {
        let known = bitmaps
            .iter()
            .any(|other| (other.area() == 0 && bitmap.area() == 0) || other.iou(&bitmap) >= same);
        step.score -= best;
        if known || kept.len() >= rules.branches.max(1) || step.score < -HOPELESS {
            spare.push(step.sighting);
            continue;
        }
        bitmaps.push(bitmap);
        kept.push(step);
    }
    kept
}

/// Whether an object that was last seen at `last`, `missed` frames before the last one, can be at `now`
/// at its velocity (source pixels a frame).
#[must_use]
pub fn on_course(last: &BBox, velocity: [f32; 2], missed: u32, now: &BBox) -> bool {
    let ((x0, y0), (x1, y1)) = (last.center(), now.center());
    let (missed, side) = (missed as f32, last.area().sqrt());
    let [dx, dy] = velocity.map(|step| step * (missed + 1.0));
    let off = (x1 - x0 - dx).hypot(y1 - y0 - dy);
    off <= side * (OFF_COURSE + OFF_COURSE_PER_FRAME * missed)
}

/// The box of a mask on a grid of height and width `cells`, in pixels of the source, whose `size` is
/// width and height; `None` where it is empty.
#[must_use]
pub fn bounds(logits: &[f32], cells: [usize; 2], size: (u32, u32)) -> Option<BBox> {
    let [height, width] = cells;
    let inside = (0..logits.len()).filter(|cell| logits[*cell] > 0.0);
    let sides = inside.fold(None, |sides: Option<[usize; 4]>, cell| {
        let (x, y) = (cell % width, cell / width);
        let [x0, y0, x1, y1] = sides.unwrap_or([x, y, x, y]);
        Some([x0.min(x), y0.min(y), x1.max(x), y1.max(y)])
    });
    let (across, down) = (size.0 as f32 / width as f32, size.1 as f32 / height as f32);
    sides.map(|[x0, y0, x1, y1]| {
        BBox::new(
            x0 as f32 * across,
            y0 as f32 * down,
            (x1 + 1) as f32 * across,
            (y1 + 1) as f32 * down,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: TreeRules = TreeRules {
        branches: 3,
        consistency: 0.8,
    };

    fn sighting(cells: &str, iou: f32, object_score: f32) -> Sighting {
        let logits = cells.bytes().map(|c| if c == b'#' { 1.0 } else { -1.0 });
        Sighting {
            logits: logits.collect(),
            pointer: [0.0].into(),
            iou,
            object_score,
        }
    }

    fn grown(scores: &[f32], seen: &[&[(&str, f32)]], object_score: f32) -> Vec<(usize, String)> {
        let seen: Vec<Vec<Sighting>> = seen
            .iter()
            .map(|path| {
                let candidates = path.iter();
                candidates
                    .map(|(cells, iou)| sighting(cells, *iou, object_score))
                    .collect()
            })
            .collect();
        grown_of(scores, seen, &[])
    }

    fn grown_of(scores: &[f32], seen: Vec<Vec<Sighting>>, others: &[&str]) -> Vec<(usize, String)> {
        let text = |step: &Step| {
            let cells = step.sighting.logits.iter();
            cells.map(|l| if *l > 0.0 { '#' } else { '.' }).collect()
        };
        let others: Vec<Bitmap> = others
            .iter()
            .map(|cells| Bitmap::new(&sighting(cells, 0.9, 9.0).logits))
            .collect();
        let others: Vec<&Bitmap> = others.iter().collect();
        let mut spare = Vec::new();
        let steps = grow(&RULES, scores, seen, &others, &mut spare);
        steps.iter().map(|step| (step.from, text(step))).collect()
    }

    #[test]
    fn paths_that_agree_are_one() {
        let seen: &[&[(&str, f32)]] = &[&[("######....", 0.9), ("#####.....", 0.8)]];
        assert_eq!(grown(&[0.0], seen, 9.0), [(0, "######....".to_owned())]);
        // Unless the model is unsure.
        assert_eq!(grown(&[0.0], seen, 0.5).len(), 2);
    }

    #[test]
    fn a_rival_that_does_better_for_long_takes_over() {
        let mut scores = vec![0.0, -0.5];
        let seen: &[&[(&str, f32)]] = &[&[("###.......", 0.6)], &[(".......###", 0.9)]];
        let first = grown(&scores, seen, 9.0);
        assert_eq!(first[0].0, 0);
        scores[1] += (0.9_f32 / 0.6).ln();
        assert_eq!(grown(&scores, seen, 9.0)[0].0, 1);
    }

    #[test]
    fn a_rival_is_not_another_object() {
        let seen = || {
            let candidates = [
                sighting("###.......", 0.6, 9.0),
                sighting(".......###", 0.9, 9.0),
            ];
            vec![candidates.to_vec()]
        };
        assert_eq!(grown_of(&[0.0], seen(), &[])[0].1, ".......###");
        let held_to = grown_of(&[0.0], seen(), &["......####"]);
        assert_eq!(held_to, [(0, "###.......".to_owned())]);
    }

    #[test]
    fn a_hidden_object_does_not_lose_to_a_look_alike_by_being_hidden() {
        let mut scores = vec![0.0, -0.5];
        for _ in 0..15 {
            let hidden = sighting("..........", 0.1, -3.0);
            let look_alike = sighting("###.......", 0.9, 5.0);
            let mut spare = Vec::new();
            let seen = vec![vec![hidden], vec![look_alike]];
            let steps = grow(&RULES, &scores, seen, &[], &mut spare);
            assert_eq!(
                steps[0].from,
                usize::from(steps[0].sighting.object_score > 0.0)
            );
            scores = vec![
                0.0,
                steps.iter().find(|s| s.from == 1).map_or(0.0, |s| s.score),
            ];
            assert!(scores[1] < 0.5);
        }
    }

    #[test]
    fn an_object_behind_something_is_expected_where_it_was_going() {
        let last = BBox::new(0.0, 0.0, 10.0, 10.0);
        let at = |x: f32| BBox::new(x, 0.0, x + 10.0, 10.0);
        assert!(on_course(&last, [2.0, 0.0], 9, &at(20.0)));
        assert!(!on_course(&last, [2.0, 0.0], 9, &at(0.0)));
        assert!(on_course(&last, [0.0, 0.0], 9, &at(10.0)));
        assert!(!on_course(&last, [0.0, 0.0], 0, &at(10.0)), "not at once");
    }

    #[test]
    fn no_more_paths_than_allowed_and_none_that_is_hopeless() {
        let one = [
            ("##........", 0.9),
            ("..##......", 0.8),
            ("....##....", 0.7),
            ("......##..", 0.6),
        ];
        assert_eq!(grown(&[0.0], &[&one], 9.0).len(), 3);
        let seen: &[&[(&str, f32)]] = &[&[("##........", 0.9)], &[("....##....", 0.9)]];
        assert_eq!(grown(&[0.0, -4.0], seen, 9.0).len(), 1);
    }
}
