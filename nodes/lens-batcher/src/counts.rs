//! What happened, as numbers: for metrics, and for whoever runs a scheduler without an endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

/// Calls to the service, and questions answered without one (counter; `status`, `cached`).
pub const CALLS: &str = "lens_api_calls_total";
/// Time from a call's start to its answer (histogram).
pub const LATENCY: &str = "lens_api_latency_seconds";
/// Share of look-ups that the cache answered (gauge, 0 to 1).
pub const HIT_RATE: &str = "lens_cache_hit_rate";
/// Pictures in a call (histogram).
pub const BATCH: &str = "lens_batch_size";
/// Pictures that wait to be sent (gauge).
pub const QUEUE: &str = "lens_queue_length";
/// Questions given up (counter; `reason`).
pub const DROPPED: &str = "lens_questions_dropped_total";
/// Questions that got the answer of one that looks alike and was asked (counter).
pub const TWINS: &str = "lens_duplicates_total";
/// Pictures sent again (counter).
pub const RETRIES: &str = "lens_retries_total";
/// Whether the service is left alone because it does not work (gauge, 0 or 1).
pub const BREAKER: &str = "lens_circuit_open";

/// Numbers since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls by how they ended.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls by their number of pictures.
    pub batches: BTreeMap<usize, u64>,
    /// Questions that the cache was asked.
    pub look_ups: u64,
    /// Those that it answered.
    pub hits: u64,
    /// Questions that waited with another one.
    pub twins: u64,
    /// Questions answered, from the cache or not.
    pub answered: u64,
    /// Questions that failed.
    pub failed: u64,
    /// Questions dropped because too many waited.
    pub dropped: u64,
    /// Pictures sent again.
    pub retries: u64,
    /// How often the breaker opened after having been closed.
    pub opened: u64,
    /// How often it closed again.
    pub closed: u64,
    /// Most pictures that waited.
    pub longest_queue: usize,
}

impl Counts {
    /// All calls.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(crate) fn looked_up(&mut self, hit: bool) {
        self.look_ups += 1;
        self.hits += u64::from(hit);
        metrics::gauge!(HIT_RATE).set(self.hits as f64 / self.look_ups as f64);
    }

    pub(crate) fn twin(&mut self) {
        self.twins += 1;
        metrics::counter!(TWINS).increment(1);
    }

    pub(crate) fn batch(&mut self, pictures: usize) {
        *self.batches.entry(pictures).or_default() += 1;
        metrics::histogram!(BATCH).record(pictures as f64);
    }

    pub(crate) fn waiting(&mut self, pictures: usize) {
        self.longest_queue = self.longest_queue.max(pictures);
        metrics::gauge!(QUEUE).set(pictures as f64);
    }

    pub(crate) fn call(&mut self, status: &'static str, took: Duration) {
        *self.calls.entry(status).or_default() += 1;
        metrics::counter!(CALLS, "status" => status, "cached" => "false").increment(1);
        metrics::histogram!(LATENCY).record(took.as_secs_f64());
    }

    pub(crate) fn answered(&mut self, cached: bool) {
        self.answered += 1;
        if cached {
            metrics::counter!(CALLS, "status" => "ok", "cached" => "true").increment(1);
        }
    }

    pub(crate) fn failed(&mut self) {
        self.failed += 1;
        metrics::counter!(DROPPED, "reason" => "failed").increment(1);
    }

    pub(crate) fn dropped(&mut self) {
        self.dropped += 1;
        metrics::counter!(DROPPED, "reason" => "queue_full").increment(1);
        if self.dropped.is_power_of_two() {
            tracing::warn!(
                count = self.dropped,
                "more questions than the service may be asked: the oldest are dropped"
            );
        }
    }

    pub(crate) fn retried(&mut self) {
        self.retries += 1;
        metrics::counter!(RETRIES).increment(1);
    }

    pub(crate) fn opened(&mut self, said: &str) {
        // Once per outage: a probe that fails opens it again.
        if self.opened == self.closed {
            self.opened += 1;
            metrics::gauge!(BREAKER).set(1.0);
            tracing::error!("the service does not work and is left alone for a while: {said}");
        }
    }

    pub(crate) fn closed(&mut self) {
        self.closed = self.opened;
        metrics::gauge!(BREAKER).set(0.0);
        tracing::info!("the service works again");
    }
}
