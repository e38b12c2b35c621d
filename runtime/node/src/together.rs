//! What is sent together: a message right behind another one costs those who take it less than one
//! that wakes them.

use std::time::{Duration, Instant};

/// In a lossless graph, what the events that wait lead to is sent together, at most so much later.
const EVENTS: Duration = Duration::from_millis(1);
/// So do results of a node that has more to do at once, as long as they are few and early.
const RESULTS: Duration = Duration::from_millis(250);
/// So many of them wait for each other at most.
const MOST: usize = 8;

/// Decides when a node sends what it has.
#[derive(Debug)]
pub(crate) struct Together {
    live: bool,
    sent: Instant,
    /// Results that wait.
    results: usize,
}

impl Together {
    pub(crate) fn new(live: bool, now: Instant) -> Self {
        Self {
            live,
            sent: now,
            results: 0,
        }
    }

    /// Whether it is time to send although events wait.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let patience = if self.results == 0 { EVENTS } else { RESULTS };
        self.live || now.saturating_duration_since(self.sent) >= patience
    }

    /// The node has done something, and will be asked for more at once. Whether that waits to be
    /// sent with what comes.
    pub(crate) fn holds_result(&mut self, now: Instant) -> bool {
        self.results += 1;
        self.results < MOST && !self.is_due(now)
    }

    /// All has been sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent = now;
        self.results = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_graph_waits_for_nothing() {
        let now = Instant::now();
        let mut together = Together::new(true, now);
        assert!(together.is_due(now));
        assert!(!together.holds_result(now));
    }

    #[test]
    fn events_wait_for_a_millisecond() {
        let now = Instant::now();
        let mut together = Together::new(false, now);
        assert!(!together.is_due(now + EVENTS / 2));
        assert!(together.is_due(now + EVENTS));
        together.sent(now + EVENTS);
        assert!(!together.is_due(now + EVENTS));
    }

    #[test]
    fn quick_results_are_sent_in_groups() {
        let now = Instant::now();
        let mut together = Together::new(false, now);
        for _group in 0..3 {
            for _result in 1..MOST {
                assert!(together.holds_result(now));
                assert!(!together.is_due(now + EVENTS));
            }
            assert!(!together.holds_result(now));
            together.sent(now);
        }
    }

    #[test]
    fn slow_results_and_the_first_after_a_pause_are_sent_at_once() {
        let now = Instant::now();
        let mut together = Together::new(false, now);
        assert!(!together.holds_result(now + RESULTS));
        together.sent(now + RESULTS);
        assert!(together.holds_result(now + RESULTS * 3 / 2));
        assert!(together.is_due(now + RESULTS * 2));
        assert!(!together.holds_result(now + RESULTS * 2));
    }
}
