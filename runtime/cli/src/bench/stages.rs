//! How long each operation of each node takes, from the histograms of its metrics.

use std::collections::BTreeMap;

use serde::Serialize;
use tracklens_node::metrics::{FRAME_CPU, FRAME_DURATION, port};

use crate::streams::exposition::{Sample, fetch, samples};

const INFERENCE: &str = "sam2_inference_duration_seconds";
/// The nodes of graphs/bench.yml, and the tracker of graphs/live.yml.
const NODES: [&str; 6] = [
    "decoder",
    "buffer",
    "prompt-generator",
    "sam2-tracker",
    "iou-tracker",
    "publisher",
];

/// Times of one operation, seconds.
#[derive(Debug, Serialize)]
pub(super) struct Stage {
    pub(super) node: &'static str,
    pub(super) operation: String,
    pub(super) count: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// CPU time of the node's thread, on average, where it is told.
    pub(super) cpu: Option<f64>,
}

/// What the nodes say now.
pub(super) fn pages(first: u16) -> impl Iterator<Item = (&'static str, Vec<Sample>)> {
    NODES
        .into_iter()
        .filter_map(move |node| Some((node, samples(&fetch(port(first, node))?))))
}

#[derive(Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

/// The operations of all nodes.
pub(super) fn stages(pages: &BTreeMap<&'static str, Vec<Sample>>) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (node, samples) in pages {
        let mut histograms: BTreeMap<&str, Histogram> = BTreeMap::new();
        let mut cpu: BTreeMap<&str, Histogram> = BTreeMap::new();
        for sample in samples {
            let of = [FRAME_DURATION, INFERENCE, FRAME_CPU];
            let part = of
                .iter()
                .find_map(|name| Some((*name, sample.name.strip_prefix(name)?)));
            let (Some((name, part)), Some(operation)) = (part, sample.label("operation")) else {
                continue;
            };
            let all = match name {
                FRAME_CPU => &mut cpu,
                _ => &mut histograms,
            };
            let histogram = all.entry(operation).or_default();
            match part {
                "_sum" => histogram.sum += sample.value,
                "_count" => histogram.count += sample.value,
                "_bucket" => {
                    let bound = sample.label("le").and_then(|le| le.parse().ok());
                    histogram
                        .buckets
                        .extend(bound.map(|le: f64| (le, sample.value)));
                }
                _ => {}
            }
        }
        stages.extend(histograms.into_iter().map(|(operation, histogram)| Stage {
            node,
            operation: operation.to_string(),
            count: histogram.count,
            mean: histogram.mean(),
            p50: histogram.quantile(0.5),
            p99: histogram.quantile(0.99),
            cpu: cpu.get(operation).map(Histogram::mean),
        }));
    }
    stages
}

impl Histogram {
    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// Linear inside a bucket, as Prometheus' histogram_quantile.
    fn quantile(&self, q: f64) -> f64 {
        let wanted = q * self.count;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= wanted && bound.is_finite() {
                let inside = (count - below).max(1e-9);
                return low + (bound - low) * (wanted - below) / inside;
            }
            if bound.is_finite() {
                (low, below) = (*bound, *count);
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated_inside_a_bucket() {
        let page = "video_processor_frame_duration_seconds_bucket{operation=\"track\",le=\"0.01\"} 0\n\
                    video_processor_frame_duration_seconds_bucket{operation=\"track\",le=\"0.02\"} 10\n\
                    video_processor_frame_duration_seconds_bucket{operation=\"track\",le=\"+Inf\"} 10\n\
                    video_processor_frame_duration_seconds_sum{operation=\"track\"} 0.16\n\
                    video_processor_frame_duration_seconds_count{operation=\"track\"} 10\n\
                    video_processor_frame_cpu_seconds_sum{operation=\"track\"} 0.09\n\
                    video_processor_frame_cpu_seconds_count{operation=\"track\"} 10\n";
        let stages = stages(&BTreeMap::from([("sam2-tracker", samples(page))]));
        assert_eq!(stages.len(), 1);
        assert!((stages[0].p50 - 0.015).abs() < 1e-9, "{stages:?}");
        assert!((stages[0].mean - 0.016).abs() < 1e-9, "{stages:?}");
        assert!(
            (stages[0].cpu.unwrap_or_default() - 0.009).abs() < 1e-9,
            "{stages:?}"
        );
    }
}
