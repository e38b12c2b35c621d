//! Finds the nearest of many hashes without looking at all of them.
//!
//! Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index
//! hashing", CVPR 2012): a hash is cut into `radius + 1` pieces. Two hashes that differ in at most
//! `radius` bits agree in at least one piece, so it is enough to look at those that share a piece.
//! With many bits allowed the pieces get short and select little; then all are looked at, which is a
//! population count each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::perceptual_hash::{BITS, PerceptualHash};

/// With pieces of fewer bits than this, looking at all is as good.
const SHORTEST_PIECE: u32 = 6;

/// Spreads pieces of hashes over the buckets of a map: they are random enough for one
/// multiplication, and nobody gains by choosing them badly.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Buckets = HashMap<u64, Vec<u64>, BuildHasherDefault<Spread>>;

/// A set of hashes that can be asked for the nearest within a fixed radius.
#[derive(Debug)]
pub struct HashIndex {
    radius: u32,
    /// Per piece: first bit, and a mask of its length.
    pieces: Vec<(u32, u64)>,
    /// Per piece: the hashes with this value of it.
    buckets: Vec<Buckets>,
    len: usize,
}

impl std::fmt::Debug for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spread")
    }
}

impl HashIndex {
    /// An empty index for distances of up to `radius` bits.
    #[must_use]
    pub fn new(radius: u32) -> Self {
        let count = match BITS / (radius + 1) {
            length if length < SHORTEST_PIECE => 1,
            _ => radius + 1,
        };
        let pieces: Vec<(u32, u64)> = (0..count)
            .map(|at| {
                let (from, to) = (at * BITS / count, (at + 1) * BITS / count);
                (from, u64::MAX >> (BITS - (to - from)))
            })
            .collect();
        Self {
            radius,
            buckets: pieces.iter().map(|_| Buckets::default()).collect(),
            pieces,
            len: 0,
        }
    }

    /// How many hashes are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the radius is too great for pieces, so that every look-up looks at all.
    fn looks_at_all(&self) -> bool {
        self.pieces.len() == 1 && self.radius > 0
    }

    fn piece(&self, at: usize, hash: u64) -> u64 {
        let (from, mask) = self.pieces[at];
        if self.looks_at_all() {
            0
        } else {
            (hash >> from) & mask
        }
    }

    /// Puts a hash in. It must not be there already.
    pub fn insert(&mut self, hash: PerceptualHash) {
        for at in 0..self.pieces.len() {
            let piece = self.piece(at, hash.0);
            self.buckets[at].entry(piece).or_default().push(hash.0);
        }
        self.len += 1;
    }

    /// Takes a hash out, where it is in.
    pub fn remove(&mut self, hash: PerceptualHash) {
        let mut found = false;
        for at in 0..self.pieces.len() {
            let piece = self.piece(at, hash.0);
            if let Some(bucket) = self.buckets[at].get_mut(&piece) {
                if let Some(place) = bucket.iter().position(|other| *other == hash.0) {
                    bucket.swap_remove(place);
                    found = true;
                }
                if bucket.is_empty() {
                    self.buckets[at].remove(&piece);
                }
            }
        }
        self.len -= usize::from(found);
    }

    /// The nearest hash within the radius; of several the one with the smallest number, so that the
    /// answer does not depend on the order in which they came.
    #[must_use]
    pub fn nearest(&self, hash: PerceptualHash) -> Option<PerceptualHash> {
        let mut best: Option<(u32, u64)> = None;
        for at in 0..self.pieces.len() {
            let Some(bucket) = self.buckets[at].get(&self.piece(at, hash.0)) else {
                continue;
            };
            for &other in bucket {
                let distance = (other ^ hash.0).count_ones();
                if distance <= self.radius && best.is_none_or(|best| (distance, other) < best) {
                    best = Some((distance, other));
                }
            }
        }
        best.map(|(_, hash)| PerceptualHash(hash))
    }
}

/// The same answer as [`HashIndex::nearest`], from a look at every hash: what the index is measured
/// against.
#[must_use]
pub fn nearest_of_all(
    hashes: &[PerceptualHash],
    hash: PerceptualHash,
    radius: u32,
) -> Option<PerceptualHash> {
    hashes
        .iter()
        .map(|&other| (other.distance(hash), other))
        .filter(|(distance, _)| *distance <= radius)
        .min()
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Hashes in clusters, so that near ones are common: a centre with some bits turned.
    fn hash() -> impl Strategy<Value = PerceptualHash> {
        let centre = prop_oneof![
            Just(0u64),
            Just(u64::MAX),
            Just(0x0123_4567_89ab_cdef),
            any::<u64>()
        ];
        (centre, prop::collection::vec(0u32..64, 0..8)).prop_map(|(centre, turned)| {
            PerceptualHash(turned.iter().fold(centre, |hash, bit| hash ^ (1 << bit)))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn the_index_answers_as_a_look_at_all(
            radius in prop_oneof![0u32..12, 12u32..=64],
            steps in prop::collection::vec((hash(), prop::bool::weighted(0.3)), 1..80),
            asked in prop::collection::vec(hash(), 1..20),
        ) {
            let mut index = HashIndex::new(radius);
            let mut set = BTreeSet::new();
            for (hash, remove) in steps {
                if remove {
                    index.remove(hash);
                    set.remove(&hash);
                } else if set.insert(hash) {
                    index.insert(hash);
                }
                prop_assert_eq!(index.len(), set.len());
            }
            let all: Vec<PerceptualHash> = set.iter().copied().collect();
            for hash in asked.into_iter().chain(all.iter().copied()) {
                prop_assert_eq!(index.nearest(hash), nearest_of_all(&all, hash, radius));
            }
        }
    }

    #[test]
    fn an_emptied_index_keeps_no_buckets() {
        let mut index = HashIndex::new(3);
        (0..500).for_each(|n| index.insert(PerceptualHash(n << 20)));
        (0..500).for_each(|n| index.remove(PerceptualHash(n << 20)));
        assert!(index.is_empty() && index.buckets.iter().all(HashMap::is_empty));
        index.remove(PerceptualHash(1));
        assert_eq!(index.len(), 0);
    }
}
