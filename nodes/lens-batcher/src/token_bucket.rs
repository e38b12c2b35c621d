//! Keeps calls below a rate, in every window of one second.
//!
//! A bucket that is refilled at a steady rate lets twice its size through in a bad second: all that
//! was saved, and all that drips in. Here each of the `limit` tokens comes back one second after the
//! call it was taken for, so any window of one second holds at most `limit` calls.
//!
//! What the service counts is when a call *arrives*, and that is not known here: it lies between the
//! call's start and its answer. So a token comes back one second after the answer; a service that
//! takes long to answer would be slowed down by this, hence at most [`SLACK`] is added to the second.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The window in which calls are counted.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Longest time that a call is assumed to be on its way.
pub const SLACK: Duration = Duration::from_millis(250);

/// A token taken, for giving it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// Tokens for calls. Times are since any fixed moment.
#[derive(Debug)]
pub struct TokenBucket {
    limit: usize,
    /// When tokens that were given back can be taken again, in order.
    resting: VecDeque<Duration>,
    /// Start of the calls that have no answer yet.
    out: BTreeMap<Token, Duration>,
    next: u64,
}

impl TokenBucket {
    /// A bucket with `limit` (at least 1) tokens. `used_before`: a process before this one may have
    /// used them all until now.
    #[must_use]
    pub fn new(limit: usize, used_before: Option<Duration>) -> Self {
        let limit = limit.max(1);
        let resting = used_before.map(|now| vec![now + WINDOW; limit]);
        Self {
            limit,
            resting: resting.unwrap_or_default().into(),
            out: BTreeMap::new(),
            next: 0,
        }
    }

    /// A token for a call that starts now; `None` where it has to wait.
    pub fn take(&mut self, now: Duration) -> Option<Token> {
        while self.resting.front().is_some_and(|free| *free <= now) {
            self.resting.pop_front();
        }
        // A call that gets no answer for long rests no longer than one that is answered late.
        let late = |start: &&Duration| **start + WINDOW + SLACK <= now;
        let late = self.out.values().filter(late).count();
        if self.resting.len() + self.out.len() - late >= self.limit {
            return None;
        }
        let token = Token(self.next);
        self.next += 1;
        self.out.insert(token, now);
        Some(token)
    }

    /// The call of this token has been answered, or given up.
    pub fn answered(&mut self, token: Token, now: Duration) {
        if let Some(start) = self.out.remove(&token) {
            let free = now.min(start + SLACK) + WINDOW;
            let place = self.resting.partition_point(|other| *other <= free);
            self.resting.insert(place, free);
        }
    }

    /// When a token can be taken at the earliest, if no answer comes before.
    #[must_use]
    pub fn free_at(&self, now: Duration) -> Duration {
        let mut back: Vec<Duration> = self.resting.iter().copied().collect();
        back.extend(self.out.values().map(|start| *start + WINDOW + SLACK));
        if back.len() < self.limit {
            return now;
        }
        back.sort_unstable();
        back[back.len() - self.limit].max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Calls wanted at these moments, each answered after its time: when which were let through, and
    /// when they arrived at the service (at some share of their time).
    fn through(
        limit: usize,
        before: Option<Duration>,
        wanted: &[(u64, u64, f64)],
    ) -> (Vec<u64>, Vec<u64>) {
        let mut bucket = TokenBucket::new(limit, before);
        let (mut now, mut starts, mut arrivals) = (0, Vec::new(), Vec::new());
        let mut out: Vec<(u64, Token)> = Vec::new();
        for (gap, takes, share) in wanted {
            now += gap;
            out.sort_unstable();
            while out.first().is_some_and(|(end, _)| *end <= now) {
                let (end, token) = out.remove(0);
                bucket.answered(token, Duration::from_micros(end));
            }
            if let Some(token) = bucket.take(Duration::from_micros(now)) {
                starts.push(now);
                let on_its_way = (*takes as f64 * share) as u64;
                arrivals.push(now + on_its_way.min(SLACK.as_micros() as u64));
                out.push((now + takes, token));
            }
        }
        arrivals.sort_unstable();
        (starts, arrivals)
    }

    fn most_in_a_window(moments: &[u64]) -> usize {
        let second = WINDOW.as_micros() as u64;
        let in_window = |from: &u64| {
            moments
                .iter()
                .filter(|m| (*from..from + second).contains(m))
                .count()
        };
        moments.iter().map(in_window).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_second_holds_more_calls_than_the_limit(
            limit in 1usize..12,
            wanted in prop::collection::vec(
                (prop_oneof![0u64..3_000, 0u64..400_000, 0u64..2_000_000],
                 prop_oneof![0u64..50_000, 0u64..3_000_000], 0.0..1.0), 1..200),
        ) {
            let (starts, arrivals) = through(limit, None, &wanted);
            prop_assert!(most_in_a_window(&starts) <= limit);
            prop_assert!(most_in_a_window(&arrivals) <= limit);
        }

        #[test]
        fn a_token_is_there_when_the_bucket_says_so(
            limit in 1usize..6, takes in prop::collection::vec(0u64..600_000, 1..40),
        ) {
            let mut bucket = TokenBucket::new(limit, None);
            let mut now = Duration::ZERO;
            for take in takes {
                now += Duration::from_micros(take);
                if let Some(token) = bucket.take(now) {
                    bucket.answered(token, now + Duration::from_micros(take / 2));
                } else {
                    let free = bucket.free_at(now);
                    prop_assert!(free > now);
                    prop_assert!(bucket.take(free - Duration::from_micros(1)).is_none());
                    now = free;
                    prop_assert!(bucket.take(now).is_some());
                }
            }
        }
    }

    #[test]
    fn quick_answers_leave_nearly_the_whole_rate() {
        let wanted: Vec<(u64, u64, f64)> = (0..10_000).map(|_| (1000, 20_000, 0.5)).collect();
        let (starts, _) = through(10, None, &wanted);
        assert!(
            (95..=100).contains(&starts.len()),
            "{} in ten seconds",
            starts.len()
        );
    }

    #[test]
    fn a_restarted_process_waits_for_the_second_before_it() {
        let wanted = [(0, 0, 0.0), (999_999, 0, 0.0), (1, 0, 0.0)];
        let (starts, _) = through(3, Some(Duration::ZERO), &wanted);
        assert_eq!(starts, [1_000_000]);
    }
}
