//! Which time belongs to which picture: packets go into a decoder in coding order, pictures come out
//! in the order in which they are shown.

use std::collections::VecDeque;

/// Packets that may still be in the decoder when a later one has come out.
const REORDER: i64 = 32;

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: i64,
    pts_ns: Option<i64>,
    capture_ns: i64,
}

/// The packets that the decoder has, by number, and the times they came with.
///
/// The k-th picture shown gets the k-th smallest time: right for presentation times, and for times of
/// arrival the only sensible reading.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    next: i64,
    entries: VecDeque<Entry>,
    /// Times of packets whose pictures have not come out, as (time, number).
    pending: Vec<(i64, i64)>,
}

impl Stamps {
    /// A number for the next packet, which came with these times.
    pub(crate) fn packet(&mut self, pts_ns: Option<i64>, capture_ns: i64) -> i64 {
        let number = self.next;
        self.next += 1;
        self.entries.push_back(Entry {
            number,
            pts_ns,
            capture_ns,
        });
        self.pending.extend(pts_ns.map(|pts| (pts, number)));
        while self.entries.len() > 2 * REORDER as usize {
            self.entries.pop_front();
        }
        let oldest = number - 2 * REORDER;
        self.pending.retain(|(_, number)| *number >= oldest);
        number
    }

    /// The times of the picture made of packet `number`: presentation, if known, and capture.
    pub(crate) fn picture(&mut self, number: Option<i64>, reordered: bool) -> (Option<i64>, i64) {
        let newest = self.entries.back().map_or(0, |entry| entry.capture_ns);
        let own = number.and_then(|number| {
            self.entries
                .iter()
                .find(|entry| entry.number == number)
                .copied()
        });
        let Some(own) = own else {
            return (None, newest);
        };
        self.pending
            .retain(|(_, number)| *number >= own.number - REORDER);
        let taken = match own.pts_ns {
            None => None,
            Some(_) if reordered => self.pending.iter().min().copied(),
            Some(pts) => Some((pts, own.number)),
        };
        if let Some(taken) = taken {
            self.pending.retain(|pending| *pending != taken);
        }
        (taken.map(|(pts, _)| pts), own.capture_ns)
    }

    /// The decoder has been emptied.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds all packets, then asks for the pictures in this order.
    fn times(packets: &[Option<i64>], shown: &[i64]) -> Vec<Option<i64>> {
        let mut stamps = Stamps::default();
        for (index, pts) in packets.iter().enumerate() {
            stamps.packet(*pts, index as i64);
        }
        shown
            .iter()
            .map(|&number| stamps.picture(Some(number), true).0)
            .collect()
    }

    #[test]
    fn presentation_times_stay_with_their_pictures() {
        let coded = [Some(0), Some(160), Some(40), Some(80), Some(120)];
        assert_eq!(
            times(&coded, &[0, 2, 3, 4, 1]),
            [Some(0), Some(40), Some(80), Some(120), Some(160)]
        );
    }

    #[test]
    fn times_of_arrival_grow_with_the_pictures() {
        let coded = [Some(0), Some(40), Some(80), Some(120), Some(160)];
        assert_eq!(
            times(&coded, &[0, 2, 3, 4, 1]),
            [Some(0), Some(40), Some(80), Some(120), Some(160)]
        );
    }

    #[test]
    fn what_has_no_time_gets_none() {
        assert_eq!(
            times(&[Some(0), None, Some(5)], &[0, 1, 2]),
            [Some(0), None, Some(5)]
        );
        assert_eq!(Stamps::default().picture(None, true), (None, 0));
    }

    proptest! {
        #[test]
        fn stays_small_whatever_comes(
            steps in prop::collection::vec((any::<bool>(), prop::option::of(any::<i64>()), any::<i64>()), 0..500),
        ) {
            let mut stamps = Stamps::default();
            for (packet, pts, number) in steps {
                if packet {
                    stamps.packet(pts, 0);
                } else {
                    stamps.picture(Some(number % 500), number % 2 == 0);
                }
            }
            prop_assert!(stamps.entries.len() <= 64 && stamps.pending.len() <= 65);
        }
    }
}
