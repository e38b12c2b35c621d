//! Answers by what they were given to: a picture that looks like one asked before has its answer.

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::hash_index::HashIndex;
use crate::perceptual_hash::PerceptualHash;

/// What a service says of a picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The object's name; empty: the service knows none.
    pub name: String,
    /// What kind of thing it is.
    pub category: String,
    /// A sentence about it.
    pub description: String,
    /// How sure the service is, 0 to 1.
    pub confidence: f32,
    /// Its size, as JSON, where known.
    pub dimensions: Option<String>,
}

impl Answer {
    /// Whether the service knows a name.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.name.is_empty()
    }
}

/// The last answers. When it is full, the one that was not used for the longest time goes.
#[derive(Debug)]
pub struct HashCache {
    capacity: usize,
    entries: LruCache<PerceptualHash, Answer>,
    index: HashIndex,
    changed: bool,
}

impl HashCache {
    /// A cache for `capacity` answers (0: none), in which hashes within `radius` bits are the same.
    #[must_use]
    pub fn new(capacity: usize, radius: u32) -> Self {
        Self {
            capacity,
            entries: LruCache::unbounded(),
            index: HashIndex::new(radius),
            changed: false,
        }
    }

    /// How many answers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The answer to the nearest picture within the radius; it counts as used now.
    pub fn get(&mut self, hash: PerceptualHash) -> Option<&Answer> {
        let nearest = self.index.nearest(hash)?;
        self.entries.get(&nearest)
    }

    /// Keeps an answer.
    pub fn put(&mut self, hash: PerceptualHash, answer: Answer) {
        if self.capacity == 0 {
            return;
        }
        if self.entries.put(hash, answer).is_none() {
            self.index.insert(hash);
        }
        while self.entries.len() > self.capacity {
            if let Some((oldest, _)) = self.entries.pop_lru() {
                self.index.remove(oldest);
            }
        }
        self.changed = true;
    }

    /// All answers, the one to go next first.
    pub fn oldest_first(&self) -> impl Iterator<Item = (PerceptualHash, &Answer)> {
        self.entries
            .iter()
            .rev()
            .map(|(hash, answer)| (*hash, answer))
    }

    /// Whether answers were put in since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn named(name: &str) -> Answer {
        Answer {
            name: name.into(),
            ..Answer::default()
        }
    }

    #[test]
    fn near_pictures_share_an_answer_and_the_least_used_one_goes() {
        let mut cache = HashCache::new(2, 3);
        cache.put(PerceptualHash(0), named("cup"));
        cache.put(PerceptualHash(u64::MAX), named("dog"));
        assert_eq!(cache.get(PerceptualHash(0b111)).unwrap().name, "cup");
        assert_eq!(cache.get(PerceptualHash(0b1111)), None);
        cache.put(PerceptualHash(0xffff_0000), named("car"));
        assert_eq!(cache.len(), 2);
        assert_eq!(
            cache.get(PerceptualHash(u64::MAX)),
            None,
            "dog was used last"
        );
        assert_eq!(cache.get(PerceptualHash(1)).unwrap().name, "cup");
        assert!(cache.take_changed() && !cache.take_changed());
        let mut none = HashCache::new(0, 3);
        none.put(PerceptualHash(0), named("cup"));
        assert!(none.is_empty());
    }

    proptest! {
        #[test]
        fn entries_and_index_agree_and_stay_within_capacity(
            capacity in 0usize..8, puts in prop::collection::vec(0u64..24, 0..60),
        ) {
            let mut cache = HashCache::new(capacity, 0);
            for hash in puts {
                cache.put(PerceptualHash(hash), named(&hash.to_string()));
                prop_assert!(cache.len() <= capacity);
                prop_assert_eq!(cache.index.len(), cache.len());
            }
            let kept: Vec<_> = cache.oldest_first().map(|(h, a)| (h, a.clone())).collect();
            for (hash, answer) in kept {
                prop_assert_eq!(cache.get(hash), Some(&answer));
            }
        }
    }
}
