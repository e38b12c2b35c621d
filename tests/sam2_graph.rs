//! `graphs/sam2.yml` with the embedded model: every frame, once, the same bytes every time, and objects found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use tracklens_tests::{Graph, Output, Row, clip, ffmpeg, frame_count};

fn graph() -> Graph {
    Graph::named("sam2.yml")
        .env("SAM2_MODEL_SIZE", "nano")
        .env("SAM2_PROMPT_STRATEGY", "hybrid")
        .env("REPROMPT_INTERVAL", "30")
}

#[test]
fn nano_follows_objects_and_twice_alike() {
    let Some(clip) = clip("05_default_juggle.mp4") else {
        return;
    };
    let run = || graph().source("juggle", &clip).run();
    let (first, second) = (run(), run());
    first.assert_rows_once_and_in_order();
    assert_eq!(first.frames("juggle"), frame_count(&clip));
    assert_eq!(first.errors("juggle"), "[]");
    assert!(!first.tracks("juggle").is_empty(), "nothing was found");
    assert!(
        first.text("tracks.jsonl") == second.text("tracks.jsonl"),
        "two runs differ"
    );
}

#[test]
fn every_strategy_and_the_memory_tree_find_alike_twice() {
    let Some(clip) = clip("bikes.mp4") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.mp4");
    let (from, to) = (clip.display().to_string(), short.display().to_string());
    ffmpeg(&["-i", &from, "-frames:v", "45", "-an", &to]);
    let ways = [
        ("grid", "1"),
        ("motion", "1"),
        ("saliency", "1"),
        ("hybrid", "3"),
    ];
    for (strategy, branches) in ways {
        let run = || {
            graph()
                .env("SAM2_PROMPT_STRATEGY", strategy)
                .env("MEMORY_TREE_BRANCHES", branches)
                .env("GRID_PROMPT_DENSITY", "8")
                .source("bikes", &short)
                .run()
        };
        let (first, second) = (run(), run());
        assert_eq!(first.frames("bikes"), frame_count(&short), "{strategy}");
        assert!(
            !first.tracks("bikes").is_empty(),
            "{strategy} found nothing"
        );
        assert!(
            first.text("tracks.jsonl") == second.text("tracks.jsonl"),
            "two runs with {strategy} differ"
        );
    }
}

#[test]
fn tracking_ends_in_order_where_the_prompt_generator_cannot_start() {
    let Some(clip) = clip("05_default_juggle.mp4") else {
        return;
    };
    let graph = graph().env("SAM2_PROMPT_STRATEGY", "file");
    let mut run = graph.source("juggle", &clip).start();
    let status = run.wait(Duration::from_secs(300));
    assert!(!status.success(), "a node has failed");
    let log = run.log();
    assert!(log.contains("PROMPT_FILE"), "{log}");
    assert_eq!(run.into_output().frames("juggle"), frame_count(&clip));
}

#[test]
fn killing_the_tracker_loses_no_frame() {
    let Some(clip) = clip("05_default_juggle.mp4") else {
        return;
    };
    let mut run = graph().source("juggle", &clip).start();
    run.wait_for_rows(40);
    run.kill("tracklens-sam2-tracker");
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{status}: {}", run.log());
    let output = run.into_output();
    output.assert_rows_once_and_in_order();
    assert_eq!(output.frames("juggle"), frame_count(&clip));
}

#[test]
fn a_tracker_killed_at_frame_40_goes_on_with_the_same_objects() {
    let Some(clip) = clip("05_default_juggle.mp4") else {
        return;
    };
    let nano = || graph().env("SNAPSHOT_INTERVAL_SECONDS", "0.3");
    let whole = nano().source("juggle", &clip).run();
    let mut run = nano().source("juggle", &clip).start();
    run.wait_until("frame 40", |output| {
        let frame = |row: &Row| row["frame"].as_u64();
        output.rows_so_far().last().and_then(frame) >= Some(40)
    });
    run.kill("tracklens-sam2-tracker");
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{status}: {}", run.log());
    let killed = run.into_output();
    killed.assert_rows_once_and_in_order();
    assert_eq!(killed.frames("juggle"), frame_count(&clip));
    // Who was there at the kill is there three seconds later under the same number; who came later has one
    // that was never given before.
    let there = |output: &Output| -> BTreeSet<u64> {
        let seen = |row: &&Row, frame: u64| row["frame"] == frame && row["visible"] == true;
        let rows = output.rows();
        let ids = |frame| -> BTreeSet<u64> {
            let rows = rows.iter().filter(|row| seen(row, frame));
            rows.filter_map(|row| row["track_id"].as_u64()).collect()
        };
        ids(30).intersection(&ids(110)).copied().collect()
    };
    assert!(!there(&whole).is_empty());
    assert_eq!(there(&killed), there(&whole));
}
