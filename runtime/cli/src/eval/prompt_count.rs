//! How many prompts a run makes, asked of the prompt-generator's metrics while it runs.

use tracklens_node::metrics::FRAMES;

use super::endpoint::{Endpoint, total};
use super::graph::Graph;

const NODE: &str = "prompt-generator";
/// Prompts so far (counter).
const PROMPTS: &str = "sam2_prompts_generated_total";

/// The counters of one run.
pub(crate) struct PromptCount {
    endpoint: Endpoint,
    /// Prompts and frames when last asked.
    last: Option<(f64, f64)>,
}

impl PromptCount {
    /// Gives the graph's prompt-generator an endpoint.
    pub(crate) fn install(graph: &mut Graph) -> eyre::Result<Self> {
        let endpoint = Endpoint::install(graph, NODE)?;
        Ok(Self {
            endpoint,
            last: None,
        })
    }

    /// Asks the node; where it does not answer, the last answer stays.
    pub(crate) fn ask(&mut self) {
        if let Some(text) = self.endpoint.page()
            && let Some(frames) = total(&text, FRAMES, "")
        {
            self.last = Some((total(&text, PROMPTS, "").unwrap_or(0.0), frames));
        }
    }

    /// Prompts a frame, as far as they were counted.
    pub(crate) fn per_frame(&self) -> Option<f64> {
        self.last
            .filter(|(_, frames)| *frames > 0.0)
            .map(|(prompts, frames)| prompts / frames)
    }
}
