//! From the raw output of a YOLOX model to boxes.
//!
//! One row per cell of three grids (strides 8, 16 and 32, row-major): centre x and y relative to
//! the cell, in strides; logarithm of width and height, in strides; objectness; one probability
//! per class.

use tracklens_schemas::BBox;

const STRIDES: [usize; 3] = [8, 16, 32];
/// Boxes of one class that overlap more are the same object …
const SAME_CLASS_IOU: f32 = 0.45;
/// … and of different classes (a van that is a car and a truck).
const ANY_CLASS_IOU: f32 = 0.75;

/// A box in pixels of the model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Where.
    pub bbox: BBox,
    /// Objectness times class probability.
    pub score: f32,
    /// Number of the class.
    pub class: usize,
}

/// The cells of a model's output.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Column, row and stride of each cell.
    cells: Vec<(f32, f32, f32)>,
    classes: usize,
}

impl Grid {
    /// The grid of a model with this input size.
    #[must_use]
    pub fn new(width: usize, height: usize, classes: usize) -> Self {
        let cells = STRIDES
            .iter()
            .flat_map(|&stride| {
                let (columns, rows) = (width / stride, height / stride);
                (0..rows).flat_map(move |y| {
                    (0..columns).map(move |x| (x as f32, y as f32, stride as f32))
                })
            })
            .collect();
        Self { cells, classes }
    }

    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether the input is smaller than a cell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Values per cell.
    #[must_use]
    pub fn columns(&self) -> usize {
        5 + self.classes
    }

    /// The best wanted class of each cell, where its score is at least `least_score`.
    pub fn decode(
        &self,
        values: &[f32],
        least_score: f32,
        wants: impl Fn(usize) -> bool,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (row, &(column, line, stride)) in values.chunks_exact(self.columns()).zip(&self.cells) {
            let objectness = row[4];
            // Class probabilities are at most 1.
            if !objectness.is_finite() || objectness < least_score {
                continue;
            }
            let best = row[5..]
                .iter()
                .enumerate()
                .filter(|&(class, _)| wants(class))
                .max_by(|a, b| a.1.total_cmp(b.1));
            let Some((class, probability)) = best else {
                continue;
            };
            let score = objectness * probability;
            let (x, y) = ((row[0] + column) * stride, (row[1] + line) * stride);
            let (width, height) = (row[2].exp() * stride, row[3].exp() * stride);
            let bbox = BBox::new(
                x - width / 2.0,
                y - height / 2.0,
                x + width / 2.0,
                y + height / 2.0,
            );
            if score >= least_score && bbox.is_valid() {
                candidates.push(Candidate {
                    bbox,
                    score: score.min(1.0),
                    class,
                });
            }
        }
        candidates
    }
}

/// Non-maximum suppression: of boxes that overlap too much, the one with the best score stays.
/// Ordered by falling score.
#[must_use]
pub fn suppress(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let covered = kept.iter().any(|better| {
            let same = better.class == candidate.class;
            let limit = if same { SAME_CLASS_IOU } else { ANY_CLASS_IOU };
            better.bbox.iou(&candidate.bbox) > limit
        });
        if !covered {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_of_a_416_model_has_3549_cells() {
        assert_eq!(Grid::new(416, 416, 80).len(), 3549);
        assert_eq!(Grid::new(640, 384, 80).len(), 80 * 48 + 40 * 24 + 20 * 12);
    }

    #[test]
    fn decodes_centre_and_size_in_strides() {
        let grid = Grid::new(64, 32, 2);
        let mut values = vec![0.0; grid.len() * 7];
        // Column 3, row 2 of the stride-8 grid.
        let cell = 2 * 8 + 3;
        values[cell * 7..][..7].copy_from_slice(&[0.5, 0.5, 0.0, 2.0_f32.ln(), 0.9, 0.2, 0.8]);
        let found = grid.decode(&values, 0.3, |_| true);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].class, 1);
        assert!((found[0].score - 0.72).abs() < 1e-6);
        assert_eq!(found[0].bbox.to_array(), [24.0, 12.0, 32.0, 28.0]);
        assert_eq!(grid.decode(&values, 0.3, |class| class == 0), []);
        values[cell * 7] = f32::NAN;
        assert_eq!(grid.decode(&values, 0.3, |_| true), []);
    }

    #[test]
    fn suppresses_within_a_class_and_near_copies_of_other_classes() {
        let at = |x: f32, score, class| Candidate {
            bbox: BBox::new(x, 0.0, x + 10.0, 10.0),
            score,
            class,
        };
        let kept = suppress(vec![
            at(2.0, 0.5, 0),
            at(0.0, 0.9, 0),
            at(3.0, 0.8, 1),
            at(0.5, 0.7, 2),
        ]);
        assert_eq!(kept, [at(0.0, 0.9, 0), at(3.0, 0.8, 1)]);
    }
}
