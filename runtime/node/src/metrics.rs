//! Prometheus metrics: one endpoint per node on 127.0.0.1, and the names that all nodes share.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use metrics::SharedString;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use metrics_util::MetricKindMask;
use tracklens_schemas::{StreamEventKind, StreamId, thread_cpu_time};

/// Open streams (gauge).
pub const ACTIVE_STREAMS: &str = "video_processor_active_streams";
/// Seconds since a stream was opened (gauge; `stream_id`).
pub const STREAM_DURATION: &str = "video_processor_stream_duration_seconds";
/// What a node thinks of a stream (gauge, [`State`]; `stream_id`).
pub const STREAM_STATE: &str = "video_processor_stream_state";
/// Frames by what became of them (counter; `stream_id`, `status`).
pub const FRAMES: &str = "video_processor_frames_total";
/// Time spent on a frame (histogram; `operation`).
pub const FRAME_DURATION: &str = "video_processor_frame_duration_seconds";
/// CPU time of the node's thread spent on a frame (histogram; `operation`).
pub const FRAME_CPU: &str = "video_processor_frame_cpu_seconds";
/// Frames dropped by choice (counter; `stream_id`, `reason`).
pub const FRAMES_DROPPED: &str = "video_processor_frames_dropped_total";
/// Time from a message's sending to its handling (histogram; `edge`).
pub const QUEUE: &str = "video_processor_queue_seconds";
/// Restarts of nodes upstream (counter; `node`).
pub const RESTARTS: &str = "video_processor_restarts_total";
/// Messages that could not be used (counter; `input`, `reason`).
pub const BAD_MESSAGES: &str = "video_processor_bad_messages_total";
/// Version of the node (gauge, always 1; `node`, `version`).
pub const SYSTEM: &str = "video_processor_system";

/// Upper bounds of the histograms' buckets in seconds: 0.2 ms to 10 s.
const BUCKETS: [f64; 15] = [
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// Offsets of the nodes' ports from `METRICS_PORT`.
const OFFSETS: [(&str, u16); 10] = [
    ("decoder", 0),
    ("buffer", 1),
    ("prompt-generator", 2),
    ("sam2-tracker", 3),
    ("iou-tracker", 4),
    ("lens-batcher", 5),
    ("publisher", 6),
    ("ingest", 7),
    ("recorder", 8),
    ("replayer", 9),
];

/// Measures the time of an operation, and the node's thread's CPU time of it.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    start: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu: thread_cpu_time(),
        }
    }

    /// Records both times under this operation.
    pub(crate) fn record(self, operation: impl Into<SharedString>) {
        let operation = operation.into();
        metrics::histogram!(FRAME_DURATION, "operation" => operation.clone())
            .record(self.start.elapsed().as_secs_f64());
        let cpu = thread_cpu_time().saturating_sub(self.cpu);
        metrics::histogram!(FRAME_CPU, "operation" => operation).record(cpu.as_secs_f64());
    }
}

/// The state of a stream at a node, as [`STREAM_STATE`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has ended here; its series go after a while.
    Closed,
    /// Frames come.
    Open,
    /// No frames for STREAM_STALE_TIMEOUT_SECONDS.
    Stale,
}

impl State {
    /// The gauge's value.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Open => 1.0,
            Self::Stale => 2.0,
        }
    }

    /// The state that a value stands for.
    #[must_use]
    pub fn of(value: f64) -> Option<Self> {
        [Self::Closed, Self::Open, Self::Stale]
            .into_iter()
            .find(|state| state.value() == value)
    }
}

/// Tells the state of a stream; once a tick at least, since series that rest are dropped.
pub(crate) fn stream_state(stream: &StreamId, state: State) {
    metrics::gauge!(STREAM_STATE, "stream_id" => stream.to_string()).set(state.value());
}

/// The state that an event leaves a stream in, where it tells one.
pub(crate) fn state_after(event: StreamEventKind) -> Option<State> {
    match event {
        StreamEventKind::Opened | StreamEventKind::Active => Some(State::Open),
        StreamEventKind::Stale => Some(State::Stale),
        StreamEventKind::Closed => Some(State::Closed),
        StreamEventKind::Closing | StreamEventKind::Error | StreamEventKind::Exhausted => None,
    }
}

/// Says again who this is, since series that rest are dropped.
pub(crate) fn system(node: &'static str) {
    metrics::gauge!(SYSTEM, "node" => node, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Offsets that are in use, and so the distance at which a second instance's ports are free.
#[must_use]
pub fn ports_in_a_row() -> u16 {
    OFFSETS.len() as u16
}

/// The port of a node's endpoint.
#[must_use]
pub fn port(first: u16, node: &str) -> u16 {
    let offset = OFFSETS
        .iter()
        .find(|(name, _)| *name == node)
        .map_or(OFFSETS.len() as u16, |(_, offset)| *offset);
    first.saturating_add(offset)
}

/// Serves metrics on 127.0.0.1 until the process ends. A port in use is no reason not to run: it
/// is said once, and the node goes on without an endpoint.
pub(crate) fn serve(first_port: u16, node: &'static str, forget_after: Duration) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(first_port, node)));
    let started = PrometheusBuilder::new()
        .with_http_listener(address)
        .idle_timeout(MetricKindMask::ALL, Some(forget_after))
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
        .and_then(PrometheusBuilder::install);
    match started {
        Ok(()) => {
            tracing::info!(%address, "metrics endpoint");
            system(node);
        }
        Err(error) => tracing::warn!(
            %address, %error,
            "no metrics endpoint; set METRICS_PORT to a free port, or METRICS_ENABLED=false"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_their_values_stand_for_each_other() {
        for state in [State::Closed, State::Open, State::Stale] {
            assert_eq!(State::of(state.value()), Some(state));
        }
        assert_eq!(State::of(1.5), None);
    }

    #[test]
    fn every_node_has_a_port_of_its_own_in_one_row() {
        for (place, (node, offset)) in OFFSETS.iter().enumerate() {
            assert_eq!(usize::from(*offset), place, "{node}");
            assert_eq!(port(9090, node), 9090 + offset);
        }
    }
}
