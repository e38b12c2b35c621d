//! Turns the timestamps of a container into nanoseconds from 0 that always grow.

/// A jump back of more than this is a new start (a splice, a counter that wrapped), not jitter.
const SPLICE_NS: i64 = 1_000_000_000;

/// The clock of one stream. The first frame is at 0; frames without a timestamp follow the one
/// before at the frame rate; a stream that jumps back goes on where it was.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// Seconds of a tick, as a fraction.
    numerator: i64,
    denominator: i64,
    period_ns: i64,
    trusted: bool,
    origin_ns: Option<i64>,
    last_ns: Option<i64>,
}

impl Timeline {
    /// A clock with ticks of `numerator / denominator` seconds. Without trust, all timestamps are
    /// taken as missing (raw streams carry none).
    pub(crate) fn new(numerator: i32, denominator: i32, period_ns: i64, trusted: bool) -> Self {
        Self {
            numerator: i64::from(numerator.max(1)),
            denominator: i64::from(denominator.max(1)),
            period_ns: period_ns.max(1),
            trusted,
            origin_ns: None,
            last_ns: None,
        }
    }

    /// Frames without a timestamp follow the one before in this time from now on.
    pub(crate) fn set_period(&mut self, period_ns: i64) {
        self.period_ns = period_ns.max(1);
    }

    /// The next frame is the first again, at 0.
    pub(crate) fn restart(&mut self) {
        self.origin_ns = None;
        self.last_ns = None;
    }

    /// The time of the next frame in presentation order.
    pub(crate) fn next(&mut self, ticks: Option<i64>) -> i64 {
        let following = self
            .last_ns
            .map_or(0, |last| last.saturating_add(self.period_ns));
        let time = match ticks.filter(|_| self.trusted) {
            None => following,
            Some(ticks) => {
                let stamp = self.nanoseconds(ticks);
                let origin = *self
                    .origin_ns
                    .get_or_insert(stamp.saturating_sub(following));
                let time = stamp.saturating_sub(origin);
                match self.last_ns {
                    Some(last) if time <= last.saturating_sub(SPLICE_NS) => {
                        self.origin_ns = Some(stamp.saturating_sub(following));
                        following
                    }
                    Some(last) if time <= last => last.saturating_add(1),
                    _ => time,
                }
            }
        };
        self.last_ns = Some(time);
        time
    }

    fn nanoseconds(&self, ticks: i64) -> i64 {
        let exact = i128::from(ticks) * i128::from(self.numerator) * 1_000_000_000;
        let denominator = i128::from(self.denominator);
        let rounded = (exact + denominator / 2).div_euclid(denominator);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(ticks: &[Option<i64>]) -> Vec<i64> {
        let mut timeline = Timeline::new(1, 1000, 40_000_000, true);
        ticks
            .iter()
            .map(|&ticks| timeline.next(ticks) / 1_000_000)
            .collect()
    }

    #[test]
    fn starts_at_zero_and_fills_gaps_at_the_frame_rate() {
        assert_eq!(
            times(&[Some(1400), Some(1440), None, Some(1540)]),
            [0, 40, 80, 140]
        );
        assert_eq!(times(&[None, None, Some(500), Some(533)]), [0, 40, 80, 113]);
    }

    #[test]
    fn goes_on_after_a_splice() {
        assert_eq!(
            times(&[Some(0), Some(5000), Some(0), Some(40)]),
            [0, 5000, 5040, 5080]
        );
    }

    #[test]
    fn untrusted_stamps_are_counted() {
        let mut timeline = Timeline::new(1, 25, 40_000_000, false);
        assert_eq!(
            [timeline.next(Some(7)), timeline.next(Some(3))],
            [0, 40_000_000]
        );
    }

    proptest! {
        #[test]
        fn always_grows(ticks in prop::collection::vec(prop::option::of(-1_000_000_000i64..1_000_000_000), 1..50)) {
            let mut timeline = Timeline::new(1, 90_000, 33_366_667, true);
            let times: Vec<i64> = ticks.iter().map(|&t| timeline.next(t)).collect();
            prop_assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
