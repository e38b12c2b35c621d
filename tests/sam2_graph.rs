//! `graphs/sam2.yml` with the embedded model: every frame, once, the same bytes every time, and objects found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use tracklens_tests::{Graph, clip, frame_count};

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
