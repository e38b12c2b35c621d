//! When the bytes of a picture came in: packets go into a decoder in coding order and stay there for
//! a while, pictures come out in the order in which they are shown.

use std::collections::VecDeque;

/// Packets that may still be in the decoder when a later one has come out: its threads, and pictures
/// held back for reordering.
const HELD: usize = 128;

/// The packets that the decoder has: presentation time in ticks of the stream, if it has one, and wall
/// clock.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    packets: VecDeque<(Option<i64>, i64)>,
}

impl Arrivals {
    /// A packet goes into the decoder.
    pub(crate) fn packet(&mut self, pts: Option<i64>, came_ns: i64) {
        if self.packets.len() == HELD {
            self.packets.pop_front();
        }
        self.packets.push_back((pts, came_ns));
    }

    /// When the picture of this presentation time came in: of several packets with that time, the
    /// newest counts, since a counter that began anew leaves those of lost pictures behind. One
    /// without a time, or with that of no packet, came with the newest packet at the latest.
    pub(crate) fn picture(&mut self, pts: Option<i64>) -> i64 {
        let own = pts.and_then(|_| self.packets.iter().rposition(|packet| packet.0 == pts));
        let own = own.and_then(|index| self.packets.remove(index));
        own.or(self.packets.back().copied())
            .map_or(0, |(_, came_ns)| came_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_times_the_newest_packet_counts() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.picture(Some(1)), 0);
        arrivals.packet(None, 100);
        arrivals.packet(None, 140);
        assert_eq!(arrivals.picture(None), 140);
        assert_eq!(arrivals.picture(Some(3)), 140);
    }

    #[test]
    fn a_lost_picture_gives_its_time_to_no_later_one() {
        let mut arrivals = Arrivals::default();
        arrivals.packet(Some(7), 100);
        arrivals.packet(Some(7), 900);
        assert_eq!(arrivals.picture(Some(7)), 900);
    }

    proptest! {
        /// Whatever the order of coding, and however often a counter of ticks begins anew.
        #[test]
        fn pictures_keep_the_times_of_their_packets(
            groups in prop::collection::vec(Just((0..8).collect::<Vec<i64>>()).prop_shuffle(), 1..40),
        ) {
            let mut arrivals = Arrivals::default();
            for (group, order) in groups.iter().enumerate() {
                let came = |tick: &i64| 1000 * group as i64 + tick;
                for tick in order {
                    arrivals.packet(Some(*tick), came(tick));
                }
                for tick in 0..8 {
                    prop_assert_eq!(arrivals.picture(Some(tick)), came(&tick));
                }
            }
        }

        /// A decoder that gives nothing out does not fill the memory.
        #[test]
        fn lost_pictures_are_forgotten(lost in 0..1000_i64) {
            let mut arrivals = Arrivals::default();
            for tick in 0..=lost {
                arrivals.packet(Some(tick), tick);
            }
            prop_assert!(arrivals.packets.len() <= HELD);
            prop_assert_eq!(arrivals.picture(Some(lost)), lost);
        }
    }
}
