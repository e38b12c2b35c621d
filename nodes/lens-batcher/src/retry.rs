//! How long to wait before a call is made again.

use std::time::Duration;

/// Longest wait of our own choosing.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest wait that a service may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// How often and how soon.
#[derive(Clone, Copy, Debug)]
pub struct RetryRules {
    /// Further attempts after the first.
    pub attempts: u8,
    /// The wait before the first of them; doubled each time.
    pub delay: Duration,
}

impl RetryRules {
    /// The wait after so many failures (1 or more), between half and one and a half of what doubling
    /// gives: many that failed together shall not come back together.
    #[must_use]
    pub fn wait(&self, failures: u8, random: &mut fastrand::Rng) -> Duration {
        let doubled = self
            .delay
            .saturating_mul(1 << failures.clamp(1, 16).saturating_sub(1));
        doubled.min(LONGEST).mul_f64(0.5 + random.f64())
    }
}

/// What a `Retry-After` header asks for. Seconds are understood; a date, which needs both clocks to
/// be right, is taken as a second.
#[must_use]
pub fn retry_after(header: &str) -> Duration {
    let seconds: Option<f64> = header.trim().parse().ok();
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    Duration::from_secs_f64(seconds.unwrap_or(1.0).min(LONGEST_ASKED.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_scatter() {
        let rules = RetryRules {
            attempts: 2,
            delay: Duration::from_millis(100),
        };
        let mut random = fastrand::Rng::with_seed(7);
        for (failures, least, most) in [
            (1, 50, 150),
            (2, 100, 300),
            (4, 400, 1200),
            (200, 15_000, 45_000),
        ] {
            let waits: Vec<u128> = (0..200)
                .map(|_| rules.wait(failures, &mut random).as_millis())
                .collect();
            assert!(
                waits.iter().all(|wait| (least..=most).contains(wait)),
                "{failures}: {waits:?}"
            );
            let different: std::collections::BTreeSet<_> = waits.iter().collect();
            assert!(different.len() > 20);
        }
    }

    #[test]
    fn a_service_may_ask_for_a_wait_but_not_for_a_year() {
        let seconds = |text| retry_after(text).as_secs_f64();
        assert_eq!(
            ["3", " 0.5 ", "99999999", "-1"].map(seconds),
            [3.0, 0.5, 600.0, 1.0]
        );
        assert_eq!(seconds("Wed, 21 Oct 2026 07:28:00 GMT"), 1.0);
    }
}
