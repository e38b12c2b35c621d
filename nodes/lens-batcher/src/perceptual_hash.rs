//! Perceptual hashes: 64 bits of which few differ between pictures that look alike.
//!
//! pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010): the
//! picture in grey and small, its discrete cosine transform, and for each of the 8x8 lowest
//! frequencies one bit: above their median or not.

use std::fmt;

use image::GrayImage;
use image_hasher::{HashAlg, HasherConfig};
use serde::{Deserialize, Serialize};

use crate::Picture;

/// Bits of a hash.
pub const BITS: u32 = 64;
/// Standard deviation of brightness below which a picture shows nothing: its hash would be noise.
const FLAT: f64 = 2.0;

/// The hash of a picture.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PerceptualHash(pub u64);

impl PerceptualHash {
    /// Bits that differ, 0 to 64.
    #[must_use]
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    /// Share of bits that are the same, 0 to 1.
    #[must_use]
    pub fn similarity(self, other: Self) -> f32 {
        1.0 - self.distance(other) as f32 / BITS as f32
    }
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The greatest distance of two hashes whose similarity is still `similarity` (0 to 1) or more.
#[must_use]
pub fn max_distance(similarity: f64) -> u32 {
    // A hair more, so that 0.75 is 16 bits and not 15.999.
    ((1.0 - similarity.clamp(0.0, 1.0)) * f64::from(BITS) + 1e-9) as u32
}

/// Makes hashes.
pub struct Hasher(image_hasher::Hasher<[u8; 8]>);

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self(
            HasherConfig::with_bytes_type::<[u8; 8]>()
                .hash_size(8, 8)
                .hash_alg(HashAlg::Median)
                .preproc_dct()
                .to_hasher(),
        )
    }
}

impl Hasher {
    /// The hash of a picture; `None` where nothing is to be seen on it.
    #[must_use]
    pub fn hash(&self, picture: &Picture) -> Option<PerceptualHash> {
        let luma = picture.luma();
        if deviation(&luma) < FLAT {
            return None;
        }
        let grey = GrayImage::from_raw(picture.width, picture.height, luma)?;
        let bytes = self.0.hash_image(&grey).into_inner();
        Some(PerceptualHash(u64::from_le_bytes(bytes)))
    }
}

fn deviation(luma: &[u8]) -> f64 {
    let count = luma.len().max(1) as f64;
    let (sum, squares) = luma.iter().fold((0u64, 0u64), |(sum, squares), &byte| {
        let byte = u64::from(byte);
        (sum + byte, squares + byte * byte)
    });
    let mean = sum as f64 / count;
    (squares as f64 / count - mean * mean).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::picture::tests::scene;

    #[test]
    fn brightness_noise_and_size_change_few_bits_another_scene_many() {
        let hasher = Hasher::default();
        let hash = |picture: &Picture| hasher.hash(picture).unwrap();
        for seed in 0..20 {
            let picture = scene(seed, 120, 80);
            let mut changed = picture.clone();
            for (at, byte) in changed.pixels.iter_mut().enumerate() {
                *byte = byte.saturating_add(6 + (at * 7919 % 5) as u8);
            }
            assert!(hash(&picture).distance(hash(&changed)) <= 4, "{seed}");
            let small = scene(seed, 60, 40);
            assert!(hash(&picture).distance(hash(&small)) <= 8, "{seed}");
            let other = scene(seed + 100, 120, 80);
            assert!(hash(&picture).distance(hash(&other)) > 10, "{seed}");
        }
    }

    #[test]
    fn a_grey_wall_has_no_hash() {
        let wall = Picture::new(40, 40, vec![90; 4800]).unwrap();
        assert_eq!(Hasher::default().hash(&wall), None);
    }

    #[test]
    fn similarity_becomes_a_distance() {
        let distances = [1.0, 0.95, 0.75, 0.0, 7.0].map(max_distance);
        assert_eq!(distances, [0, 3, 16, 64, 0]);
        let (a, b) = (PerceptualHash(0), PerceptualHash(0xffff));
        assert_eq!((a.distance(b), a.similarity(b)), (16, 0.75));
    }
}
