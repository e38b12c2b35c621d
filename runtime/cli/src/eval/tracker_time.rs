//! What a frame costs the tracker, asked of its metrics while a graph runs.

use tracklens_node::metrics::FRAME_DURATION;

use super::endpoint::{Endpoint, total};
use super::graph::Graph;

/// The operation under which trackers count their work.
const TRACK: &str = "operation=\"track\"";

/// The time of one run.
pub(crate) struct TrackerTime {
    endpoint: Endpoint,
    /// Seconds and frames when last asked.
    last: Option<(f64, f64)>,
}

impl TrackerTime {
    /// Gives the graph's tracker an endpoint.
    pub(crate) fn install(graph: &mut Graph, tracker: &str) -> eyre::Result<Self> {
        let endpoint = Endpoint::install(graph, tracker)?;
        Ok(Self {
            endpoint,
            last: None,
        })
    }

    /// Asks the node; where it does not answer, the last answer stays.
    pub(crate) fn ask(&mut self) {
        let Some(page) = self.endpoint.page() else {
            return;
        };
        let part = |name: &str| total(&page, &format!("{FRAME_DURATION}_{name}"), TRACK);
        self.last = part("sum").zip(part("count")).or(self.last);
    }

    /// Milliseconds a frame.
    pub(crate) fn per_frame(&self) -> Option<f64> {
        self.last
            .filter(|(_, frames)| *frames > 0.0)
            .map(|(seconds, frames)| 1000.0 * seconds / frames)
    }
}
