//! The measures of the DAVIS benchmark (Perazzi et al., CVPR 2016, section 4): region similarity J
//! and contour accuracy F, of one mask against its ground truth.
//!
//! The definitions are those of the benchmark's published evaluation code, whose results the tests
//! compare with: contours are the pixels that differ from their right, lower or lower right neighbour,
//! and a contour pixel counts as hit where the other contour passes within a disk.

use tracklens_schemas::Mask;

/// Distance within which contours agree, as a part of the picture's diagonal.
const TOLERANCE: f64 = 0.008;

/// How well masks agree, each number 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Score {
    /// Region similarity J: intersection over union.
    pub(crate) region: f64,
    /// Contour accuracy F: harmonic mean of the contours' precision and recall.
    pub(crate) contour: f64,
}

impl Score {
    /// Compares a mask with the ground truth of the same size.
    pub(crate) fn of(mask: &Mask, truth: &Mask) -> Self {
        Self {
            region: region(mask, truth),
            contour: contour(mask, truth),
        }
    }

    /// The benchmark's J&F.
    pub(crate) fn both(self) -> f64 {
        (self.region + self.contour) / 2.0
    }

    /// The mean of some scores; zero of none.
    pub(crate) fn mean(scores: &[Self]) -> Self {
        let count = scores.len().max(1) as f64;
        Self {
            region: scores.iter().map(|score| score.region).sum::<f64>() / count,
            contour: scores.iter().map(|score| score.contour).sum::<f64>() / count,
        }
    }
}

/// Intersection over union; 1 where both masks are empty.
pub(crate) fn region(mask: &Mask, truth: &Mask) -> f64 {
    let common = mask.intersection(truth);
    let union = mask.area() + truth.area() - common;
    if union == 0 {
        return 1.0;
    }
    common as f64 / union as f64
}

/// The F measure of the masks' contours; 1 where neither has one.
fn contour(mask: &Mask, truth: &Mask) -> f64 {
    let (width, height) = (truth.width() as usize, truth.height() as usize);
    let radius = tolerance(width, height);
    let ours = contour_pixels(&mask.to_bitmap(), width, height);
    let theirs = contour_pixels(&truth.to_bitmap(), width, height);
    let (precision, recall) = match (ours.is_empty(), theirs.is_empty()) {
        (true, true) => (1.0, 1.0),
        (true, false) => (1.0, 0.0),
        (false, true) => (0.0, 1.0),
        (false, false) => (
            share_within(&ours, &theirs, radius, width, height),
            share_within(&theirs, &ours, radius, width, height),
        ),
    };
    if precision + recall == 0.0 {
        return 0.0;
    }
    2.0 * precision * recall / (precision + recall)
}

/// The radius of the disk, in pixels.
fn tolerance(width: usize, height: usize) -> usize {
    (TOLERANCE * (width as f64).hypot(height as f64)).ceil() as usize
}

/// The pixels (x, y) of a row-major bitmap that differ from their right, lower or lower right neighbour.
/// The last row and column are compared along themselves only, the last pixel with nothing.
fn contour_pixels(bitmap: &[u8], width: usize, height: usize) -> Vec<(usize, usize)> {
    let at = |x: usize, y: usize| bitmap[y * width + x];
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (right, below) = (x + 1 < width, y + 1 < height);
            let here = at(x, y);
            let differs = right && at(x + 1, y) != here
                || below && at(x, y + 1) != here
                || right && below && at(x + 1, y + 1) != here;
            if differs {
                pixels.push((x, y));
            }
        }
    }
    pixels
}

/// The share of `pixels` that have one of `others` within `radius`.
fn share_within(
    pixels: &[(usize, usize)],
    others: &[(usize, usize)],
    radius: usize,
    width: usize,
    height: usize,
) -> f64 {
    let mut near = vec![false; width * height];
    for dy in 0..=radius {
        // Half the disk's width in this row.
        let dx = (radius * radius - dy * dy).isqrt();
        for &(x, y) in others {
            let (left, right) = (x.saturating_sub(dx), (x + dx + 1).min(width));
            let rows = [y.checked_sub(dy), Some(y + dy).filter(|&row| row < height)];
            for row in rows.into_iter().flatten() {
                near[row * width + left..row * width + right].fill(true);
            }
        }
    }
    let hits = pixels.iter().filter(|&&(x, y)| near[y * width + x]).count();
    hits as f64 / pixels.len() as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;
    use tracklens_schemas::jsonl::MaskRow;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        mask: MaskRow,
        truth: MaskRow,
        region: f64,
        contour: f64,
    }

    fn decode(row: &MaskRow) -> Mask {
        Mask::decode(row.counts.as_bytes(), row.size[1], row.size[0]).unwrap()
    }

    /// `fixtures/davis.py` writes the cases.
    #[test]
    fn agrees_with_the_benchmarks_definition() {
        let text = include_str!("../../fixtures/davis.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let score = Score::of(&decode(&case.mask), &decode(&case.truth));
            let off = (score.region - case.region)
                .abs()
                .max((score.contour - case.contour).abs());
            assert!(off < 1e-9, "{}: {score:?}", case.name);
        }
    }

    #[test]
    fn the_mean_of_nothing_is_zero() {
        assert_eq!(Score::mean(&[]), Score::default());
        let (a, b) = (
            Score {
                region: 1.0,
                contour: 0.5,
            },
            Score {
                region: 0.0,
                contour: 0.5,
            },
        );
        assert_eq!(Score::mean(&[a, b]).both(), 0.5);
    }

    #[test]
    fn the_disk_grows_with_the_picture() {
        assert_eq!((tolerance(854, 480), tolerance(40, 30)), (8, 1));
    }
}
