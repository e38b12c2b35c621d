//! `tracklens eval`: how well a tracker follows the objects of an annotated dataset.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use eyre::{OptionExt, WrapErr};

use crate::args::{EvalArguments, Tracker};
use crate::dora::LOG;
use crate::sources::{self, Source};
use crate::summary::{self, Summary};
use crate::watch::{Interrupt, watch};
use crate::{models, project};

mod annotation;
mod dataset;
mod davis;
mod discovery;
mod distance;
mod follow;
mod graph;
mod masks;
mod prompt_count;
mod prompt_file;
mod report;

use dataset::Sequence;
use davis::Score;
use graph::Graph;
use masks::StreamMasks;
use prompt_count::PromptCount;
use report::{Followed, Found, Report, Rows};

/// Names of the files of a run, in its folder.
const GRAPH: &str = "graph.yml";
const PROMPTS: &str = "prompts.json";
const TRACKS: &str = "tracks.jsonl";

/// What a graph gave.
#[derive(Default)]
struct Run {
    streams: BTreeMap<String, StreamMasks>,
    frames: u64,
    fps: Option<f64>,
    prompts_per_frame: Option<f64>,
}

pub(crate) fn eval(arguments: &EvalArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let tracker = arguments.tracker;
    eyre::ensure!(
        !(arguments.discover && tracker == Tracker::Static),
        "--discover needs a tracker that finds objects: sam2 or iou"
    );
    let interrupt = Interrupt::catch()?;
    let sequences = dataset::read(&arguments.dataset, &arguments.sequences)?;
    if !arguments.discover {
        require_objects(&sequences)?;
    }
    let run = match tracker {
        Tracker::Static => Run::default(),
        Tracker::Sam2 | Tracker::Iou => run(arguments, &sequences, &interrupt)?,
    };
    let rows = if arguments.discover {
        found(&sequences, &run, &interrupt)?
    } else {
        followed(tracker, &sequences, &run, &interrupt)?
    };
    let annotated = sequences.iter().map(|sequence| sequence.truth.len() as u64);
    let report = Report {
        dataset: arguments.dataset.display().to_string(),
        tracker: tracker.to_string(),
        model: (tracker == Tracker::Sam2).then(|| arguments.model.clone()),
        prompt: (!arguments.discover && tracker == Tracker::Sam2).then_some(arguments.prompt),
        frames: run.frames.max(annotated.sum()),
        fps: run.fps,
        rows,
    };
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    report.print(out)?;
    Ok(true)
}

/// Every sequence must show what is to be followed.
fn require_objects(sequences: &[Sequence]) -> eyre::Result<()> {
    for sequence in sequences {
        let first = sequence
            .first()
            .filter(|(_, annotation)| annotation.objects().is_empty());
        if let Some((frame, _)) = first {
            eyre::bail!(
                "sequence {}: annotation {frame:05}.png shows no object, so there is nothing to follow",
                sequence.id
            );
        }
    }
    Ok(())
}

/// Runs the tracker's graph over all sequences at once, in a folder of its own.
fn run(
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
    // What went wrong stands in the log.
    if result.is_err()
        && arguments.keep.is_none()
        && !interrupt.came()
        && folder.join(LOG).is_file()
    {
        let kept = temporary.keep();
        return result.wrap_err_with(|| format!("see {}", kept.join(LOG).display()));
    }
    result
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
        (true, Tracker::Sam2) => Some(PromptCount::install(&mut graph)?),
        _ => None,
    };
    let path = folder.join(GRAPH);
    graph.write(&path)?;
    let mut start = None;
    let status = watch(&path, folder, &variables(), interrupt, |summary| {
        if summary.frames() > 0 {
            start.get_or_insert((summary.frames(), summary.elapsed_s));
        }
        if let Some(prompts) = &mut prompts {
            prompts.ask();
        }
    })?;
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
        prompts_per_frame: prompts.and_then(|prompts| prompts.per_frame()),
    })
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
        Tracker::Sam2 => Graph::read("graphs/sam2.yml")?,
        _ => Graph::read("graphs/file.yml")?,
    };
    graph.set_all("FLOW_MODE", "lossless")?;
    graph.set_all("METRICS_ENABLED", "false")?;
    graph.set("decoder", "SOURCES", &sources::to_yaml(&sources)?)?;
    graph.set("decoder", "SOURCE_LOOP", "1")?;
    graph.set("publisher", "SINKS", "jsonl")?;
    graph.set("publisher", "OUT_DIR", &folder.to_string_lossy())?;
    if arguments.tracker != Tracker::Sam2 {
        return Ok(graph);
    }
    let model = models::find(&arguments.model)?;
    graph.set("tracker", "SAM2_MODEL_SIZE", &model.name)?;
    graph.set(
        "tracker",
        "SAM2_MODEL_DIR",
        &model.parent().to_string_lossy(),
    )?;
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
    graph.set("tracker", "MIN_OBJECT_AREA", "1")?;
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

/// Scores of the objects that were shown.
fn followed(
    tracker: Tracker,
    sequences: &[Sequence],
    run: &Run,
    interrupt: &Interrupt,
) -> eyre::Result<Rows> {
    let nothing = StreamMasks::default();
    let (mut rows, mut means) = (Vec::new(), Vec::new());
    for sequence in sequences {
        let (first, shown) = sequence
            .first()
            .ok_or_eyre("a sequence without annotations")?;
        let tracks = run.streams.get(sequence.id.as_str()).unwrap_or(&nothing);
        let pairs = follow::pair(shown.objects(), first, tracks, tracker == Tracker::Sam2);
        for (&object, mask) in shown.objects() {
            eyre::ensure!(
                !interrupt.came(),
                "interrupted while scoring {}",
                sequence.id
            );
            let scores = follow::scores(sequence, object, |frame| match tracker {
                Tracker::Static => Some(mask),
                _ => tracks.mask(frame, *pairs.get(&object)?),
            });
            let score = Score::mean(&scores);
            means.push(score);
            rows.push(Followed {
                name: name(sequence, object, shown.objects().len()),
                frames: scores.len(),
                score: score.into(),
            });
        }
    }
    Ok(Rows::Followed {
        sequences: rows,
        mean: Score::mean(&means).into(),
    })
}

/// Which objects an unprompted run found.
fn found(sequences: &[Sequence], run: &Run, interrupt: &Interrupt) -> eyre::Result<Rows> {
    let nothing = StreamMasks::default();
    let mut rows = Vec::new();
    for sequence in sequences {
        let tracks = run.streams.get(sequence.id.as_str()).unwrap_or(&nothing);
        let objects = sequence.objects();
        for &object in &objects {
            eyre::ensure!(
                !interrupt.came(),
                "interrupted while scoring {}",
                sequence.id
            );
            let best = discovery::best(sequence, object, tracks);
            rows.push(Found::new(name(sequence, object, objects.len()), &best));
        }
    }
    let count = rows.iter().filter(|row| row.found).count();
    Ok(Rows::Found {
        found: report::hundredths(count as f64 / rows.len().max(1) as f64),
        sequences: rows,
        prompts_per_frame: run.prompts_per_frame,
    })
}

/// A sequence is called after itself, its objects with their numbers where there are several.
fn name(sequence: &Sequence, object: u8, objects: usize) -> String {
    match objects {
        1 => sequence.id.to_string(),
        _ => format!("{}/{object}", sequence.id),
    }
}
