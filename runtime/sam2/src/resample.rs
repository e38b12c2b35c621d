//! Linear interpolation along one axis, widened to an area average where the axis shrinks.
//!
//! The same weights as PyTorch's `interpolate(mode="bilinear", antialias=True)` and PIL's
//! `BILINEAR`: a triangle as wide as one step of the coarser axis, normalised at the edges.

use std::ops::Range;

/// For each output cell, the input cells it reads and their weights.
#[derive(Clone, Debug)]
pub struct Axis {
    taps: Vec<(usize, usize)>,
    weights: Vec<f32>,
    longest: usize,
}

impl Axis {
    /// Weights from `from` cells to `to` cells over the same extent.
    #[must_use]
    pub fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to.max(1) as f64;
        let widened = scale.max(1.0);
        let mut taps = Vec::with_capacity(to);
        let mut weights = Vec::new();
        let mut longest = 0;
        for cell in 0..to {
            let center = scale * (cell as f64 + 0.5);
            let first =
                ((center - widened + 0.5).floor().max(0.0) as usize).min(from.saturating_sub(1));
            let end =
                ((center + widened + 0.5).floor() as usize).clamp(first + 1, from.max(first + 1));
            let raw = (first..end).map(|at| {
                let distance = (at as f64 + 0.5 - center) / widened;
                (1.0 - distance.abs()).max(0.0)
            });
            let total: f64 = raw.clone().sum();
            let start = weights.len();
            if total > 0.0 {
                weights.extend(raw.map(|weight| (weight / total) as f32));
            } else {
                weights.extend(raw.enumerate().map(|(at, _)| f32::from(u8::from(at == 0))));
            }
            longest = longest.max(end - first);
            taps.push((first, start));
        }
        taps.push((0, weights.len()));
        Self {
            taps,
            weights,
            longest,
        }
    }

    /// Output cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taps.len() - 1
    }

    /// Whether there is no output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most input cells that an output cell reads.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The first input cell that an output cell reads, and the weights from there on.
    #[must_use]
    pub fn taps(&self, cell: usize) -> (usize, &[f32]) {
        let (first, start) = self.taps[cell];
        (first, &self.weights[start..self.taps[cell + 1].1])
    }

    /// The input cells that some output cells read.
    #[must_use]
    pub fn span(&self, cells: Range<usize>) -> Range<usize> {
        let (start, _) = self.taps(cells.start);
        let (last, weights) = self.taps(cells.end.max(cells.start + 1) - 1);
        start..last + weights.len()
    }
}

/// The same with equally many weights for each output cell: 0 for cells that it does not read.
#[derive(Clone, Debug)]
pub struct EvenAxis {
    firsts: Vec<usize>,
    weights: Vec<f32>,
    longest: usize,
}

impl EvenAxis {
    /// Weights from `from` cells to `to` cells over the same extent.
    #[must_use]
    pub fn new(from: usize, to: usize) -> Self {
        let axis = Axis::new(from, to);
        let longest = axis.longest();
        let last = from.saturating_sub(longest);
        let mut weights = vec![0.0; to * longest];
        let firsts = (0..to).zip(weights.chunks_exact_mut(longest.max(1)));
        let firsts = firsts.map(|(cell, even)| {
            let (first, weights) = axis.taps(cell);
            let start = first.min(last);
            even[first - start..][..weights.len()].copy_from_slice(weights);
            start
        });
        Self {
            firsts: firsts.collect(),
            weights,
            longest,
        }
    }

    /// How many input cells an output cell has weights for.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// For each output cell the first input cell that it has a weight for, and the weights from there on.
    pub fn taps(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let weights = self.weights.chunks_exact(self.longest.max(1));
        self.firsts.iter().copied().zip(weights)
    }

    /// The same where it is known how many weights there are: `N` is [`Self::longest`].
    pub fn known_taps<const N: usize>(&self) -> impl Iterator<Item = (usize, &[f32; N])> {
        self.firsts
            .iter()
            .copied()
            .zip(self.weights.as_chunks::<N>().0)
    }
}

/// Resizes a plane of `from` (height, width) to `to`; `out` is overwritten.
pub fn resize(plane: &[f32], from: [usize; 2], to: [usize; 2], out: &mut Vec<f32>) {
    let (vertical, horizontal) = (Axis::new(from[0], to[0]), Axis::new(from[1], to[1]));
    let mut row = vec![0.0; from[1]];
    out.clear();
    out.reserve(to[0] * to[1]);
    for y in 0..to[0] {
        let (first, weights) = vertical.taps(y);
        row.fill(0.0);
        for (line, weight) in plane[first * from[1]..].chunks_exact(from[1]).zip(weights) {
            for (sum, value) in row.iter_mut().zip(line) {
                *sum += weight * value;
            }
        }
        out.extend((0..to[1]).map(|x| {
            let (first, weights) = horizontal.taps(x);
            let values = row[first..].iter().zip(weights);
            values.map(|(value, weight)| value * weight).sum::<f32>()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halving_weighs_four_cells() {
        // PyTorch: interpolate(arange(8), size=4, mode="linear", antialias=True).
        let axis = Axis::new(8, 4);
        let (first, weights) = axis.taps(1);
        assert_eq!(first, 1);
        assert_eq!(weights, [0.125, 0.375, 0.375, 0.125]);
        let (first, weights) = axis.taps(0);
        assert_eq!(first, 0);
        let expected = [3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn doubling_is_linear_interpolation() {
        let mut out = Vec::new();
        resize(&[0.0, 4.0], [1, 2], [1, 4], &mut out);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0]);
    }

    proptest! {
        #[test]
        fn weights_add_up_to_one_and_stay_inside(from in 1usize..200, to in 1usize..200) {
            let axis = Axis::new(from, to);
            prop_assert_eq!(axis.len(), to);
            for cell in 0..to {
                let (first, weights) = axis.taps(cell);
                prop_assert!(!weights.is_empty() && first + weights.len() <= from);
                prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            }
        }

        #[test]
        fn even_weights_are_the_same_weights(from in 1usize..200, to in 1usize..200) {
            let (axis, even) = (Axis::new(from, to), EvenAxis::new(from, to));
            prop_assert_eq!(even.taps().count(), to);
            let known = even.known_taps::<3>().map(|(first, weights)| (first, weights.as_slice()));
            prop_assert!(even.longest() != 3 || known.eq(even.taps()));
            for (cell, (start, weights)) in even.taps().enumerate() {
                prop_assert!(start + weights.len() <= from);
                let (first, expected) = axis.taps(cell);
                let mut spread = vec![0.0; weights.len()];
                spread[first - start..][..expected.len()].copy_from_slice(expected);
                prop_assert_eq!(weights, spread);
            }
        }
    }
}
