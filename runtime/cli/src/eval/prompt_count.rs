//! How many prompts a run makes, and what looking for them costs, asked of the prompt-generator's
//! metrics while it runs.

use tracklens_node::metrics::{FRAME_DURATION, FRAMES};

use super::endpoint::{Endpoint, total};
use super::graph::Graph;

const NODE: &str = "prompt-generator";
/// Prompts so far (counter).
const PROMPTS: &str = "sam2_prompts_generated_total";

/// The counters of one run.
pub(crate) struct PromptCount {
    endpoint: Endpoint,
    /// When last asked.
    last: Option<Counted>,
}

struct Counted {
    prompts: f64,
    frames: f64,
    /// Time spent on them.
    seconds: f64,
}

/// The operation under which the node counts its work on frames.
const LOOK: &str = "operation=\"frames\"";

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
            let seconds = total(&text, &format!("{FRAME_DURATION}_sum"), LOOK);
            self.last = Some(Counted {
                prompts: total(&text, PROMPTS, "").unwrap_or(0.0),
                frames,
                seconds: seconds.unwrap_or(0.0),
            });
        }
    }

    /// Prompts a frame, as far as they were counted.
    pub(crate) fn per_frame(&self) -> Option<f64> {
        self.each(|counted| counted.prompts)
    }

    /// Milliseconds a frame.
    pub(crate) fn ms_per_frame(&self) -> Option<f64> {
        self.each(|counted| 1000.0 * counted.seconds)
    }

    fn each(&self, what: impl Fn(&Counted) -> f64) -> Option<f64> {
        let last = self.last.as_ref().filter(|last| last.frames > 0.0);
        last.map(|last| what(last) / last.frames)
    }
}
