//! A node's metrics, asked for while a graph runs.

use std::net::{Ipv4Addr, TcpListener};

use tracklens_node::metrics::port;

use super::graph::Graph;
use crate::streams::exposition::fetch;

/// The metrics of a node.
#[derive(Debug)]
pub(crate) struct Endpoint {
    port: u16,
}

impl Endpoint {
    /// Gives a node of the graph an endpoint at a free port.
    pub(crate) fn install(graph: &mut Graph, node: &str) -> eyre::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let own = free.local_addr()?.port();
        graph.set(node, "METRICS_ENABLED", "true")?;
        let first = own.saturating_sub(port(0, node));
        graph.set(node, "METRICS_PORT", &first.to_string())?;
        Ok(Self { port: own })
    }

    /// The page that the node serves now; `None` where it does not answer.
    pub(crate) fn page(&self) -> Option<String> {
        fetch(self.port)
    }
}

/// The sum of a metric over its labels, of those lines that have `label`; `None` where there is none.
pub(crate) fn total(page: &str, metric: &str, label: &str) -> Option<f64> {
    page.lines()
        .filter_map(|line| line.strip_prefix(metric))
        .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        .filter_map(|rest| rest.rsplit(' ').next()?.trim().parse::<f64>().ok())
        .reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let page = "# TYPE sam2_prompts_generated_total counter\n\
            sam2_prompts_generated_total{strategy=\"grid\"} 12\n\
            sam2_prompts_generated_total{strategy=\"x y\"} 3\n\
            sam2_prompts_generated_total_more 100\n\
            video_processor_frames_total{stream_id=\"a\",status=\"received\"} 30\n";
        let prompts = "sam2_prompts_generated_total";
        assert_eq!(total(page, prompts, ""), Some(15.0));
        assert_eq!(total(page, prompts, "strategy=\"grid\""), Some(12.0));
        assert_eq!(total(page, "video_processor_frames_total", ""), Some(30.0));
        assert_eq!(total(page, "absent", ""), None);
    }
}
