//! Which of the masks that prompts return become objects.
//!
//! Taken are masks that the model thinks well of (predicted IoU), that do not depend on the
//! threshold (stability), that are large enough, of which the better half of a pair of near-equals
//! (non-maximum suppression), and that lie on no object which is followed already. The criteria are
//! those of the automatic mask generator of SAM (Kirillov et al. 2023, section B). Objects that
//! somebody asked for only have to be there.

use crate::bitmap::Bitmap;

/// How good a proposed mask must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProposalRules {
    /// Least predicted IoU.
    pub min_iou: f32,
    /// Least stability under a shift of the logits by one.
    pub min_stability: f32,
    /// Least area in pixels of the source frame.
    pub min_area: u32,
    /// Largest share of the frame.
    pub max_share: f32,
    /// Overlap (IoU) with a better proposal above which a mask is the same object.
    pub same_iou: f32,
    /// Share of the smaller that may lie on a living object.
    pub max_overlap: f32,
}

impl Default for ProposalRules {
    fn default() -> Self {
        Self {
            min_iou: 0.7,
            min_stability: 0.85,
            min_area: 1000,
            max_share: 0.5,
            same_iou: 0.7,
            max_overlap: 0.5,
        }
    }
}

/// A mask that a prompt returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The mask.
    pub bitmap: Bitmap,
    /// Predicted IoU.
    pub iou: f32,
    /// Stability under a shift of the logits by one.
    pub stability: f32,
    /// Area in pixels of the source frame.
    pub area: f32,
    /// Share of the frame.
    pub share: f32,
    /// Somebody asked for this object.
    pub asked: bool,
}

impl ProposalRules {
    fn good(&self, proposal: &Proposal, living: &[Bitmap]) -> bool {
        if proposal.asked {
            return proposal.bitmap.area() > 0;
        }
        proposal.iou >= self.min_iou
            && proposal.stability >= self.min_stability
            && proposal.area >= self.min_area as f32
            && proposal.share <= self.max_share
            && living
                .iter()
                .all(|object| proposal.bitmap.overlap(object) <= self.max_overlap)
    }

    /// Places of the proposals that become objects, in the order of the prompts.
    #[must_use]
    pub fn choose(&self, proposals: &[Proposal], living: &[Bitmap]) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..proposals.len())
            .filter(|at| self.good(&proposals[*at], living))
            .collect();
        ranked.sort_by(|a, b| {
            let (a, b) = (&proposals[*a], &proposals[*b]);
            b.asked.cmp(&a.asked).then(b.iou.total_cmp(&a.iou))
        });
        let mut taken: Vec<usize> = Vec::new();
        for at in ranked {
            let proposal = &proposals[at];
            let known = taken.iter().any(|other| {
                let bitmap = &proposals[*other].bitmap;
                bitmap.iou(&proposal.bitmap) > self.same_iou
                    || (!proposal.asked && bitmap.overlap(&proposal.bitmap) > self.max_overlap)
            });
            if proposal.asked || !known {
                taken.push(at);
            }
        }
        taken.sort_unstable();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(cells: &str, iou: f32) -> Proposal {
        let logits: Vec<f32> = cells
            .bytes()
            .map(|c| if c == b'#' { 1.0 } else { -1.0 })
            .collect();
        let bitmap = Bitmap::new(&logits);
        Proposal {
            area: bitmap.area() as f32 * 1000.0,
            share: bitmap.area() as f32 / logits.len() as f32,
            bitmap,
            iou,
            stability: 0.95,
            asked: false,
        }
    }

    fn choose(proposals: &[Proposal], living: &[Bitmap]) -> Vec<usize> {
        ProposalRules::default().choose(proposals, living)
    }

    #[test]
    fn of_near_equals_the_better_is_taken() {
        let proposals = [
            proposal("###.......", 0.8),
            proposal("###.......", 0.9),
            proposal(".....###..", 0.8),
        ];
        assert_eq!(choose(&proposals, &[]), [1, 2]);
    }

    #[test]
    fn bad_small_huge_and_shaky_masks_are_not_taken() {
        let mut shaky = proposal("##........", 0.9);
        shaky.stability = 0.5;
        let mut small = proposal("#.........", 0.9);
        small.area = 10.0;
        let huge = proposal("########..", 0.9);
        let bad = proposal("..##......", 0.5);
        assert!(choose(&[shaky, small, huge, bad], &[]).is_empty());
    }

    #[test]
    fn what_lies_on_a_living_object_is_not_taken() {
        let living = proposal("####......", 1.0).bitmap;
        let part = proposal("##........", 0.9);
        let beside = proposal("...###....", 0.9);
        assert_eq!(choose(&[part, beside], &[living]), [1]);
    }

    #[test]
    fn what_was_asked_for_is_taken_however_bad() {
        let mut asked = proposal("##........", 0.0);
        asked.asked = true;
        let mut nothing = proposal("..........", 0.9);
        nothing.asked = true;
        let better = proposal("##........", 0.9);
        let living = [better.bitmap.clone()];
        assert_eq!(choose(&[better, nothing, asked], &living), [2]);
    }
}
