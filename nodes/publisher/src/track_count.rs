//! How many different tracks there were, in memory that does not grow with their number: ids are
//! kept as ranges, which grow together because trackers give ids in order.

use std::collections::BTreeMap;

/// Counts distinct track ids.
#[derive(Debug, Default)]
pub(crate) struct TrackCount {
    /// Counted by an earlier process.
    before: u64,
    /// The greatest id of an earlier process: ids up to here are counted already.
    known: Option<u32>,
    /// First and last id of each range.
    ranges: BTreeMap<u32, u32>,
}

impl TrackCount {
    /// Goes on from an earlier process's count and greatest id.
    pub(crate) fn resume(count: u64, greatest: Option<u32>) -> Self {
        Self {
            before: count,
            known: greatest,
            ranges: BTreeMap::new(),
        }
    }

    /// Counts an id, once.
    pub(crate) fn add(&mut self, id: u32) {
        if self.known.is_some_and(|known| id <= known) {
            return;
        }
        let below = self
            .ranges
            .range(..=id)
            .next_back()
            .map(|(first, last)| (*first, *last));
        if below.is_some_and(|(_, last)| id <= last) {
            return;
        }
        let first = match below {
            Some((first, last)) if last + 1 == id => first,
            _ => id,
        };
        let above = id.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, above.unwrap_or(id));
    }

    /// The number of different ids.
    pub(crate) fn count(&self) -> u64 {
        let ranges = self.ranges.iter();
        self.before
            + ranges
                .map(|(first, last)| u64::from(last - first) + 1)
                .sum::<u64>()
    }

    /// The greatest id.
    pub(crate) fn greatest(&self) -> Option<u32> {
        self.ranges
            .last_key_value()
            .map(|(_, last)| *last)
            .max(self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ids_are_counted_once(
            ids in prop::collection::vec(prop_oneof![0u32..40, (u32::MAX - 5)..=u32::MAX], 0..60),
        ) {
            let mut count = TrackCount::default();
            let mut set = BTreeSet::new();
            for id in ids {
                count.add(id);
                set.insert(id);
                prop_assert_eq!(count.count(), set.len() as u64);
                prop_assert_eq!(count.greatest(), set.last().copied());
            }
        }
    }

    #[test]
    fn a_resumed_count_knows_the_ids_before() {
        let mut count = TrackCount::resume(3, Some(5));
        for id in [2, 5, 6, 7, 6] {
            count.add(id);
        }
        assert_eq!((count.count(), count.greatest()), (5, Some(7)));
    }
}
