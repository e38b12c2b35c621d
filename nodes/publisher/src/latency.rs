//! How long it takes from the capture of a frame to its tracks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Each step is so much longer than the one before: quantiles are that exact.
const RATIO: f64 = 1.02;
/// The first step in milliseconds, and their number: up to two minutes.
const FIRST_MS: f64 = 0.5;
const STEPS: usize = 630;

/// Latencies counted by steps of two per cent.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    counts: Vec<u64>,
    total: u64,
}

/// What is told of them, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Half of the frames were faster.
    pub p50: f64,
    /// All but one of a hundred were.
    pub p99: f64,
}

impl Latency {
    /// Takes in one more.
    pub fn add(&mut self, latency: Duration) {
        let ms = latency.as_secs_f64() * 1e3;
        let step = ((ms / FIRST_MS).max(1.0).ln() / RATIO.ln()) as usize;
        self.counts.resize(STEPS, 0);
        self.counts[step.min(STEPS - 1)] += 1;
        self.total += 1;
    }

    /// The latency in milliseconds that this share of the frames was no slower than.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let upper = FIRST_MS * RATIO.powi(step.unwrap_or_default() as i32 + 1);
        // A tenth of a millisecond is more than the steps can tell.
        (10.0 * upper).round() / 10.0
    }

    /// What is told, once there is something.
    #[must_use]
    pub fn summary(&self) -> Option<LatencySummary> {
        (self.total > 0).then(|| LatencySummary {
            p50: self.quantile(0.5),
            p99: self.quantile(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_in_a_hundred_is_beyond_the_last_quantile() {
        let mut latency = Latency::default();
        assert_eq!(latency.summary(), None);
        (0..1000).for_each(|_| latency.add(Duration::from_millis(40)));
        (0..10).for_each(|_| latency.add(Duration::from_secs(2)));
        let summary = latency.summary().unwrap();
        assert!((40.0..41.0).contains(&summary.p50), "{summary:?}");
        assert!((40.0..41.0).contains(&summary.p99), "{summary:?}");
        (0..10).for_each(|_| latency.add(Duration::from_secs(2)));
        assert!(latency.summary().unwrap().p99 > 1900.0);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_step(mut ms in prop::collection::vec(1.0..60_000.0, 1..200)) {
            let mut latency = Latency::default();
            ms.iter().for_each(|ms| latency.add(Duration::from_secs_f64(ms / 1e3)));
            ms.sort_by(f64::total_cmp);
            let exact = ms[(0.5 * ms.len() as f64).ceil() as usize - 1];
            let ratio = latency.summary().unwrap().p50 / exact;
            prop_assert!((0.93..1.13).contains(&ratio) || exact < 2.0, "{ratio}");
        }
    }
}
