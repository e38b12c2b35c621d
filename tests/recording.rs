//! `dora record` on a lossless graph: a record for each frame that dora delivers, read back with dora's own reader; the others are named.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use dora_message::common::Timestamped;
use dora_message::daemon_to_daemon::InterDaemonEvent;
use dora_message::metadata::get_integer_param;
use dora_recording::RecordingReader;
use tracklens_tests::{Graph, clip, ffmpeg, frame_count, root};

/// What is not in the recording is said in the log, and nothing is there twice or out of order: dora
/// itself may lose messages that are sent while it takes up the direct way from node to node.
fn assert_accounted_for(frames: &[i64], log: &str) {
    assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
    let missing = frames.last().unwrap() - frames[0] + 1 - frames.len() as i64;
    let count = frames.len();
    assert!(
        log.contains(&format!("tracker/tracks: {count} recorded")),
        "{log}"
    );
    let told = format!("tracker/tracks: {missing} not delivered");
    assert_eq!(missing > 0, log.contains(&told), "{frames:?}: {log}");
    assert_eq!(missing > 0, log.contains("not whole"), "{log}");
}

/// The frame numbers of the recorded tracks, in their order in the file; panics on any other record.
fn frames_in(recording: &Path) -> Vec<i64> {
    let mut reader = RecordingReader::open(File::open(recording).unwrap()).unwrap();
    let descriptor = std::fs::read(root().join("graphs/file.yml")).unwrap();
    assert_eq!(reader.header().descriptor_yaml, descriptor);
    let mut frames = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!((&*entry.node_id, &*entry.output_id), ("tracker", "tracks"));
        let event = Timestamped::deserialize_inter_daemon_event(&entry.event_bytes).unwrap();
        let InterDaemonEvent::Output { metadata, data, .. } = event.inner else {
            panic!("no output: {entry:?}");
        };
        assert!(data.is_some_and(|data| !data.is_empty()));
        frames.push(get_integer_param(&metadata.parameters, "frame").unwrap());
    }
    frames
}

#[test]
fn a_lossless_run_is_recorded_frame_by_frame() {
    let Some(whole) = clip("pedestrians.mp4") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (short, recording) = (
        folder.path().join("street.mp4"),
        folder.path().join("street.drec"),
    );
    let (from, to) = (whole.display().to_string(), short.display().to_string());
    ffmpeg(&["-i", &from, "-frames:v", "60", "-an", &to]);
    let run = Graph::named("file.yml")
        .env("SINKS", "jsonl")
        .source("street", &short)
        .record("tracker/tracks", &recording)
        .run();
    let frames = frames_in(&recording);
    assert_eq!(*frames.last().unwrap(), frame_count(&short) as i64 - 1);
    assert_accounted_for(&frames, &run.text("run.log"));
}

#[test]
fn a_run_that_is_stopped_leaves_a_recording_that_is_whole() {
    let Some(street) = clip("pedestrians.mp4") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("street.drec");
    let mut run = Graph::named("file.yml")
        .env("SINKS", "jsonl")
        .source("street", &street)
        .record("tracker/tracks", &recording)
        .start();
    run.wait_for_rows(20);
    run.stop();
    let status = run.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}: {}", run.log());
    let frames = frames_in(&recording);
    assert!(!frames.is_empty(), "{}", run.log());
    assert_accounted_for(&frames, &run.log());
}
