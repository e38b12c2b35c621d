//! What an object looks like: the frame's embedding, pooled over its mask.
//!
//! Each channel is taken relative to its mean and spread over the whole frame, so that what all of a
//! scene has in common does not make its objects alike.

use serde::{Deserialize, Serialize};

/// Weight of a sighting in what is known already.
const WEIGHT: f32 = 0.2;
/// Spread below which a channel says nothing.
const LEAST_SPREAD: f32 = 1e-6;

/// One number a channel of the embedding, of length 1 altogether.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Appearance(Vec<f32>);

/// Mean and spread of every channel of a frame's embedding.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    embedding: &'a [f32],
    /// Height and width.
    size: [usize; 2],
    channels: Vec<(f32, f32)>,
}

impl<'a> Scene<'a> {
    /// Of an embedding C×h×w.
    #[must_use]
    pub fn new(embedding: &'a [f32], [_, height, width]: [usize; 3]) -> Self {
        let cells = (height * width).max(1);
        let channels = embedding.chunks_exact(cells).map(|channel| {
            let mean = channel.iter().sum::<f32>() / cells as f32;
            let square = channel.iter().map(|value| (value - mean).powi(2));
            let spread = (square.sum::<f32>() / cells as f32).sqrt();
            (mean, spread.max(LEAST_SPREAD))
        });
        Self {
            embedding,
            size: [height, width],
            channels: channels.collect(),
        }
    }

    /// What the object with this mask (logits on a grid of height and width `mask`) looks like; `None`
    /// where the mask is empty.
    #[must_use]
    pub fn appearance(&self, logits: &[f32], mask: [usize; 2]) -> Option<Appearance> {
        let [height, width] = self.size;
        let mut weights = vec![0_u32; height * width];
        let inside = (0..logits.len()).filter(|cell| logits[*cell] > 0.0);
        for cell in inside {
            let (y, x) = (cell / mask[1], cell % mask[1]);
            weights[y * height / mask[0] * width + x * width / mask[1]] += 1;
        }
        let cells: Vec<(usize, f32)> = weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
            .map(|(cell, weight)| (cell, *weight as f32))
            .collect();
        let total: f32 = cells.iter().map(|(_, weight)| weight).sum();
        if cells.is_empty() {
            return None;
        }
        let channels = self.embedding.chunks_exact(height * width);
        let pooled = channels
            .zip(&self.channels)
            .map(|(channel, (mean, spread))| {
                let sum: f32 = cells
                    .iter()
                    .map(|(cell, weight)| channel[*cell] * weight)
                    .sum();
                (sum / total - mean) / spread
            });
        Some(Appearance::of_length_one(pooled.collect()))
    }
}

impl Appearance {
    fn of_length_one(mut values: Vec<f32>) -> Self {
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            values.iter_mut().for_each(|value| *value /= length);
        }
        Self(values)
    }

    /// How alike two appearances are: the cosine of their angle, −1 to 1; 0 for those of two models.
    #[must_use]
    pub fn similarity(&self, other: &Self) -> f32 {
        if self.0.len() != other.0.len() {
            return 0.0;
        }
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// Takes in what the object looks like now.
    pub fn follow(&mut self, now: &Self) {
        if self.0.len() != now.0.len() {
            self.0.clone_from(&now.0);
            return;
        }
        for (value, now) in self.0.iter_mut().zip(&now.0) {
            *value += WEIGHT * (now - *value);
        }
        *self = Self::of_length_one(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Two channels on two by two cells.
    const EMBEDDING: [f32; 8] = [4.0, 4.0, 0.0, 0.0, 1.0, 3.0, 1.0, 3.0];

    fn appearance(mask: [f32; 4]) -> Option<Appearance> {
        Scene::new(&EMBEDDING, [2, 2, 2]).appearance(&mask, [2, 2])
    }

    #[test]
    fn an_object_looks_like_its_cells_relative_to_the_scene() {
        let left_top = appearance([1.0, -1.0, -1.0, -1.0]).unwrap();
        let [a, b] = [left_top.0[0], left_top.0[1]];
        assert!(
            (a - 0.5_f32.sqrt()).abs() < 1e-5 && (a + b).abs() < 1e-5,
            "{left_top:?}"
        );
        assert_eq!(appearance([-1.0; 4]), None);
    }

    #[test]
    fn what_is_alike_is_similar_and_what_is_opposite_is_not() {
        let left_top = appearance([1.0, -1.0, -1.0, -1.0]).unwrap();
        let right_bottom = appearance([-1.0, -1.0, -1.0, 1.0]).unwrap();
        assert!((left_top.similarity(&left_top) - 1.0).abs() < 1e-5);
        assert!((left_top.similarity(&right_bottom) + 1.0).abs() < 1e-5);
        assert_eq!(left_top.similarity(&Appearance(vec![1.0])), 0.0);
    }

    #[test]
    fn an_appearance_follows_what_is_seen() {
        let mut known = Appearance(vec![1.0, 0.0]);
        let now = Appearance(vec![0.0, 1.0]);
        for _ in 0..30 {
            known.follow(&now);
        }
        assert!(known.similarity(&now) > 0.99);
    }

    #[test]
    fn a_fine_mask_counts_by_its_share_of_a_cell() {
        // Four by four mask cells on two by two cells of the embedding.
        let mut mask = [-1.0; 16];
        mask[0] = 1.0;
        mask[1] = 1.0;
        let scene = Scene::new(&EMBEDDING, [2, 2, 2]);
        assert_eq!(
            scene.appearance(&mask, [4, 4]),
            appearance([1.0, -1.0, -1.0, -1.0])
        );
    }
}
