//! The graph, as far as a node must know it: who sends what to whom, and what waits for credit.

use serde_yaml::Value;

use crate::context::credit_output;

/// From an output to an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The sending node.
    pub from: String,
    /// Its output.
    pub output: String,
    /// The receiving node.
    pub to: String,
    /// Its input.
    pub input: String,
}

/// Nodes and edges of a dataflow's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    nodes: Vec<String>,
    edges: Vec<Edge>,
    variables: Vec<(String, String, String)>,
    spread: bool,
}

impl Graph {
    /// Reads a description; what is none is an empty graph.
    #[must_use]
    pub fn of(description: &Value) -> Self {
        let mut graph = Self::default();
        let nodes = description.get("nodes").and_then(Value::as_sequence);
        for node in nodes.into_iter().flatten() {
            graph.read(node);
        }
        graph
    }

    fn read(&mut self, node: &Value) -> Option<()> {
        let id = node.get("id")?.as_str()?;
        self.nodes.push(id.into());
        let deploy = ["deploy", "_unstable_deploy"].map(|key| node.get(key));
        self.spread |= deploy.into_iter().flatten().any(|value| !value.is_null());
        for (name, value) in entries(node, "env") {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(value) => value.to_string(),
                Value::Number(value) => value.to_string(),
                _ => continue,
            };
            self.variables.push((id.into(), name.into(), text));
        }
        for (input, value) in entries(node, "inputs") {
            let source = value.as_str().or_else(|| value.get("source")?.as_str());
            if let Some((from, output)) = source.and_then(|source| source.split_once('/')) {
                self.edges.push(Edge {
                    from: from.into(),
                    output: output.into(),
                    to: id.into(),
                    input: input.into(),
                });
            }
        }
        Some(())
    }

    /// Whether there is a node of this id.
    #[must_use]
    pub fn has_node(&self, id: &str) -> bool {
        self.nodes.iter().any(|node| node == id)
    }

    /// All edges; timers are edges from `dora`.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The output of a node that waits for credit: what the inputs take that its `credit_` inputs
    /// speak for.
    #[must_use]
    pub fn gated_output(&self, node: &str) -> Option<&str> {
        let credits = self.credits(node);
        let mut gated = credits.flat_map(|credit| {
            let ours = |edge: &&Edge| edge.from == node && edge.to == credit.from;
            let mut edges = self.edges.iter().filter(ours);
            edges.find(|edge| credit_output(&edge.input) == credit.output)
        });
        gated.next().map(|edge| edge.output.as_str())
    }

    /// The edges by which a node's consumers acknowledge.
    pub fn credits<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Edge> {
        let edges = self.edges.iter();
        edges.filter(move |edge| edge.to == node && edge.input.starts_with("credit_"))
    }

    /// The input on which a recorder gives a node credit, as a consumer of its frames: in a lossless
    /// graph on one machine. A recorder must not slow what is live, and is not waited for over a network.
    #[must_use]
    pub fn credited_by(&self, recorder: &str, node: &str, flow_mode: Option<&str>) -> Option<&str> {
        if self.spread || self.is_live(node, flow_mode) {
            return None;
        }
        let output = self.gated_output(node)?;
        let mut edges = self.edges.iter();
        let taken =
            |edge: &&Edge| edge.to == recorder && edge.from == node && edge.output == output;
        edges.find(taken).map(|edge| edge.input.as_str())
    }

    /// Whether nodes are given to machines.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.spread
    }

    /// A variable that the graph sets for a node.
    #[must_use]
    pub fn variable(&self, node: &str, name: &str) -> Option<&str> {
        let mut variables = self.variables.iter();
        let found = variables.find(|(of, key, _)| of == node && key == name);
        found.map(|(_, _, value)| value.as_str())
    }

    /// Whether a node runs live; `own` is `FLOW_MODE` in the process environment.
    fn is_live(&self, node: &str, own: Option<&str>) -> bool {
        self.variable(node, "FLOW_MODE").or(own) == Some("live")
    }
}

/// The named entries of a part of a node.
fn entries<'a>(node: &'a Value, part: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = node.get(part).and_then(Value::as_mapping);
    let entries = map.into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.as_str()?, value)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const YAML: &str = "
nodes:
- id: camera
  inputs: {tick: dora/timer/millis/500, credit_tracker: {source: tracker/credit_pictures, queue_size: 64}}
  outputs: [frames, events]
  env: {FLOW_MODE: live, FLOW_WINDOW: 4}
- id: tracker
  deploy: null
  inputs:
    pictures: camera/frames
    events: {source: camera/events}
- id: __dora_record__
  inputs: {camera___frames: camera/frames}
";

    fn graph() -> Graph {
        Graph::of(&serde_yaml::from_str(YAML).unwrap())
    }

    #[test]
    fn what_waits_for_credit_is_what_the_crediting_input_takes() {
        assert_eq!(graph().gated_output("camera"), Some("frames"));
        assert_eq!(graph().gated_output("tracker"), None);
        let credits: Vec<_> = graph().credits("camera").cloned().collect();
        assert_eq!(credits.len(), 1);
        assert_eq!(
            (&*credits[0].from, &*credits[0].output),
            ("tracker", "credit_pictures")
        );
    }

    #[test]
    fn variables_of_the_graph_come_before_those_of_the_process() {
        let graph = graph();
        assert_eq!(graph.variable("camera", "FLOW_WINDOW"), Some("4"));
        assert!(graph.is_live("camera", Some("lossless")));
        assert!(graph.is_live("tracker", Some("live")));
        assert!(!graph.is_live("tracker", None));
        assert!(graph.has_node("tracker") && !graph.has_node("dora"));
    }

    #[test]
    fn a_recorder_gives_credit_where_frames_are_not_to_be_lost() {
        let lossless = YAML.replace("FLOW_MODE: live, ", "");
        let credited = |yaml: &str, mode| {
            let graph = Graph::of(&serde_yaml::from_str(yaml).unwrap());
            let input = graph.credited_by("__dora_record__", "camera", mode);
            input.map(str::to_string)
        };
        assert_eq!(credited(YAML, None), None);
        assert_eq!(credited(&lossless, None).unwrap(), "camera___frames");
        assert_eq!(credited(&lossless, Some("live")), None);
        let spread = lossless.replace("deploy: null", "deploy: {machine: b}");
        assert_eq!(credited(&spread, None), None);
    }

    #[test]
    fn what_is_no_graph_is_an_empty_one() {
        for text in [
            "",
            "nodes",
            "nodes: {a: b}",
            "nodes: [{inputs: {a: b/c}}, 3]",
        ] {
            let graph = Graph::of(&serde_yaml::from_str(text).unwrap());
            assert_eq!(graph, Graph::default(), "{text}");
        }
    }
}
