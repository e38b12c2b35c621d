//! How many prompts a run makes, asked of the prompt-generator's metrics while it runs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use super::graph::Graph;

const NODE: &str = "prompt-generator";
/// Its place behind METRICS_PORT (docs/nodes.md).
const PORT_OFFSET: u16 = 2;
/// Prompts so far (counter).
const PROMPTS: &str = "sam2_prompts_generated_total";
/// Frames so far (counter).
const FRAMES: &str = "video_processor_frames_total";
/// The node answers from its own memory; it is at hand, or gone.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The counters of one run.
pub(crate) struct PromptCount {
    port: u16,
    /// Prompts and frames when last asked.
    last: Option<(f64, f64)>,
}

impl PromptCount {
    /// Gives the graph's prompt-generator an endpoint at a free port.
    pub(crate) fn install(graph: &mut Graph) -> eyre::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = free.local_addr()?.port();
        graph.set(NODE, "METRICS_ENABLED", "true")?;
        let first = port.saturating_sub(PORT_OFFSET);
        graph.set(NODE, "METRICS_PORT", &first.to_string())?;
        Ok(Self { port, last: None })
    }

    /// Asks the node; where it does not answer, the last answer stays.
    pub(crate) fn ask(&mut self) {
        if let Some(text) = page(self.port)
            && let Some(frames) = total(&text, FRAMES)
        {
            self.last = Some((total(&text, PROMPTS).unwrap_or(0.0), frames));
        }
    }

    /// Prompts a frame, as far as they were counted.
    pub(crate) fn per_frame(&self) -> Option<f64> {
        self.last
            .filter(|(_, frames)| *frames > 0.0)
            .map(|(prompts, frames)| prompts / frames)
    }
}

fn page(port: u16) -> Option<String> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The sum of a counter over its labels; `None` where there is none.
fn total(page: &str, counter: &str) -> Option<f64> {
    page.lines()
        .filter_map(|line| line.strip_prefix(counter))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.trim().parse::<f64>().ok())
        .reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let page = "# TYPE sam2_prompts_generated_total counter\n\
            sam2_prompts_generated_total{strategy=\"grid\"} 12\n\
            sam2_prompts_generated_total{strategy=\"x y\"} 3\n\
            sam2_prompts_generated_total_more 100\n\
            video_processor_frames_total{stream_id=\"a\",status=\"received\"} 30\n";
        assert_eq!(total(page, PROMPTS), Some(15.0));
        assert_eq!(total(page, FRAMES), Some(30.0));
        assert_eq!(total(page, "absent"), None);
    }
}
