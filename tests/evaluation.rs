//! `tracklens eval` through a real graph: a made-up dataset of numbered pictures.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use tracklens_tests::{ffmpeg, root};

/// One graph at a time: two at once would share two cores and dora's ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Forty frames of a bright box that wanders over a ramp from the fifteenth frame on, in pictures and
/// annotations.
fn dataset(folder: &Path) {
    let inside = "between(X,20+3*max(0,N-15),70+3*max(0,N-15))*between(Y,40,90)";
    let write = |part: &str, extension: &str, luma: &str, format: &str| {
        let folder = folder.join(part).join("box");
        std::fs::create_dir_all(&folder).unwrap();
        let pictures = folder.join(format!("%05d.{extension}"));
        let draw = format!("geq=lum='{luma}':cb=128:cr=128,format={format}");
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "color=black:size=240x136:rate=25",
            "-vf",
            &draw,
            "-frames:v",
            "40",
            "-start_number",
            "0",
            "-q:v",
            "2",
            pictures.to_str().unwrap(),
        ]);
    };
    write(
        "JPEGImages",
        "jpg",
        &format!("if({inside},225,40+X/4)"),
        "yuvj420p",
    );
    write(
        "Annotations",
        "png",
        &format!("if({inside},235,16)"),
        "gray",
    );
}

fn eval(folder: &Path, more: &[&str]) -> Output {
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    Command::new(root().join("target/release/tracklens"))
        .args(["eval", "--dataset"])
        .arg(folder)
        .args(more)
        .current_dir(root())
        // Where the log of a failed run is left.
        .env("TMPDIR", folder)
        .env("GRID_PROMPT_DENSITY", "4")
        .output()
        .unwrap()
}

#[test]
fn a_trackers_graph_is_run_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    dataset(folder.path());
    let kept = folder.path().join("kept");
    let output = eval(
        folder.path(),
        &[
            "--tracker",
            "iou",
            "--discover",
            "--keep",
            kept.to_str().unwrap(),
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("tracker iou, 40 frames"), "{text}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words[..2], ["box", "yes"], "{text}");
    assert!(lines[3].trim().starts_with("mean"), "{text}");
    for name in ["graph.yml", "run.log", "tracks.jsonl", "summary.json"] {
        assert!(kept.join(name).is_file(), "{name}");
    }
}

#[test]
fn a_sequence_that_does_not_come_through_is_named() {
    let folder = tempfile::tempdir().unwrap();
    dataset(folder.path());
    // The annotations go on, the pictures do not.
    std::fs::remove_file(folder.path().join("JPEGImages/box/00020.jpg")).unwrap();
    let output = eval(folder.path(), &["--tracker", "iou"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        text.contains("sequence box: 20 of 40 frames came through"),
        "{text}"
    );
    assert!(text.contains("run.log"), "{text}");
}

#[test]
fn the_same_model_is_compared_with_its_memory_and_without() {
    let folder = tempfile::tempdir().unwrap();
    dataset(folder.path());
    let json = folder.path().join("compared.json");
    let output = eval(
        folder.path(),
        &[
            "--compare",
            "video,frame",
            "--model",
            "nano",
            "--json",
            json.to_str().unwrap(),
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let words = |line: &str| -> Vec<String> {
        let words = line.split_whitespace().take(2);
        words.map(str::to_string).collect()
    };
    let lines: Vec<Vec<String>> = text.lines().skip(2).map(words).collect();
    let expected = [
        ["box", "video"],
        ["box", "frame"],
        ["all", "video"],
        ["all", "frame"],
    ];
    assert_eq!(lines, expected, "{text}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let ways = report["ways"].as_array().unwrap();
    let prompts = |way: usize| ways[way]["prompts_per_frame"].as_f64().unwrap();
    assert!(prompts(1) > 12.0, "{report}");
    assert!(prompts(0) < 2.0, "{report}");
    for way in ways {
        assert!(way["ms_per_frame"].as_f64().unwrap() > 0.0, "{report}");
        assert!(way["all"]["id_switches"].is_u64(), "{report}");
    }
}

#[test]
fn without_memory_nothing_can_be_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    dataset(folder.path());
    let output = eval(folder.path(), &["--tracker", "sam2-frame"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text.contains("--compare video,frame"), "{text}");
}
