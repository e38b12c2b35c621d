//! What is recorded of a graph, and the graph in which a recording is played.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use eyre::{OptionExt, WrapErr, ensure, eyre};
use serde_yaml::{Mapping, Value};
use tracklens_node::Graph;

/// Outputs with pixels, which are recorded at a source alone.
const PIXELS: [&str; 2] = ["frames", "crops"];

/// How many messages there are, by node and output.
pub(crate) type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// What is worth recording of a graph: the sources' outputs, from which everything can be made again,
/// and what is small. `node/output`.
pub(crate) fn topics(graph: &Value, all: bool) -> Vec<String> {
    let edges = Graph::of(graph);
    let mut topics = Vec::new();
    for (id, outputs) in outputs(graph) {
        let inner = data_edges(&edges).any(|(from, to)| to == id && from != "dora");
        for output in outputs {
            let heavy = inner && PIXELS.contains(&output.as_str());
            if !output.starts_with("credit_") && (all || !heavy) {
                topics.push(format!("{id}/{output}"));
            }
        }
    }
    topics
}

/// The nodes of a graph, and their outputs.
pub(crate) fn outputs(graph: &Value) -> impl Iterator<Item = (String, Vec<String>)> {
    sequence(graph, "nodes").filter_map(|node| {
        let id = node.get("id")?.as_str()?.to_string();
        let outputs = sequence(node, "outputs").filter_map(Value::as_str);
        Some((id, outputs.map(str::to_string).collect()))
    })
}

/// From node to node, credit left out.
fn data_edges(graph: &Graph) -> impl Iterator<Item = (&str, &str)> {
    let edges = graph.edges().iter();
    let data = edges.filter(|edge| !edge.input.starts_with("credit_"));
    data.map(|edge| (edge.from.as_str(), edge.to.as_str()))
}

/// All nodes that get something from these, by whatever way.
fn downstream<'a>(graph: &'a Graph, nodes: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (from, to) in data_edges(graph) {
            if nodes.contains(from) || found.contains(from) {
                found.insert(to);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The recorded nodes that get nothing from other recorded nodes: played, they make all the rest anew.
pub(crate) fn sources(graph: &Graph, counts: &Counts) -> BTreeSet<String> {
    let whole = |(node, outputs): (&String, &BTreeMap<String, u64>)| {
        let frames = match graph.gated_output(node) {
            Some(gated) => outputs.contains_key(gated),
            None => outputs.keys().any(|output| output != "stream_events"),
        };
        (frames && graph.has_node(node)).then(|| node.clone())
    };
    let recorded: BTreeSet<String> = counts.iter().filter_map(whole).collect();
    let first = recorded.iter().filter(|node| {
        let others = recorded.iter().filter(|other| other != node);
        let others = others.map(String::as_str).collect();
        !downstream(graph, &others).contains(node.as_str())
    });
    let first: BTreeSet<String> = first.cloned().collect();
    // A circle has no beginning: all of it is played.
    if first.is_empty() { recorded } else { first }
}

/// A graph in which nodes are played.
pub(crate) struct Stage<'a> {
    /// The recording.
    pub(crate) file: &'a Path,
    /// Who plays.
    pub(crate) player: &'a Path,
    /// The nodes that are played.
    pub(crate) replaced: &'a BTreeSet<String>,
    /// What is set for the players.
    pub(crate) variables: &'a [(&'static str, String)],
}

/// Makes the graph in which a recording is played: the players take credit as the nodes did, and what
/// only led to them is left out. `find` looks for a program that is not where it was.
pub(crate) fn stage(
    descriptor: &str,
    stage: &Stage<'_>,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> eyre::Result<String> {
    let mut yaml: Value = serde_yaml::from_str(descriptor).wrap_err("the recording's graph")?;
    let edges = Graph::of(&yaml);
    let replaced: BTreeSet<&str> = stage.replaced.iter().map(String::as_str).collect();
    let mut kept = downstream(&edges, &replaced);
    kept.extend(&replaced);
    let nodes = yaml.get_mut("nodes").and_then(Value::as_sequence_mut);
    let nodes = nodes.ok_or_eyre("the recording's graph has no nodes")?;
    let id = |node: &Value| node.get("id").and_then(Value::as_str).map(str::to_string);
    nodes.retain(|node| id(node).is_some_and(|id| kept.contains(id.as_str())));
    for node in nodes {
        let id = id(node).unwrap_or_default();
        let Some(node) = node.as_mapping_mut() else {
            continue;
        };
        if replaced.contains(id.as_str()) {
            play(node, &id, stage);
            keep_inputs(node, |input, from| {
                input.starts_with("credit_") && kept.contains(from) && !replaced.contains(from)
            });
        } else {
            locate(node, &id, &find)?;
            keep_inputs(node, |_, from| from == "dora" || kept.contains(from));
        }
    }
    Ok(serde_yaml::to_string(&yaml)?)
}

/// Puts the player in the place of a node.
fn play(node: &mut Mapping, id: &str, stage: &Stage<'_>) {
    for key in ["build", "git", "branch", "tag", "rev", "args"] {
        node.remove(key);
    }
    node.insert("path".into(), stage.player.display().to_string().into());
    let mut env = match node.remove("env") {
        Some(Value::Mapping(env)) => env,
        _ => Mapping::new(),
    };
    env.insert(
        "DORA_REPLAY_FILE".into(),
        stage.file.display().to_string().into(),
    );
    env.insert("DORA_REPLAY_NODE".into(), id.into());
    for (name, value) in stage.variables {
        env.insert((*name).into(), value.as_str().into());
    }
    node.insert("env".into(), Value::Mapping(env));
}

/// Keeps the inputs for which `keep(input, node)` holds, and their types.
fn keep_inputs(node: &mut Mapping, keep: impl Fn(&str, &str) -> bool) {
    let mut gone = Vec::new();
    if let Some(inputs) = node.get_mut("inputs").and_then(Value::as_mapping_mut) {
        inputs.retain(|input, value| {
            let source = value.as_str().or_else(|| value.get("source")?.as_str());
            let from = source.and_then(|source| source.split('/').next());
            let kept = keep(input.as_str().unwrap_or_default(), from.unwrap_or_default());
            if !kept {
                gone.push(input.clone());
            }
            kept
        });
    }
    if let Some(types) = node.get_mut("input_types").and_then(Value::as_mapping_mut) {
        gone.iter().for_each(|input| drop(types.remove(input)));
    }
}

/// Points a node to its program, which may lie elsewhere than on the machine of the recording.
fn locate(
    node: &mut Mapping,
    id: &str,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> eyre::Result<()> {
    let Some(path) = node.get("path").and_then(Value::as_str) else {
        return Ok(());
    };
    // A name alone is looked for on the PATH, by dora.
    if Path::new(path).is_absolute() && Path::new(path).is_file() || !path.contains('/') {
        return Ok(());
    }
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| eyre!("node {id}: {path} is no program"))?;
    let found = find(name);
    let found = found.ok_or_else(|| {
        eyre!("node {id}: {path} is not there, and no {name} beside this command (make build)")
    })?;
    node.insert("path".into(), found.display().to_string().into());
    Ok(())
}

/// The nodes that somebody asked to be played.
pub(crate) fn asked_for(asked: &[String], counts: &Counts) -> eyre::Result<BTreeSet<String>> {
    for node in asked {
        ensure!(
            counts.contains_key(node),
            "nothing of the node {node} is recorded, only of {}",
            counts.keys().cloned().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(asked.iter().cloned().collect())
}

fn sequence<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    let found = value.get(key).and_then(Value::as_sequence);
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GRAPH: &str = "
nodes:
- id: decoder
  path: ../bin/decoder
  inputs: {tick: dora/timer/millis/500, credit_buffer: buffer/credit_frames, credit_publisher: {source: publisher/credit_frames}}
  outputs: [frames, stream_events]
- id: buffer
  path: ../bin/buffer
  inputs: {frames: {source: decoder/frames}, credit_tracker: tracker/credit_frames, tracks: tracker/tracks}
  outputs: [frames, crops, credit_frames]
- id: tracker
  path: tracker
  inputs: {frames: buffer/frames, credit_publisher: publisher/credit_tracks}
  outputs: [tracks, credit_frames]
- id: publisher
  path: /bin/sh
  inputs: {tracks: tracker/tracks, frames: decoder/frames}
  input_types: {tracks: a/b/C, frames: a/b/D}
  outputs: [credit_tracks, credit_frames]
";

    fn counts(topics: &[&str]) -> Counts {
        let mut counts = Counts::new();
        for topic in topics {
            let (node, output) = topic.split_once('/').unwrap();
            *counts
                .entry(node.into())
                .or_default()
                .entry(output.into())
                .or_default() += 1;
        }
        counts
    }

    fn staged(replaced: &str) -> Value {
        let replaced = replaced.split(',').map(String::from).collect();
        let stage_of = Stage {
            file: Path::new("/r/a.drec"),
            player: Path::new("/bin/player"),
            replaced: &replaced,
            variables: &[("DORA_REPLAY_SPEED", "0".into())],
        };
        let find = |name: &str| Some(PathBuf::from("/found").join(name));
        serde_yaml::from_str(&stage(GRAPH, &stage_of, find).unwrap()).unwrap()
    }

    fn keys(node: &Value, part: &str) -> Vec<String> {
        let map = node.get(part).and_then(Value::as_mapping).unwrap();
        map.keys()
            .map(|key| key.as_str().unwrap().to_string())
            .collect()
    }

    #[test]
    fn pixels_are_recorded_at_the_source_and_credit_never() {
        let graph = serde_yaml::from_str(GRAPH).unwrap();
        let found = topics(&graph, false);
        assert_eq!(
            found,
            ["decoder/frames", "decoder/stream_events", "tracker/tracks"]
        );
        assert_eq!(topics(&graph, true).len(), 5);
    }

    #[test]
    fn what_depends_on_no_other_recorded_node_is_played() {
        let graph = Graph::of(&serde_yaml::from_str(GRAPH).unwrap());
        let sources = |topics: &[&str]| -> Vec<String> {
            sources(&graph, &counts(topics)).into_iter().collect()
        };
        assert_eq!(sources(&["decoder/frames", "tracker/tracks"]), ["decoder"]);
        assert_eq!(
            sources(&["decoder/stream_events", "tracker/tracks"]),
            ["tracker"]
        );
        assert_eq!(
            sources(&["buffer/frames", "tracker/tracks"]),
            ["buffer", "tracker"],
            "a circle"
        );
    }

    #[test]
    fn a_player_takes_credit_from_the_nodes_that_are_not_played() {
        let yaml = staged("decoder");
        let nodes = yaml["nodes"].as_sequence().unwrap();
        assert_eq!(nodes.len(), 4);
        assert_eq!(
            keys(&nodes[0], "inputs"),
            ["credit_buffer", "credit_publisher"]
        );
        assert_eq!(nodes[0]["path"], "/bin/player");
        assert_eq!(nodes[0]["env"]["DORA_REPLAY_NODE"], "decoder");
        assert_eq!(nodes[0]["env"]["DORA_REPLAY_SPEED"], "0");
        assert_eq!(nodes[1]["path"], "/found/buffer");
        assert_eq!(nodes[2]["path"], "tracker");
        assert_eq!(nodes[3]["path"], "/bin/sh");
    }

    #[test]
    fn what_only_led_to_a_played_node_is_left_out() {
        let yaml = staged("tracker");
        let nodes = yaml["nodes"].as_sequence().unwrap();
        let ids: Vec<&str> = nodes
            .iter()
            .map(|node| node["id"].as_str().unwrap())
            .collect();
        assert_eq!(
            ids,
            ["buffer", "tracker", "publisher"],
            "the buffer cuts crops"
        );
        assert_eq!(keys(&nodes[2], "inputs"), ["tracks"]);
        assert_eq!(keys(&nodes[2], "input_types"), ["tracks"]);
    }

    #[test]
    fn a_node_that_was_not_recorded_cannot_be_asked_for() {
        let error = asked_for(&["lens".into()], &counts(&["decoder/frames"])).unwrap_err();
        assert!(error.to_string().contains("only of decoder"), "{error}");
    }
}
