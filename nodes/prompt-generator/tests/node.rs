//! The compiled node, fed by dora's test inputs: frames in, one message of prompts for each out.
//!
//! Dora's test mode knows no edges: waiting for tracks is tested in the library, and in whole
//! graphs (tests/prompts.rs).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tracklens_schemas::arrow::datatypes::DataType;
use tracklens_schemas::stream_events;

const SIZE: (u32, u32) = (32, 16);

fn header(frame: u64) -> Value {
    json!({
        "stream_id": {"String": "cam"}, "epoch": {"Integer": 0}, "frame": {"Integer": frame},
        "pts_ns": {"Integer": frame * 40_000_000}, "capture_ns": {"Integer": 0},
    })
}

fn message(id: &str, metadata: &Value, data: &Value, data_type: &DataType) -> Value {
    json!({
        "type": "Input", "time_offset_secs": 0.0, "id": id, "metadata": metadata,
        "data": data, "data_type": data_type,
    })
}

fn frame(number: u64, length: usize) -> Value {
    let mut metadata = header(number);
    let image = json!({
        "width": {"Integer": SIZE.0}, "height": {"Integer": SIZE.1},
        "encoding": {"String": "rgb8"}, "primitive": {"String": "image"},
    });
    let image = image.as_object().unwrap().clone();
    metadata.as_object_mut().unwrap().extend(image);
    message(
        "frames",
        &metadata,
        &json!(vec![90; length]),
        &DataType::UInt8,
    )
}

fn whole_frame(number: u64) -> Value {
    frame(number, (3 * SIZE.0 * SIZE.1) as usize)
}

fn event(metadata: &Value, word: &str) -> Value {
    let rows = json!([{"event": word, "detail": ""}]);
    message(
        "stream_events",
        metadata,
        &rows,
        &stream_events::data_type(),
    )
}

/// Runs the node on these events, in this folder.
fn run(folder: &Path, settings: &[(&str, &str)], events: &[Value]) -> Output {
    let path = folder.join("inputs.json");
    let inputs = json!({"id": "prompt-generator", "events": events});
    std::fs::write(&path, inputs.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_tracklens-prompt-generator"))
        .env("DORA_TEST_WITH_INPUTS", path)
        .env("DORA_TEST_WRITE_OUTPUTS_TO", folder.join("outputs.jsonl"))
        .env("METRICS_ENABLED", "false")
        .envs(settings.iter().copied())
        .output()
        .unwrap()
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// The rows of every `prompts` message, in order.
fn prompts(folder: &Path) -> Vec<Vec<Value>> {
    let text = std::fs::read_to_string(folder.join("outputs.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|message| message["id"] == "prompts")
        .map(|message| message["data"].as_array().cloned().unwrap_or_default())
        .collect()
}

#[test]
fn every_frame_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let events = [
        event(&header(0), "opened"),
        whole_frame(0),
        whole_frame(1),
        whole_frame(2),
        whole_frame(3),
        event(&header(4), "closed"),
        event(&json!({}), "exhausted"),
    ];
    let settings = [("GRID_PROMPT_DENSITY", "3"), ("REPROMPT_INTERVAL", "2")];
    let output = run(folder.path(), &settings, &events);
    assert!(output.status.success(), "{}", log(&output));
    let counts: Vec<usize> = prompts(folder.path()).iter().map(Vec::len).collect();
    assert_eq!(counts, [9, 0, 9, 0], "{}", log(&output));
}

#[test]
fn prompts_of_a_file_go_out_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.yml");
    std::fs::write(&file, "- {stream_id: cam, frame: 1, box: [2, 3, 10, 12]}\n").unwrap();
    let settings = [
        ("SAM2_PROMPT_STRATEGY", "file"),
        ("PROMPT_FILE", file.to_str().unwrap()),
    ];
    let output = run(folder.path(), &settings, &[whole_frame(0), whole_frame(1)]);
    assert!(output.status.success(), "{}", log(&output));
    let prompts = prompts(folder.path());
    assert_eq!(prompts.len(), 2, "{}", log(&output));
    assert_eq!(prompts[0], Vec::<Value>::new());
    assert_eq!(prompts[1][0]["box"], json!([2.0, 3.0, 10.0, 12.0]));
    assert_eq!(prompts[1][0]["strategy"], "file");
}

/// The C example of tracklens-plugin, built into this folder, as a plug-in of this kind.
fn plugin_in_c(folder: &Path, kind: &str) -> String {
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtime/plugin");
    let (source, library) = (folder.join("boxes.c"), folder.join("boxes.so"));
    let text = std::fs::read_to_string(format!("{plugin}/examples/boxes.c")).unwrap();
    assert!(text.contains("TRACKLENS_PROMPT_STRATEGY"));
    std::fs::write(&source, text.replace("TRACKLENS_PROMPT_STRATEGY", kind)).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-I", &format!("{plugin}/include"), "-o"])
        .arg(&library)
        .arg(&source)
        .output()
        .unwrap_or_else(|error| panic!("this test needs the C compiler `cc`: {error}"));
    assert!(output.status.success(), "{}", log(&output));
    library.to_str().unwrap().into()
}

/// An example of tracklens-plugin in Rust, where cargo puts it beside the node.
fn plugin_in_rust(name: &str) -> String {
    let node = Path::new(env!("CARGO_BIN_EXE_tracklens-prompt-generator"));
    let path = node.with_file_name(format!("examples/lib{name}.so"));
    assert!(
        path.exists(),
        "{} is missing: cargo build --release --workspace --all-targets makes it",
        path.display()
    );
    path.to_str().unwrap().into()
}

#[test]
fn a_plugin_proposes_boxes_on_the_frames_looked_at() {
    for kind in ["TRACKLENS_PROMPT_STRATEGY", "TRACKLENS_DETECTOR"] {
        let folder = tempfile::tempdir().unwrap();
        let library = plugin_in_c(folder.path(), kind);
        let settings = [
            ("PROMPT_PLUGIN", library.as_str()),
            ("PROMPT_PLUGIN_CONFIG", r#"{"columns": 2, "rows": 2}"#),
            ("REPROMPT_INTERVAL", "2"),
        ];
        let frames = [whole_frame(0), whole_frame(1), whole_frame(2)];
        let output = run(folder.path(), &settings, &frames);
        assert!(output.status.success(), "{}", log(&output));
        let prompts = prompts(folder.path());
        let counts: Vec<usize> = prompts.iter().map(Vec::len).collect();
        assert_eq!(counts, [4, 0, 4], "{}", log(&output));
        assert_eq!(prompts[2][3]["box"], json!([16.0, 8.0, 32.0, 16.0]));
        assert_eq!(prompts[2][3]["strategy"], "boxes");
    }
}

#[test]
fn a_plugin_that_cannot_be_used_stops_the_node_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    let library = plugin_in_c(folder.path(), "TRACKLENS_PROMPT_STRATEGY");
    let other = tempfile::tempdir().unwrap();
    let enhancer = plugin_in_c(other.path(), "TRACKLENS_ENHANCER");
    for (path, config, says) in [
        (
            enhancer.as_str(),
            "{}",
            "is of kind enhancer, expected prompt-strategy",
        ),
        (text.to_str().unwrap(), "{}", "is no shared library"),
        ("nowhere.so", "{}", "cannot be opened"),
        (&library, r#"{"rows": 77}"#, "should be 1 to 32"),
        (&library, "rows", "that is not JSON"),
    ] {
        let settings = [("PROMPT_PLUGIN", path), ("PROMPT_PLUGIN_CONFIG", config)];
        let output = run(folder.path(), &settings, &[whole_frame(0)]);
        assert!(!output.status.success());
        let log = log(&output);
        assert!(log.contains("PROMPT_PLUGIN: plug-in"), "{log}");
        assert_eq!(log.matches(says).count(), 1, "{log}");
    }
}

#[test]
fn a_look_on_which_the_plugin_fails_has_no_prompts_and_the_next_one_has() {
    let library = plugin_in_rust("misbehaving");
    for (does, says) in [
        ("panic", "panicked: a panic on request"),
        ("error", "failed: an error on request"),
        ("columns", "column `score` is missing"),
        ("hostile", "returned bad prompts"),
        ("outside", "the box is empty within 32x16 pixels"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"does": does, "times": 2}).to_string();
        let settings = [
            ("PROMPT_PLUGIN", library.as_str()),
            ("PROMPT_PLUGIN_CONFIG", &config),
            ("REPROMPT_INTERVAL", "1"),
        ];
        let frames: Vec<Value> = (0..4).map(whole_frame).collect();
        let output = run(folder.path(), &settings, &frames);
        let log = log(&output);
        assert!(output.status.success(), "{log}");
        let counts: Vec<usize> = prompts(folder.path()).iter().map(Vec::len).collect();
        assert_eq!(counts, [0, 0, 1, 1], "{does}: {log}");
        assert_eq!(log.matches(says).count(), 1, "{log}");
        assert_eq!(log.matches("works again").count(), 1, "{log}");
    }
}

#[test]
fn a_frame_cut_short_is_said_and_the_next_one_answered() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], &[frame(0, 7), whole_frame(1)]);
    assert!(output.status.success(), "{}", log(&output));
    assert!(log(&output).contains("bad message"), "{}", log(&output));
    assert_eq!(prompts(folder.path()).len(), 1);
}

#[test]
fn mistakes_of_a_file_are_told_together_before_the_first_frame() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.json");
    std::fs::write(&file, r#"[{"frame": 0}, {"box": [0, 0, 1, 1]}]"#).unwrap();
    let settings = [
        ("SAM2_PROMPT_STRATEGY", "file"),
        ("PROMPT_FILE", file.to_str().unwrap()),
    ];
    let output = run(folder.path(), &settings, &[whole_frame(0)]);
    assert!(!output.status.success());
    for mistake in ["entry 1: needs points", "entry 2: `frame` is missing"] {
        assert!(log(&output).contains(mistake), "{}", log(&output));
    }
    let output = run(folder.path(), &settings[..1], &[whole_frame(0)]);
    assert!(
        log(&output).contains("needs PROMPT_FILE"),
        "{}",
        log(&output)
    );
}
