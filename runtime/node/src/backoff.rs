//! How long to wait before the next attempt: longer each time up to a cap, and never quite the same,
//! so that many clients of a server that comes back do not arrive at once.

use std::time::Duration;

/// Waiting times that double from the first up to the cap ("equal jitter": half of each is fixed,
/// half is chance; Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015).
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits from about `first` to at most `cap`.
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first: first.min(cap),
            cap,
            attempts: 0,
        }
    }

    /// The next waiting time. `chance` is a random number in `0..1`; anything else counts as the
    /// nearer end.
    pub fn next(&mut self, chance: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts = self.attempts.saturating_add(1).min(31);
        let whole = doubled.min(self.cap);
        let chance = if chance.is_nan() {
            0.0
        } else {
            chance.clamp(0.0, 1.0)
        };
        whole / 2 + (whole / 2).mul_f64(chance)
    }

    /// The attempt has worked: begin with the shortest wait again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Failed attempts since the last that worked (at most 31).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(500), Duration::from_secs(30))
    }

    #[test]
    fn doubles_up_to_the_cap_and_starts_again() {
        let mut backoff = backoff();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(250));
    }

    proptest! {
        #[test]
        fn is_never_longer_than_the_cap_nor_shorter_than_half_the_step(
            chances in prop::collection::vec(prop::num::f64::ANY, 1..100),
        ) {
            let mut backoff = backoff();
            for (attempt, chance) in chances.into_iter().enumerate() {
                let wait = backoff.next(chance);
                let step = Duration::from_millis(500).saturating_mul(1 << attempt.min(20));
                let whole = step.min(Duration::from_secs(30));
                prop_assert!(wait >= whole / 2 && wait <= whole, "{attempt}: {wait:?}");
            }
        }
    }
}
