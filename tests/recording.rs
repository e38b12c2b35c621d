//! `dora record`: a record for every frame of a lossless graph, read back with dora's own reader.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use dora_message::common::Timestamped;
use dora_message::daemon_to_daemon::InterDaemonEvent;
use dora_message::metadata::get_integer_param;
use dora_recording::RecordingReader;
use tracklens_tests::{Graph, clip, ffmpeg, frame_count, root};

/// The frame numbers of the recorded tracks, in their order in the file; panics on any other record.
fn frames_in(recording: &Path) -> Vec<i64> {
    let mut reader = RecordingReader::open(File::open(recording).unwrap()).unwrap();
    let descriptor = String::from_utf8(reader.header().descriptor_yaml.clone()).unwrap();
    let written = std::fs::read_to_string(root().join("graphs/file.yml")).unwrap();
    let kept = written
        .lines()
        .filter(|line| !line.contains("health_check_timeout"));
    assert_eq!(descriptor.lines().count(), kept.count());
    assert!(!descriptor.contains("path: .."), "{descriptor}");
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
    assert!(
        frames.iter().copied().eq(0..frame_count(&short) as i64),
        "{frames:?}"
    );
    let log = run.text("run.log");
    assert!(log.contains("recorded whole"), "{log}");
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
    assert!(
        frames.iter().copied().eq(0..frames.len() as i64),
        "{frames:?}"
    );
    let told = format!("tracker/tracks: {} recorded", frames.len());
    assert!(
        !frames.is_empty() && run.log().contains(&told),
        "{}",
        run.log()
    );
    assert!(
        run.log().contains("recorded until the stop"),
        "{}",
        run.log()
    );
}
