//! What the pages of all nodes together say of each stream.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tracklens_node::metrics::{
    FRAMES, FRAMES_DROPPED, STREAM_DURATION, STREAM_STATE, SYSTEM, State as AtNode,
};

use super::exposition::{Sample, samples};

/// Of the publisher: frames with tracks per second.
const FPS: &str = "video_processor_fps";
/// Of the trackers: objects on the last frame.
const OBJECTS: &str = "video_processor_active_tracks";

/// A node that answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    /// Its name; with its port, where several have the same.
    pub(crate) node: String,
    pub(crate) port: u16,
    pub(crate) version: String,
    #[serde(skip)]
    samples: Vec<Sample>,
}

impl Node {
    /// The node that serves this page; `None` where it is nobody of ours.
    pub(crate) fn read(port: u16, page: &str) -> Option<Self> {
        let samples = samples(page);
        let system = samples.iter().find(|sample| sample.name == SYSTEM)?;
        Some(Self {
            node: system.label("node")?.to_owned(),
            port,
            version: system.label("version").unwrap_or_default().to_owned(),
            samples,
        })
    }

    fn is_tracker(&self) -> bool {
        self.node.contains("tracker")
    }
}

/// A stream's state over all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Frames come.
    Open,
    /// At some node, no frames have come for STREAM_STALE_TIMEOUT_SECONDS.
    Stale,
    /// It has ended at some nodes, and others still work on it.
    Closing,
    /// It has ended everywhere.
    Closed,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Stale => "stale",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// Of the states at the nodes that tell one.
    fn of(states: &[AtNode]) -> Self {
        let is = |state| states.contains(&state);
        match (is(AtNode::Stale), is(AtNode::Open), is(AtNode::Closed)) {
            (true, _, _) => Self::Stale,
            (_, true, true) => Self::Closing,
            (_, false, true) => Self::Closed,
            (_, _, false) => Self::Open,
        }
    }
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Stream {
    pub(crate) stream_id: String,
    pub(crate) state: State,
    /// Seconds since the first of the nodes that have it opened it.
    pub(crate) age_seconds: Option<f64>,
    /// Frames with tracks per second, as the publisher measures them.
    pub(crate) fps: Option<f64>,
    pub(crate) frames_decoded: Option<u64>,
    /// Frames that have come to the tracker; without one, to the node that got most.
    pub(crate) frames_received: Option<u64>,
    /// Frames dropped by choice, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Objects on the tracker's last frame.
    pub(crate) objects: Option<u64>,
    /// The nodes that have it.
    pub(crate) nodes: Vec<String>,
}

/// Gives nodes of the same name their port as a surname.
pub(crate) fn tell_apart(nodes: &mut [Node]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes.iter() {
        *count.entry(node.node.clone()).or_default() += 1;
    }
    for node in nodes {
        if count.get(&node.node).is_some_and(|count| *count > 1) {
            node.node = format!("{}:{}", node.node, node.port);
        }
    }
}

/// All streams that a node tells of, by their id.
pub(crate) fn streams(nodes: &[Node]) -> Vec<Stream> {
    let ids: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|node| &node.samples)
        .filter_map(|sample| sample.label("stream_id"))
        .collect();
    ids.into_iter().map(|id| stream(id, nodes)).collect()
}

fn stream(id: &str, nodes: &[Node]) -> Stream {
    let mut states = Vec::new();
    let mut holders = Vec::new();
    for node in nodes {
        let own = || of(node, id);
        let state = own()
            .find(|sample| sample.name == STREAM_STATE)
            .and_then(|sample| AtNode::of(sample.value));
        states.extend(state);
        // Sources do not tell the states of streams that they open themselves.
        if own().next().is_some() && state != Some(AtNode::Closed) {
            holders.push(node);
        }
    }
    let state = State::of(&states);
    if state == State::Closed {
        holders.clear();
    }
    let held = |name| values(&holders, id, name);
    let everyone: Vec<&Node> = nodes.iter().collect();
    let trackers: Vec<&Node> = nodes.iter().filter(|node| node.is_tracker()).collect();
    let received = |nodes: &[&Node]| frames(nodes, id, "received").reduce(f64::max);
    Stream {
        stream_id: id.into(),
        state,
        age_seconds: held(STREAM_DURATION).reduce(f64::max),
        fps: held(FPS).reduce(f64::max),
        frames_decoded: whole(frames(&everyone, id, "decoded").reduce(f64::max)),
        frames_received: whole(received(&trackers).or_else(|| received(&everyone))),
        dropped: dropped(nodes, id),
        objects: whole(held(OBJECTS).reduce(f64::max)),
        nodes: holders.iter().map(|node| node.node.clone()).collect(),
    }
}

/// A node's samples of a stream.
fn of<'a>(node: &'a Node, id: &'a str) -> impl Iterator<Item = &'a Sample> {
    let samples = node.samples.iter();
    samples.filter(move |sample| sample.label("stream_id") == Some(id))
}

fn values<'a>(nodes: &[&'a Node], id: &'a str, name: &'a str) -> impl Iterator<Item = f64> {
    let samples = nodes.iter().copied().flat_map(move |node| of(node, id));
    samples.filter(move |s| s.name == name).map(|s| s.value)
}

fn frames<'a>(nodes: &[&'a Node], id: &'a str, status: &'a str) -> impl Iterator<Item = f64> {
    let samples = nodes.iter().copied().flat_map(move |node| of(node, id));
    samples
        .filter(move |s| s.name == FRAMES && s.label("status") == Some(status))
        .map(|s| s.value)
}

fn dropped(nodes: &[Node], id: &str) -> BTreeMap<String, u64> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for sample in nodes.iter().flat_map(|node| of(node, id)) {
        if sample.name == FRAMES_DROPPED
            && let (Some(reason), Some(count)) = (sample.label("reason"), whole(Some(sample.value)))
        {
            *reasons.entry(reason.into()).or_default() += count;
        }
    }
    reasons
}

fn whole(value: Option<f64>) -> Option<u64> {
    value
        .filter(|value| *value >= 0.0)
        .map(|value| value as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str, port: u16, lines: &[&str]) -> Node {
        let system = format!("{SYSTEM}{{node=\"{name}\",version=\"0.1.0\"}} 1");
        let page = format!("{system}\n{}\n", lines.join("\n"));
        Node::read(port, &page).unwrap()
    }

    const DECODED: &str = r#"video_processor_frames_total{stream_id="a",status="decoded"} 90"#;
    const RECEIVED: &str = r#"video_processor_frames_total{stream_id="a",status="received"} 80"#;
    const DROPPED: &str =
        r#"video_processor_frames_dropped_total{stream_id="a",reason="newer_frame"} 10"#;
    const OPEN: &str = r#"video_processor_stream_state{stream_id="a"} 1"#;
    const STALE: &str = r#"video_processor_stream_state{stream_id="a"} 2"#;
    const CLOSED: &str = r#"video_processor_stream_state{stream_id="a"} 0"#;
    const AGE: &str = r#"video_processor_stream_duration_seconds{stream_id="a"} 12.5"#;
    const TRACKS: &str = r#"video_processor_active_tracks{stream_id="a"} 3"#;
    const RATE: &str = r#"video_processor_fps{stream_id="a"} 24.5"#;

    #[test]
    fn pages_of_strangers_are_none_of_ours() {
        assert_eq!(Node::read(9100, "node_load1 0.5\n"), None);
        assert_eq!(Node::read(9100, "<html>\n"), None);
    }

    #[test]
    fn one_stream_is_put_together_from_all_nodes() {
        let nodes = [
            node("decoder", 9090, &[DECODED]),
            node("buffer", 9091, &[OPEN, AGE, DROPPED]),
            node("iou-tracker", 9094, &[OPEN, RECEIVED, TRACKS]),
            node("publisher", 9096, &[OPEN, RATE]),
        ];
        let expected = Stream {
            stream_id: "a".into(),
            state: State::Open,
            age_seconds: Some(12.5),
            fps: Some(24.5),
            frames_decoded: Some(90),
            frames_received: Some(80),
            dropped: BTreeMap::from([("newer_frame".into(), 10)]),
            objects: Some(3),
            nodes: ["decoder", "buffer", "iou-tracker", "publisher"]
                .map(String::from)
                .to_vec(),
        };
        assert_eq!(streams(&nodes), [expected]);
    }

    #[test]
    fn the_state_is_the_worst_that_a_node_tells() {
        let state = |states: &[&str]| {
            let nodes: Vec<Node> = states.iter().map(|s| node("buffer", 1, &[s])).collect();
            streams(&nodes)[0].state
        };
        assert_eq!(state(&[OPEN, OPEN]), State::Open);
        assert_eq!(state(&[OPEN, STALE]), State::Stale);
        assert_eq!(state(&[CLOSED, OPEN]), State::Closing);
        assert_eq!(state(&[CLOSED, CLOSED]), State::Closed);
        assert_eq!(state(&[DECODED]), State::Open);
    }

    #[test]
    fn nobody_has_a_stream_that_is_closed() {
        let nodes = [
            node("decoder", 9090, &[DECODED]),
            node("buffer", 9091, &[CLOSED, AGE]),
        ];
        let streams = streams(&nodes);
        assert_eq!((streams[0].age_seconds, streams[0].nodes.len()), (None, 0));
    }

    #[test]
    fn two_of_a_name_are_told_apart_by_their_ports() {
        let mut nodes = [
            node("iou-tracker", 9094, &[OPEN]),
            node("iou-tracker", 9104, &[]),
            node("publisher", 9096, &[OPEN]),
        ];
        tell_apart(&mut nodes);
        let names: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
        assert_eq!(names, ["iou-tracker:9094", "iou-tracker:9104", "publisher"]);
        assert_eq!(streams(&nodes)[0].nodes, ["iou-tracker:9094", "publisher"]);
    }
}
