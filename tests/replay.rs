//! `dora replay` and `tracklens replay`: what is played gives the rows of the run that was recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tracklens_node::header_of;
use tracklens_recording::Reader;
use tracklens_schemas::FrameId;
use tracklens_tests::{Coded, Graph, Output, Sender, clip, ffmpeg, free_port, root};

/// The first frames of a clip.
fn beginning(name: &str, frames: u32, folder: &Path) -> Option<PathBuf> {
    let whole = clip(name)?.display().to_string();
    let short = folder.join(name);
    let count = frames.to_string();
    let to = short.display().to_string();
    ffmpeg(&["-i", &whole, "-frames:v", &count, "-an", &to]);
    Some(short)
}

/// A run of a graph on the beginning of the pedestrians, recorded.
fn recorded(graph: Graph, topics: Option<&str>, folder: &Path) -> Option<(Output, PathBuf)> {
    let street = beginning("pedestrians.mp4", 100, folder)?;
    let recording = folder.join("street.drec");
    let graph = graph.env("SINKS", "jsonl").source("street", street);
    let graph = match topics {
        Some(topics) => graph.record(topics, &recording),
        None => graph.record_all(&recording),
    };
    let run = graph.run();
    let log = run.text("run.log");
    assert!(log.contains("recorded whole"), "{log}");
    Some((run, recording))
}

fn replayed(recording: &Path, options: &[&str]) -> Output {
    Graph::replay(recording, options)
        .env("SINKS", "jsonl")
        .run()
}

fn assert_same(a: &Output, b: &Output) {
    let rows = a.text("tracks.jsonl");
    assert!(!rows.is_empty());
    assert!(rows == b.text("tracks.jsonl"), "{}", b.text("run.log"));
}

#[test]
fn everything_that_was_recorded_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let Some((run, recording)) = recorded(Graph::named("file.yml"), None, folder.path()) else {
        return;
    };
    assert_same(&run, &replayed(&recording, &[]));
    // As fast as it is taken, and all behind the decoder made anew.
    assert_same(
        &run,
        &replayed(&recording, &["--speed", "0", "--replace", "decoder"]),
    );
    assert_same(
        &run,
        &replayed(&recording, &["--speed", "0", "--replace", "decoder,buffer"]),
    );
}

#[test]
fn a_recording_that_is_cut_off_is_played_to_its_last_good_record() {
    let folder = tempfile::tempdir().unwrap();
    let topics = Some("decoder/frames,decoder/stream_events");
    let Some((run, recording)) = recorded(Graph::named("file.yml"), topics, folder.path()) else {
        return;
    };
    let file = OpenOptions::new().write(true).open(&recording).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length * 3 / 5).unwrap();
    let cut = replayed(&recording, &["--speed", "0"]);
    let (whole, part) = (run.text("tracks.jsonl"), cut.text("tracks.jsonl"));
    assert!(!part.is_empty() && part.len() < whole.len() && whole.starts_with(&part));
    let frames = cut.frames("street");
    assert!((55..=60).contains(&frames), "{frames}");
    let log = cut.text("run.log");
    assert!(log.contains("the recording ends early: at byte "), "{log}");
}

#[test]
fn chunks_are_decoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("live.drec");
    let port = free_port();
    let mut run = Graph::live_but_lossless()
        .env("INGEST_PORT", &port.to_string())
        .env("SINKS", "jsonl")
        .record("ingest/chunks,ingest/stream_events", &recording)
        .start();
    let mut sender = Sender::connect(port, "/streams/cam");
    sender.send_all(&Coded::made("h264", "320x240", 80));
    sender.close();
    run.wait_until("80 frames", |output| output.told("cam", "frames") == 80);
    run.wait_until("the end", |output| output.told("cam", "state") == "closed");
    run.stop();
    assert!(run.wait(Duration::from_secs(60)).success());
    let run = run.into_output();
    let again = replayed(&recording, &["--speed", "0"]);
    assert_eq!(again.frames("cam"), 80);
    assert_same(&run, &again);
}

#[test]
fn a_recording_is_played_again_and_again_until_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let topics = Some("decoder/frames,decoder/stream_events");
    let Some((run, recording)) = recorded(Graph::named("file.yml"), topics, folder.path()) else {
        return;
    };
    let graph = Graph::replay(&recording, &["--speed", "0", "--loop"]);
    let mut again = graph.env("SINKS", "jsonl").start();
    // Rounds are shorter than the time between two summaries, so none is sure to name this very one.
    again.wait_until("the third round", |output| {
        output.told("street", "epoch").as_u64() >= Some(2)
    });
    again.stop();
    assert!(again.wait(Duration::from_secs(60)).success());
    let again = again.into_output();
    again.assert_rows_once_and_in_order();
    let rows = again.text("tracks.jsonl");
    assert!(
        rows.starts_with(&run.text("tracks.jsonl")),
        "the first round is the run"
    );
}

/// What a node has sent on an output: frame and payload, each once.
fn sent(recording: &Path, node: &str, output: &str) -> Vec<(FrameId, Vec<u8>)> {
    let mut reader = Reader::open(recording).unwrap();
    let mut sent = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if (&*record.node, &*record.output) == (node, output) {
            let (header, _) = header_of(&record.parameters).unwrap();
            sent.push((header.id, record.payload));
        }
    }
    assert!(!sent.is_empty(), "{node}/{output}");
    sent
}

/// The command, in a folder of its own.
fn tracklens(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(root().join("target/release/tracklens"))
        .current_dir(folder)
        .env("SINKS", "jsonl")
        .env("METRICS_ENABLED", "false")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}{errors}");
    said
}

#[test]
fn the_command_records_and_plays_in_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = beginning("bikes.mp4", 60, folder.path()) else {
        return;
    };
    let graph = root().join("graphs/sam2.yml").display().to_string();
    let source = ["--source", "bikes.mp4", "--out", "live", "-o", "bikes.drec"];
    let arguments = [&["record", &graph], &source[..]].concat();
    let said = tracklens(folder.path(), &arguments);
    assert!(said.contains("recorded whole"), "{said}");
    let rows = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for again in ["one", "two"] {
        let arguments = ["replay", "bikes.drec", "--speed", "0", "--out", again];
        let said = tracklens(folder.path(), &arguments);
        assert!(said.contains("played whole"), "{said}");
        let played = rows(&format!("{again}/tracks.jsonl"));
        assert!(!played.is_empty() && played == rows("live/tracks.jsonl"));
    }
    // The played graph is a graph like any other: recorded itself, it shows that prompts are alike, too.
    let graph = folder.path().join("one/replay.yml").display().to_string();
    let arguments = ["record", &graph, "--out", "three", "-o", "again.drec"];
    tracklens(folder.path(), &arguments);
    for (node, output) in [("prompt-generator", "prompts"), ("tracker", "tracks")] {
        let of = |name: &str| sent(&folder.path().join(name), node, output);
        assert!(of("bikes.drec") == of("again.drec"), "{node}/{output}");
    }
    let late = [
        "replay",
        "bikes.drec",
        "--speed",
        "0",
        "--from",
        "0.5",
        "--out",
        "late",
    ];
    tracklens(folder.path(), &late);
}
