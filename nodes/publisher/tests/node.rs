//! The compiled node, fed by dora's test inputs: messages in, files out.
//!
//! Dora's test mode knows no edges: acknowledgements, and sinks that insist on an input, are for
//! the tests of whole graphs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tracklens_schemas::arrow::datatypes::DataType;
use tracklens_schemas::jsonl::TrackRow;
use tracklens_schemas::{Mask, stream_events, tracks};

const SIZE: (u32, u32) = (32, 16);

fn header(frame: u64) -> Value {
    json!({
        "stream_id": {"String": "cam"}, "epoch": {"Integer": 0}, "frame": {"Integer": frame},
        "pts_ns": {"Integer": frame * 40_000_000}, "capture_ns": {"Integer": 0},
    })
}

fn with(mut metadata: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    metadata.as_object_mut().unwrap().extend(more);
    metadata
}

fn message(id: &str, metadata: Value, data: Value, data_type: &DataType) -> Value {
    json!({
        "type": "Input", "time_offset_secs": 0.0, "id": id, "metadata": metadata,
        "data": data, "data_type": data_type,
    })
}

fn tracks_of(frame: u64, ids: &[u32]) -> Value {
    let bitmap = vec![1; (SIZE.0 * SIZE.1) as usize];
    let mask = Mask::from_bitmap(&bitmap, SIZE.0, SIZE.1).encode();
    let hex: String = mask.iter().map(|byte| format!("{byte:02x}")).collect();
    let row = |id: &u32| {
        json!({
            "track_id": id, "bbox": [1.0, 2.0, 9.0, 8.0], "mask": hex, "area": 512,
            "score": 0.5, "visible": true, "state": "tracked", "age": 1,
        })
    };
    let info = json!({
        "status": {"String": "ok"}, "processing_ms": {"Float": 1.0}, "model": {"String": "m"},
        "source_width": {"Integer": SIZE.0}, "source_height": {"Integer": SIZE.1},
    });
    let rows: Vec<Value> = ids.iter().map(row).collect();
    message(
        "tracks",
        with(header(frame), &info),
        rows.into(),
        &tracks::data_type(),
    )
}

fn event(metadata: Value, word: &str, detail: &str) -> Value {
    let rows = json!([{"event": word, "detail": detail}]);
    message("stream_events", metadata, rows, &stream_events::data_type())
}

/// Runs the node on these events, in this folder.
fn run(folder: &Path, sinks: &str, events: &[Value]) -> Output {
    let inputs = json!({
        "id": "publisher",
        "events": events,
    });
    let path = folder.join("inputs.json");
    std::fs::write(&path, inputs.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_tracklens-publisher"))
        .env("DORA_TEST_WITH_INPUTS", path)
        .env("DORA_TEST_WRITE_OUTPUTS_TO", folder.join("outputs.jsonl"))
        .env("OUT_DIR", folder.join("out"))
        .env("SINKS", sinks)
        .env("METRICS_ENABLED", "false")
        .output()
        .unwrap()
}

#[test]
fn tracks_become_files_and_frames_sent_again_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let events = [
        event(header(0), "opened", r#"{"fps":25.0,"expected_frames":3}"#),
        tracks_of(0, &[1]),
        tracks_of(1, &[1, 2]),
        tracks_of(0, &[1]),
        tracks_of(2, &[2]),
        event(header(0), "closed", ""),
        event(json!({}), "exhausted", ""),
    ];
    let output = run(folder.path(), "jsonl,mot", &events);
    let log = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{log}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    let rows: Vec<(u64, u32)> = read("tracks.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<TrackRow>(line).unwrap())
        .map(|row| (row.frame, row.track_id))
        .collect();
    assert_eq!(rows, [(0, 1), (1, 1), (1, 2), (2, 2)]);
    assert_eq!(read("mot-cam.txt").lines().count(), 4);
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(summary["state"], "finished", "{log}");
    assert_eq!(summary["streams"][0]["frames"], 3);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_the_first_frame() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out"), "a file").unwrap();
    let output = run(folder.path(), "jsonl", &[tracks_of(0, &[1])]);
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(
        log.contains("set OUT_DIR to a folder that can be written"),
        "{log}"
    );
}
