//! `tracklens run`: a graph under `dora run`, with progress, a summary, and an exit code that tells.

use std::ffi::OsString;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::{env, fs};

use comfy_table::{Table, presets};
use eyre::WrapErr;
use tracklens_schemas::StreamId;

use crate::args::RunArguments;
use crate::dora::{self, LOG, node_errors};
use crate::summary::{self, Summary};
use crate::watch::{Interrupt, watch};
use crate::{project, sources, tracks};

/// Frames on the contact sheet.
const SHEET_FRAMES: usize = 12;

/// A run to be carried out.
pub(crate) struct Launch {
    /// What dora is to do.
    pub(crate) dora: Vec<OsString>,
    /// Where the output goes.
    pub(crate) folder: PathBuf,
    /// What the nodes find in their environment.
    pub(crate) variables: Variables,
    /// The streams to be expected.
    ids: Vec<StreamId>,
}

pub(crate) fn run(arguments: &RunArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let (_, launch) = prepare(arguments)?;
    carry_out(&launch, out)
}

/// The text of the graph, and its run.
pub(crate) fn prepare(arguments: &RunArguments) -> eyre::Result<(String, Launch)> {
    let graph = &arguments.graph;
    let text = fs::read_to_string(graph)
        .wrap_err_with(|| format!("cannot read the graph {}", graph.display()))?;
    let own_sources = graph_sources(&text)
        .wrap_err_with(|| format!("the graph {} is no YAML", graph.display()))?;
    eyre::ensure!(
        own_sources.is_none() || arguments.sources.is_empty(),
        "{} names its own SOURCES, so --source would change nothing; take graphs/file.yml",
        graph.display()
    );
    let mut launch = launch(&arguments.out, graph)?;
    launch.dora = dora::run(graph);
    launch.ids = if arguments.sources.is_empty() {
        let yaml = own_sources.or_else(|| env::var("SOURCES").ok());
        sources::ids(&yaml.unwrap_or_default())
    } else {
        let list = sources::parse(&arguments.sources, &env::current_dir()?)?;
        launch.variables.push(("SOURCES", sources::to_yaml(&list)?));
        list.into_iter().map(|source| source.id).collect()
    };
    if arguments.live {
        launch.variables.push(("FLOW_MODE", "live".into()));
    }
    Ok((text, launch))
}

/// A run of nothing yet, with an output folder, by default one named after `file`.
pub(crate) fn launch(out: &Option<PathBuf>, file: &Path) -> eyre::Result<Launch> {
    let folder = out_folder(out.as_deref(), file)?;
    let mut variables = vec![("OUT_DIR", folder.display().to_string())];
    if let Some(path) = project::onnxruntime() {
        variables.push(("ORT_DYLIB_PATH", path.display().to_string()));
    }
    if let Some(path) = project::models().and_then(|path| path.canonicalize().ok()) {
        variables.push(("TRACKLENS_MODELS", path.display().to_string()));
    }
    Ok(Launch {
        dora: Vec::new(),
        folder,
        variables,
        ids: Vec::new(),
    })
}

/// Runs to the end, with progress, and tells what came out; whether all is well.
pub(crate) fn carry_out(launch: &Launch, out: &mut dyn Write) -> eyre::Result<bool> {
    let folder = &launch.folder;
    let interrupt = Interrupt::catch()?;
    let status = watch(&launch.dora, folder, &launch.variables, &interrupt, |_| {
        ControlFlow::Continue(())
    })?;
    let stopped = interrupt.came();
    if !status.success() && !stopped {
        writeln!(
            out,
            "dora ended with {status}: see {}",
            folder.join(LOG).display()
        )?;
    }
    let summary = Summary::read(folder).unwrap_or_default();
    report(&summary, folder, out)?;
    let silent = silent_streams(&summary, &launch.ids);
    if !silent.is_empty() || !(status.success() || stopped) {
        let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
        for line in node_errors(&log) {
            writeln!(out, "{line}")?;
        }
    }
    for id in &silent {
        writeln!(out, "stream {id} gave no frames")?;
    }
    Ok((status.success() || stopped) && silent.is_empty() && !summary.streams.is_empty())
}

/// What a node told at the end of a run: how many messages, and what is wrong.
pub(crate) fn said_by(launch: &Launch, node: &str) -> Vec<String> {
    let log = fs::read_to_string(launch.folder.join(LOG)).unwrap_or_default();
    dora::said_by(&log, node)
}

/// The `SOURCES` that the graph itself sets for a node.
fn graph_sources(yaml: &str) -> Result<Option<String>, serde_yaml::Error> {
    let graph: serde_yaml::Value = serde_yaml::from_str(yaml)?;
    let nodes = graph.get("nodes").and_then(|nodes| nodes.as_sequence());
    Ok(nodes.into_iter().flatten().find_map(|node| {
        node.get("env")?
            .get("SOURCES")?
            .as_str()
            .map(str::to_string)
    }))
}

/// The output folder, made, absolute, and without the summary of an earlier run.
fn out_folder(out: Option<&Path>, file: &Path) -> eyre::Result<PathBuf> {
    let named = || Path::new("out").join(file.file_stem().unwrap_or_default());
    let folder = out.map_or_else(named, Path::to_path_buf);
    let failed = || format!("cannot make the output folder {}", folder.display());
    fs::create_dir_all(&folder).wrap_err_with(failed)?;
    let folder = folder.canonicalize().wrap_err_with(failed)?;
    let old = folder.join(summary::FILE);
    if old.exists() {
        fs::remove_file(&old).wrap_err_with(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(folder)
}

pub(crate) type Variables = Vec<(&'static str, String)>;

fn silent_streams(summary: &Summary, expected: &[StreamId]) -> Vec<String> {
    let frames = |id: &str| {
        let stream = summary.streams.iter().find(|stream| stream.id == id);
        stream.map_or(0, |stream| stream.frames)
    };
    expected
        .iter()
        .filter(|id| frames(id.as_str()) == 0)
        .map(ToString::to_string)
        .collect()
}

/// Streams, tracks, errors and files of a run that is over.
fn report(summary: &Summary, folder: &Path, out: &mut dyn Write) -> eyre::Result<()> {
    let rows = folder.join("tracks.jsonl");
    if rows.is_file() {
        writeln!(out, "{}\n", tracks::table(&rows, 20)?)?;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["stream", "state", "size", "frames", "fps", "tracks"]);
    for stream in &summary.streams {
        table.add_row([
            stream.id.clone(),
            stream.state.clone(),
            format!("{}x{}", stream.width, stream.height),
            stream.frames.to_string(),
            format!("{:.1}", stream.frames as f64 / summary.elapsed_s.max(0.001)),
            stream.tracks.to_string(),
        ]);
    }
    writeln!(out, "{table}\n")?;
    for stream in &summary.streams {
        for error in &stream.errors {
            writeln!(out, "error: {error}")?;
        }
    }
    for sink in summary.sinks.iter().filter(|sink| sink.error.is_some()) {
        let error = sink.error.as_deref().unwrap_or_default();
        writeln!(out, "error: sink {}: {error}", sink.name)?;
    }
    writeln!(
        out,
        "{} after {:.1} s, {} rows in {}",
        summary.state,
        summary.elapsed_s,
        summary.rows,
        folder.display()
    )?;
    for video in summary.files(folder, "mp4") {
        writeln!(out, "overlay video: {}", video.display())?;
    }
    if let Some(video) = summary.files(folder, "mp4").first() {
        let sheet = folder.join("contact-sheet.png");
        match tracklens_video::contact_sheet(&video.display().to_string(), &sheet, SHEET_FRAMES) {
            Ok(_) => writeln!(out, "contact sheet: {}", sheet.display())?,
            Err(error) => writeln!(out, "no contact sheet: {error}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_the_sources_that_a_graph_sets_itself() {
        let with = "nodes: [{id: a}, {id: d, env: {SOURCES: '[{id: x, url: y}]'}}]";
        let sources = graph_sources(with).unwrap().unwrap();
        assert_eq!(sources::ids(&sources)[0].as_str(), "x");
        assert_eq!(graph_sources("nodes: [{id: a}]").unwrap(), None);
        assert!(graph_sources("nodes: [").is_err());
    }

    #[test]
    fn streams_without_frames_are_named() {
        let mut summary = Summary::default();
        summary.streams.push(crate::summary::StreamSummary {
            id: "a".into(),
            frames: 3,
            ..Default::default()
        });
        let ids = ["a", "b"].map(|id| id.parse().unwrap());
        assert_eq!(silent_streams(&summary, &ids), ["b"]);
    }
}
