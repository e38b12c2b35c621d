//! What live tracks cover of a frame.

use tracklens_schemas::{BBox, Mask};

use crate::Candidate;

/// Share of a candidate's box that must be covered for it to be the tracked object itself.
const COVERED: f32 = 0.6;

/// The union of masks. Empty by default: nothing is covered.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    width: usize,
    bitmap: Vec<u8>,
}

impl Coverage {
    /// The union of masks in a source frame of this size in pixels; masks of another size (the
    /// source's resolution has just changed) are scaled to it.
    #[must_use]
    pub fn of(masks: &[Mask], size: (u32, u32)) -> Self {
        if masks.is_empty() {
            return Self::default();
        }
        let mut bitmap = vec![0; size.0 as usize * size.1 as usize];
        for mask in masks {
            mask.scale(size.0, size.1).fill_bitmap(&mut bitmap);
        }
        Self {
            width: size.0 as usize,
            bitmap,
        }
    }

    /// Whether a track holds this place already: its point, or most of its box.
    #[must_use]
    pub fn covers(&self, candidate: &Candidate) -> bool {
        if self.bitmap.is_empty() {
            return false;
        }
        let [x, y] = candidate.point;
        self.at(x.max(0.0) as usize, y.max(0.0) as usize)
            || candidate
                .bbox
                .is_some_and(|bbox| self.share(&bbox) >= COVERED)
    }

    fn at(&self, x: usize, y: usize) -> bool {
        x < self.width && self.bitmap.get(y * self.width + x) == Some(&1)
    }

    /// Covered share of a box, of its part inside the frame.
    fn share(&self, bbox: &BBox) -> f32 {
        let height = self.bitmap.len() / self.width;
        let side = |low: f32, high: f32, end: usize| {
            let low = (low.max(0.0) as usize).min(end);
            low..(high.max(0.0).ceil() as usize).clamp(low, end)
        };
        let columns = side(bbox.x0, bbox.x1, self.width);
        let rows = side(bbox.y0, bbox.y1, height);
        let area = columns.len() * rows.len();
        let covered: usize = rows
            .map(|y| {
                let row = &self.bitmap[y * self.width..][columns.clone()];
                row.iter().map(|&bit| usize::from(bit)).sum::<usize>()
            })
            .sum();
        covered as f32 / area.max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(point: [f32; 2], bbox: Option<BBox>) -> Candidate {
        Candidate {
            point,
            bbox,
            score: 1.0,
            strategy: "test",
        }
    }

    /// The left half of a 10x4 frame.
    fn left_half() -> Mask {
        let bitmap: Vec<u8> = (0..40).map(|at| u8::from(at % 10 < 5)).collect();
        Mask::from_bitmap(&bitmap, 10, 4)
    }

    #[test]
    fn points_on_a_mask_are_covered_to_the_pixel() {
        let coverage = Coverage::of(&[left_half()], (10, 4));
        assert!(coverage.covers(&candidate([4.9, 3.9], None)));
        assert!(!coverage.covers(&candidate([5.0, 0.0], None)));
        assert!(!Coverage::default().covers(&candidate([1.0, 1.0], None)));
    }

    #[test]
    fn boxes_are_covered_where_most_of_them_is() {
        let coverage = Coverage::of(&[left_half()], (10, 4));
        let mostly = Some(BBox::new(1.0, 0.0, 7.0, 4.0));
        let hardly = Some(BBox::new(4.0, -5.0, 70.0, 4.0));
        assert!(coverage.covers(&candidate([6.0, 1.0], mostly)));
        assert!(!coverage.covers(&candidate([6.0, 1.0], hardly)));
    }

    #[test]
    fn masks_of_an_earlier_resolution_are_scaled() {
        let coverage = Coverage::of(&[left_half()], (100, 40));
        assert!(coverage.covers(&candidate([49.0, 39.0], None)));
        assert!(!coverage.covers(&candidate([50.0, 39.0], None)));
    }
}
