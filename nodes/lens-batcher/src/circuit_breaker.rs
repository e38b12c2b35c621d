//! Leaves a service alone that does not work.
//!
//! After some failed calls in a row the breaker opens: nothing is asked for a while. Then one call is
//! let through; if it works the breaker closes, if not it stays open, twice as long each time.

use std::time::Duration;

/// Whether the service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Closed,
    /// It is not.
    Open,
    /// One call is on its way to find out.
    HalfOpen,
}

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Failed calls in a row.
    pub failures: u32,
    /// How long it stays open the first time.
    pub first_pause: Duration,
    /// The longest it stays open.
    pub longest_pause: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Counts failures and decides.
#[derive(Debug)]
pub struct CircuitBreaker {
    rules: Rules,
    state: State,
    failures: u32,
    pause: Duration,
    opened: Duration,
}

impl CircuitBreaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Closed,
            failures: 0,
            pause: rules.first_pause,
            opened: Duration::ZERO,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether a call may start now. One that follows is told to [`Self::started`].
    #[must_use]
    pub fn allows(&self, now: Duration) -> bool {
        match self.state {
            State::Closed => true,
            State::Open => now >= self.opened + self.pause,
            State::HalfOpen => false,
        }
    }

    /// When the next call may start, where that is known.
    #[must_use]
    pub fn allows_at(&self) -> Option<Duration> {
        (self.state == State::Open).then(|| self.opened + self.pause)
    }

    /// A call starts.
    pub fn started(&mut self) {
        if self.state == State::Open {
            self.state = State::HalfOpen;
        }
    }

    /// The service has answered, whatever it said. Returns whether the breaker closes with it.
    pub fn works(&mut self) -> bool {
        let closes = self.state != State::Closed;
        (self.state, self.failures, self.pause) = (State::Closed, 0, self.rules.first_pause);
        closes
    }

    /// The service has not answered, or with an error of its own. Returns whether the breaker opens
    /// with it (again, where it was half open).
    pub fn fails(&mut self, now: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures >= self.rules.failures => {}
            State::HalfOpen => self.pause = (2 * self.pause).min(self.rules.longest_pause),
            // A call that started before it opened.
            State::Closed | State::Open => return false,
        }
        (self.state, self.opened) = (State::Open, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn open() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(Rules::default());
        for failure in 1..=5 {
            assert!(breaker.allows(at(0.0)));
            breaker.started();
            assert_eq!(breaker.fails(at(0.0)), failure == 5);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = CircuitBreaker::new(Rules::default());
        for _ in 0..20 {
            (0..4).for_each(|_| assert!(!breaker.fails(at(0.0))));
            assert!(!breaker.works());
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(open().state(), State::Open);
    }

    #[test]
    fn one_call_finds_out_and_closes_it() {
        let mut breaker = open();
        assert!(!breaker.allows(at(0.9)));
        assert_eq!(breaker.allows_at(), Some(at(1.0)));
        assert!(breaker.allows(at(1.0)));
        breaker.started();
        assert!(!breaker.allows(at(5.0)), "one at a time");
        assert!(breaker.works());
        assert!(breaker.allows(at(1.1)));
    }

    #[test]
    fn each_failure_keeps_it_open_for_longer_up_to_the_longest() {
        let mut breaker = open();
        let (mut now, mut pauses) = (at(0.0), Vec::new());
        for _ in 0..7 {
            let next = breaker.allows_at().unwrap_or_default();
            pauses.push((next - now).as_secs());
            now = next;
            breaker.started();
            assert!(breaker.fails(now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert!(!breaker.fails(now), "one that started before");
    }
}
