//! Which of the decoder's candidates is the object.
//!
//! After SAM 2 (Ravi et al. 2024; `multimask_output` and `dynamic_multimask_via_stability` of the
//! reference): an ambiguous prompt, and tracking, take the best of candidates 1 … by predicted
//! IoU; otherwise candidate 0 is the answer, unless its mask changes much with the threshold.

use crate::model_folder::SelectionRules;

/// What the decoder was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Where a known object is.
    Tracking,
    /// What is at these points, so many without padding.
    Points(usize),
    /// Nothing: the mask is known, only the pointer is wanted.
    Mask,
}

/// The candidates whose mask and whose pointer are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index of the mask and its predicted IoU.
    pub mask: usize,
    /// Index of the pointer.
    pub pointer: usize,
}

/// Whether one of candidates 1 … answers, rather than candidate 0.
fn asks_many(rules: &SelectionRules, asked: Asked) -> bool {
    let [least, most] = rules.multimask_points;
    match asked {
        Asked::Tracking => rules.multimask_tracking && least == 0,
        Asked::Points(points) => (least..=most).contains(&points),
        Asked::Mask => true,
    }
}

/// Whether candidate 0 is taken whatever the candidates are.
#[must_use]
pub fn takes_first(rules: &SelectionRules, asked: Asked) -> bool {
    !asks_many(rules, asked) && rules.stability_threshold <= 0.0
}

/// Chooses among the candidates of one object: `logits` N×cells, `iou` N.
#[must_use]
pub fn choose(rules: &SelectionRules, asked: Asked, logits: &[f32], iou: &[f32]) -> Choice {
    let best = best_of_many(iou);
    if asks_many(rules, asked) {
        return Choice {
            mask: best,
            pointer: best,
        };
    }
    let cells = logits.len() / iou.len().max(1);
    let single = logits.get(..cells).unwrap_or(logits);
    let stable = takes_first(rules, asked)
        || stability(single, rules.stability_delta) >= rules.stability_threshold;
    // The reference keeps the pointer of candidate 0 even where another mask is taken.
    Choice {
        mask: if stable { 0 } else { best },
        pointer: 0,
    }
}

/// The first of the highest among candidates 1 …; 0 where there is no other.
fn best_of_many(iou: &[f32]) -> usize {
    let mut best = usize::from(iou.len() > 1);
    for at in 2..iou.len() {
        if iou[at] > iou[best] {
            best = at;
        }
    }
    best
}

/// Area above `delta` over area above `-delta`, 0 to 1; 1 for a mask of nothing.
#[must_use]
pub fn stability(logits: &[f32], delta: f32) -> f32 {
    let (mut inner, mut outer) = (0_u32, 0_u32);
    for logit in logits {
        inner += u32::from(*logit > delta);
        outer += u32::from(*logit > -delta);
    }
    if outer == 0 {
        1.0
    } else {
        inner as f32 / outer as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SelectionRules = SelectionRules {
        multimask_tracking: true,
        multimask_points: [0, 1],
        stability_delta: 0.05,
        stability_threshold: 0.98,
        reach: None,
        similarity: None,
    };

    fn choice(asked: Asked, first: [f32; 2], iou: [f32; 3]) -> (usize, usize) {
        let logits = [first[0], first[1], 1.0, 1.0, 1.0, 1.0];
        let choice = choose(&RULES, asked, &logits, &iou);
        (choice.mask, choice.pointer)
    }

    #[test]
    fn one_point_and_tracking_take_the_best_of_many() {
        let iou = [0.99, 0.2, 0.7];
        assert_eq!(choice(Asked::Points(1), [5.0, 5.0], iou), (2, 2));
        assert_eq!(choice(Asked::Tracking, [5.0, 5.0], iou), (2, 2));
        assert_eq!(choice(Asked::Mask, [5.0, 5.0], iou), (2, 2));
    }

    #[test]
    fn a_box_takes_the_single_answer_if_it_is_stable() {
        let iou = [0.1, 0.2, 0.7];
        assert_eq!(choice(Asked::Points(2), [5.0, -5.0], iou), (0, 0));
        assert_eq!(choice(Asked::Points(2), [5.0, 0.01], iou), (2, 0));
        assert_eq!(choice(Asked::Points(2), [-5.0, -5.0], iou), (0, 0));
    }

    #[test]
    fn what_is_taken_in_any_case_needs_no_other_candidates() {
        assert!(!takes_first(&RULES, Asked::Tracking));
        assert!(!takes_first(&RULES, Asked::Points(2)), "it may be unstable");
        let first = SelectionRules {
            multimask_tracking: false,
            stability_threshold: 0.0,
            ..RULES
        };
        assert!(takes_first(&first, Asked::Tracking));
        assert!(!takes_first(&first, Asked::Points(1)));
        // However unstable.
        let logits = [0.01, 0.01, 1.0, 1.0];
        let choice = choose(&first, Asked::Tracking, &logits, &[0.1, 0.9]);
        assert_eq!((choice.mask, choice.pointer), (0, 0));
    }

    #[test]
    fn equal_candidates_go_to_the_first_and_one_candidate_is_enough() {
        assert_eq!(choice(Asked::Tracking, [1.0, 1.0], [0.0, 0.5, 0.5]), (1, 1));
        let only = choose(&RULES, Asked::Tracking, &[1.0], &[0.5]);
        assert_eq!((only.mask, only.pointer), (0, 0));
    }
}
