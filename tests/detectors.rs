//! Detectors in place of memory, and detectors that say where to look: `graphs/legacy.yml`,
//! `graphs/legacy-sam2.yml` and `graphs/detector-prompted.yml`; and the demo.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracklens_tests::{Graph, Output, clip, ffmpeg, frame_count, root};

/// The first frames of a clip, 640 pixels wide.
fn beginning(folder: &Path, name: &str, frames: u32) -> Option<PathBuf> {
    let whole = clip(name)?;
    let path = folder.join("clip.mp4");
    ffmpeg(&[
        "-i",
        whole.to_str().unwrap(),
        "-frames:v",
        &frames.to_string(),
        "-vf",
        "scale=640:-2",
        path.to_str().unwrap(),
    ]);
    Some(path)
}

/// Runs a graph twice; every frame comes through, something is followed, and both runs are alike.
fn assert_works_and_twice_alike(graph: impl Fn() -> Graph, clip: &Path) -> Output {
    let run = || graph().source("a", clip).run();
    let (first, second) = (run(), run());
    first.assert_rows_once_and_in_order();
    assert_eq!(first.frames("a"), frame_count(clip));
    assert_eq!(first.errors("a"), "[]");
    assert_eq!(first.summary()["state"], "finished");
    assert!(!first.tracks("a").is_empty(), "nothing was found");
    assert!(
        first.text("tracks.jsonl") == second.text("tracks.jsonl"),
        "two runs differ"
    );
    first
}

#[test]
fn yolox_finds_people_and_twice_alike() {
    if std::env::var_os("TRACKLENS_MODELS").is_none() {
        eprintln!("TRACKLENS_MODELS is not set: no YOLOX");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(clip) = beginning(folder.path(), "pedestrians.mp4", 30) else {
        return;
    };
    let output = assert_works_and_twice_alike(|| Graph::named("legacy.yml"), &clip);
    assert!(output.tracks("a").len() >= 2, "several people walk there");
}

#[test]
fn the_demo_follows_what_moves() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clip) = beginning(folder.path(), "pedestrians.mp4", 50) else {
        return;
    };
    let own = "../.tools/demo.mp4";
    let run = Graph::changed("demo.yml", |text| {
        assert!(text.contains(own), "the demo clip");
        text.replace(own, clip.to_str().unwrap())
    });
    let output = run.run();
    output.assert_rows_once_and_in_order();
    assert_eq!(output.frames("demo"), frame_count(&clip));
    assert!(!output.tracks("demo").is_empty(), "nothing was found");
    assert_eq!(frame_count(&output.path("overlay.mp4")), frame_count(&clip));
}

#[test]
fn sam2_without_memory_follows_objects_and_twice_alike() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clip) = beginning(folder.path(), "05_default_juggle.mp4", 40) else {
        return;
    };
    let graph = || {
        Graph::named("legacy-sam2.yml")
            .env("SAM2_MODEL_SIZE", "nano")
            .env("GRID_PROMPT_DENSITY", "4")
    };
    let output = assert_works_and_twice_alike(graph, &clip);
    let rows = output.rows();
    // Masks of the model, no boxes.
    let seen = rows.iter().filter(|row| row["visible"] == true);
    let filled = seen.clone().filter(|row| {
        let edge = |at: usize| row["bbox"][at].as_f64().unwrap();
        let area = (edge(2) - edge(0)) * (edge(3) - edge(1));
        row["area"].as_f64().unwrap() >= area
    });
    assert!(seen.count() > 0);
    assert_eq!(filled.count(), 0);
}

#[test]
fn killing_the_tracker_without_memory_loses_no_frame() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clip) = beginning(folder.path(), "05_default_juggle.mp4", 60) else {
        return;
    };
    let mut run = Graph::named("legacy-sam2.yml")
        .env("SAM2_MODEL_SIZE", "nano")
        .env("GRID_PROMPT_DENSITY", "4")
        .source("a", &clip)
        .start();
    run.wait_for_rows(10);
    run.kill("tracklens-iou-tracker");
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{status}: {}", run.log());
    let output = run.into_output();
    output.assert_rows_once_and_in_order();
    assert_eq!(output.frames("a"), frame_count(&clip));
}

#[test]
fn sam2_that_nobody_tells_where_to_look_says_so_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("graphs/file.yml")).unwrap();
    let target = root().join("target");
    let text = text
        .replace("../target", target.to_str().unwrap())
        .replace("DETECTOR: motion", "DETECTOR: sam2")
        .replace("restart_policy: on-failure", "restart_policy: never");
    let graph = folder.path().join("graph.yml");
    std::fs::write(&graph, text).unwrap();
    let mut run = Graph::at(graph).source("a", "none.mp4").start();
    run.wait_until("the reason", |output| {
        let log = output.text("run.log");
        log.contains("connect the input `prompts`")
    });
    run.stop();
    run.wait(Duration::from_secs(60));
}

#[test]
fn a_detectors_boxes_are_prompts_and_twice_alike() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clip) = beginning(folder.path(), "pedestrians.mp4", 60) else {
        return;
    };
    let graph = || {
        Graph::named("detector-prompted.yml")
            .env("SAM2_MODEL_SIZE", "nano")
            .env("SINKS", "jsonl")
    };
    let _output = assert_works_and_twice_alike(graph, &clip);
}

#[test]
fn killed_detectors_and_prompt_generators_lose_no_frame() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clip) = beginning(folder.path(), "pedestrians.mp4", 60) else {
        return;
    };
    for program in ["tracklens-iou-tracker", "tracklens-prompt-generator"] {
        let mut run = Graph::named("detector-prompted.yml")
            .env("SAM2_MODEL_SIZE", "nano")
            .env("MIN_OBJECT_AREA", "200")
            .source("a", &clip)
            .start();
        run.wait_for_rows(5);
        run.kill(program);
        let status = run.wait(Duration::from_secs(300));
        assert!(status.success(), "{program}: {status}: {}", run.log());
        let output = run.into_output();
        output.assert_rows_once_and_in_order();
        assert_eq!(output.frames("a"), frame_count(&clip), "{program}");
    }
}
