//! How fast one sender may send: a token bucket whose tokens are bytes.

use std::time::Duration;

/// What a message costs beside its bytes, so that a flood of tiny ones is limited, too.
const OVERHEAD: usize = 1024;

/// The bucket of one sender. Time is given from outside.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    bytes_per_second: f64,
    /// At most a second's worth.
    tokens: f64,
    last: Duration,
}

impl RateLimit {
    /// A full bucket.
    #[must_use]
    pub fn new(megabits_per_second: f64) -> Self {
        let bytes_per_second = (megabits_per_second * 125_000.0).max(1.0);
        Self {
            bytes_per_second,
            tokens: bytes_per_second,
            last: Duration::ZERO,
        }
    }

    /// A message of this length has come in, so long after the start: how long to wait before the
    /// next is read.
    pub fn take(&mut self, len: usize, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.tokens = (self.tokens + elapsed * self.bytes_per_second).min(self.bytes_per_second);
        self.tokens -= (len + OVERHEAD) as f64;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / self.bytes_per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_may_come_at_once_and_then_the_rate_holds() {
        let mut limit = RateLimit::new(8.0);
        assert_eq!(
            limit.take(999_000 - OVERHEAD, Duration::ZERO),
            Duration::ZERO
        );
        let wait = limit.take(501_000 - OVERHEAD, Duration::ZERO);
        assert!((wait.as_secs_f64() - 0.5).abs() < 1e-9, "{wait:?}");
        assert_eq!(limit.take(0, Duration::from_secs(9)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_than_the_rate_and_a_second_comes_through(
            messages in prop::collection::vec((0usize..200_000, 0u64..50), 1..200), rate in 0.1f64..100.0,
        ) {
            let mut limit = RateLimit::new(rate);
            let (mut now, mut bytes, mut last) = (Duration::ZERO, 0usize, 0);
            for (len, idle_ms) in messages {
                now += Duration::from_millis(idle_ms);
                now += limit.take(len, now);
                bytes += len;
                last = len;
            }
            // The last message may have brought the debt that the wait after it pays.
            let allowed = rate * 125_000.0 * (now.as_secs_f64() + 1.0);
            prop_assert!((bytes - last) as f64 <= allowed + 1.0, "{} {}", bytes, allowed);
        }
    }
}
