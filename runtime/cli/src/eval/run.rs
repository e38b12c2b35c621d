//! The tracker's own graph, run over all sequences of a dataset at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::{env, fs};

use eyre::WrapErr;

use super::dataset::Sequence;
use super::graph::Graph;
use super::masks::{self, StreamMasks};
use super::prompt_count::PromptCount;
use super::prompt_file;
use super::tracker_time::TrackerTime;
use crate::args::{EvalArguments, Tracker};
use crate::dora::{self, LOG, node_errors};
use crate::sources::{self, Source};
use crate::summary::{self, Summary};
use crate::watch::{Interrupt, watch};
use crate::{models, project};

/// The trackers' graphs.
const SAM2: &str = "graphs/sam2.yml";
const SAM2_FRAME: &str = "graphs/legacy-sam2.yml";
pub(super) const IOU: &str = "graphs/file.yml";
/// Names of the files of a run, in its folder.
const GRAPH: &str = "graph.yml";
const PROMPTS: &str = "prompts.json";
const TRACKS: &str = "tracks.jsonl";

/// What a graph gave.
#[derive(Default)]
pub(super) struct Run {
    pub(super) streams: BTreeMap<String, StreamMasks>,
    pub(super) frames: u64,
    pub(super) fps: Option<f64>,
    pub(super) prompts_per_frame: Option<f64>,
    /// What a frame costs the prompt-generator.
    pub(super) look_ms_per_frame: Option<f64>,
    /// What a frame costs the tracker.
    pub(super) ms_per_frame: Option<f64>,
}

/// Runs the tracker's graph over all sequences at once, in a folder of its own.
pub(super) fn run(
    arguments: &EvalArguments,
    sequences: &[Sequence],
    interrupt: &Interrupt,
) -> eyre::Result<Run> {
    let temporary = tempfile::tempdir().wrap_err("cannot make a temporary folder")?;
    let folder = match &arguments.keep {
        Some(folder) => {
            fs::create_dir_all(folder)
                .wrap_err_with(|| format!("cannot make {}", folder.display()))?;
            folder.canonicalize()?
        }
        None => temporary.path().to_path_buf(),
    };
    let result = run_in(&folder, arguments, sequences, interrupt);
    let log = folder.join(LOG);
    if result.is_ok() || interrupt.came() || !log.is_file() {
        return result;
    }
    // What went wrong stands in the log.
    let cause = fs::read(&log)
        .ok()
        .and_then(|text| first_error(&String::from_utf8_lossy(&text)));
    let log = match arguments.keep {
        Some(_) => log,
        None => temporary.keep().join(LOG),
    };
    let said = cause.map_or(String::new(), |cause| format!("; it begins with: {cause}"));
    result.map_err(|error| eyre::eyre!("{error:#}\nsee {}{said}", log.display()))
}

/// The first error that a node tells of, or the first of the log.
fn first_error(log: &str) -> Option<String> {
    let own = node_errors(log).into_iter().next();
    own.or_else(|| {
        let mut errors = log.lines().filter_map(|line| line.split_once("ERROR "));
        errors.next().map(|(_, error)| error.trim().to_string())
    })
}

fn run_in(
    folder: &Path,
    arguments: &EvalArguments,
    sequences: &[Sequence],
    interrupt: &Interrupt,
) -> eyre::Result<Run> {
    for old in [TRACKS, summary::FILE] {
        let old = folder.join(old);
        if old.exists() {
            fs::remove_file(&old).wrap_err_with(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let mut graph = configured(folder, arguments, sequences)?;
    let mut prompts = match (arguments.discover, arguments.tracker) {
        (true, Tracker::Sam2 | Tracker::Sam2Frame) => Some(PromptCount::install(&mut graph)?),
        _ => None,
    };
    let mut time = TrackerTime::install(&mut graph, node(arguments.tracker))?;
    let path = folder.join(GRAPH);
    graph.write(&path)?;
    let mut start = None;
    let status = watch(
        &dora::run(&path),
        folder,
        &variables(),
        interrupt,
        |summary| {
            if summary.frames() > 0 {
                start.get_or_insert((summary.frames(), summary.elapsed_s));
            }
            if let Some(prompts) = &mut prompts {
                prompts.ask();
            }
            time.ask();
            ControlFlow::Continue(())
        },
    )?;
    eyre::ensure!(!interrupt.came(), "interrupted: nothing was scored");
    let summary = Summary::read(folder).unwrap_or_default();
    check(&summary, sequences)?;
    eyre::ensure!(status.success(), "dora ended with {status}");
    let (frames, seconds) = start.unwrap_or((0, 0.0));
    let (frames, seconds) = (summary.frames() - frames, summary.elapsed_s - seconds);
    Ok(Run {
        streams: masks::read(&folder.join(TRACKS))?,
        frames: summary.frames(),
        // From the first frame on: how long a model takes to load is another matter.
        fps: (frames > 0 && seconds > 0.0).then(|| frames as f64 / seconds),
        prompts_per_frame: prompts.as_ref().and_then(PromptCount::per_frame),
        look_ms_per_frame: prompts.as_ref().and_then(PromptCount::ms_per_frame),
        ms_per_frame: time.per_frame(),
    })
}

/// The node that follows.
fn node(tracker: Tracker) -> &'static str {
    match tracker {
        Tracker::Sam2 => "sam2-tracker",
        Tracker::Iou | Tracker::Sam2Frame | Tracker::Static => "iou-tracker",
    }
}

/// The tracker's graph, set up for the sequences.
fn configured(
    folder: &Path,
    arguments: &EvalArguments,
    sequences: &[Sequence],
) -> eyre::Result<Graph> {
    let sources: Vec<Source> = sequences
        .iter()
        .map(|sequence| Source {
            id: sequence.id.clone(),
            url: sequence.source.clone(),
        })
        .collect();
    let mut graph = match arguments.tracker {
        Tracker::Sam2 => Graph::read(SAM2)?,
        Tracker::Sam2Frame => Graph::read(SAM2_FRAME)?,
        _ => Graph::read(IOU)?,
    };
    graph.set_all("FLOW_MODE", "lossless")?;
    graph.set_all("METRICS_ENABLED", "false")?;
    graph.set("decoder", "SOURCES", &sources::to_yaml(&sources)?)?;
    graph.set("decoder", "SOURCE_LOOP", "1")?;
    graph.set("publisher", "SINKS", "jsonl")?;
    graph.set("publisher", "OUT_DIR", &folder.to_string_lossy())?;
    let node = node(arguments.tracker);
    if !matches!(arguments.tracker, Tracker::Sam2 | Tracker::Sam2Frame) {
        return Ok(graph);
    }
    let model = models::find(&arguments.model)?;
    graph.set(node, "SAM2_MODEL_SIZE", &model.name)?;
    graph.set(node, "SAM2_MODEL_DIR", &model.parent().to_string_lossy())?;
    if arguments.discover {
        if let Ok(strategy) = env::var("SAM2_PROMPT_STRATEGY") {
            graph.set("prompt-generator", "SAM2_PROMPT_STRATEGY", &strategy)?;
        }
        return Ok(graph);
    }
    let prompts = folder.join(PROMPTS);
    prompt_file::write(&prompts, sequences, arguments.prompt)?;
    graph.set("prompt-generator", "SAM2_PROMPT_STRATEGY", "file")?;
    graph.set(
        "prompt-generator",
        "PROMPT_FILE",
        &prompts.to_string_lossy(),
    )?;
    // What is shown to a tracker is wanted, however small it is.
    graph.set("sam2-tracker", "MIN_OBJECT_AREA", "1")?;
    Ok(graph)
}

fn variables() -> Vec<(&'static str, String)> {
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut variables = Vec::new();
    if let Some(path) = project::onnxruntime() {
        variables.push(("ORT_DYLIB_PATH", shown(path)));
    }
    if let Some(path) = project::models().and_then(|path| path.canonicalize().ok()) {
        variables.push(("TRACKLENS_MODELS", shown(path)));
    }
    variables
}

/// Every sequence must have come through whole.
fn check(summary: &Summary, sequences: &[Sequence]) -> eyre::Result<()> {
    let mut mistakes = Vec::new();
    for sequence in sequences {
        let id = sequence.id.as_str();
        let stream = summary.streams.iter().find(|stream| stream.id == id);
        let frames = stream.map_or(0, |stream| stream.frames);
        let expected = sequence.truth.keys().next_back().map_or(0, |last| last + 1);
        if frames < expected {
            let errors = stream
                .map(|stream| stream.errors.join("; "))
                .unwrap_or_default();
            mistakes.push(format!(
                "sequence {id}: {frames} of {expected} frames came through from {}{}{errors}",
                sequence.source,
                if errors.is_empty() { "" } else { ": " },
            ));
        }
    }
    for sink in &summary.sinks {
        let error = sink
            .error
            .iter()
            .map(|error| format!("sink {}: {error}", sink.name));
        mistakes.extend(error);
    }
    eyre::ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_that_of_the_node_that_failed() {
        let log = "21:38 stdout decoder: Z ERROR Node tracker exited before initializing dora\n\
            21:38 stdout tracker: 2026Z ERROR no model \"nano\" node=\"sam2-tracker\"\n\
            21:39 ERROR  decoder: daemon exited with code 1\n";
        let error = first_error(log);
        assert_eq!(
            error.as_deref(),
            Some("tracker: no model \"nano\" node=\"sam2-tracker\"")
        );
        assert_eq!(first_error("INFO all well\n"), None);
    }
}
