//! Killed and stopped nodes: the run ends well, and no row is torn, lost or written twice.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use tracklens_tests::{Graph, Output, clip, frame_count};

/// Runs pedestrians.mp4 and kills a node after so many rows.
fn run_with_kill(program: &str) -> Option<(Output, Output)> {
    let clip = clip("pedestrians.mp4")?;
    let graph = || Graph::named("file.yml").source("street", &clip);
    let mut run = graph().start();
    run.wait_for_rows(200);
    run.kill(program);
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{status}: {}", run.log());
    let killed = run.into_output();
    killed.assert_rows_once_and_in_order();
    assert_eq!(killed.frames("street"), frame_count(&clip));
    Some((killed, graph().run()))
}

#[test]
fn killing_the_publisher_loses_no_row() {
    let Some((killed, whole)) = run_with_kill("tracklens-publisher") else {
        return;
    };
    assert!(killed.text("tracks.jsonl") == whole.text("tracks.jsonl"));
}

#[test]
fn killing_the_tracker_loses_no_frame_and_reuses_no_id() {
    let Some((killed, whole)) = run_with_kill("tracklens-iou-tracker") else {
        return;
    };
    let before = whole.tracks("street");
    let after = killed.tracks("street");
    assert!(
        after.iter().max() > before.iter().max(),
        "new ids after the restart"
    );
}

#[test]
fn killing_the_buffer_loses_no_row() {
    let Some((killed, whole)) = run_with_kill("tracklens-buffer") else {
        return;
    };
    assert!(killed.text("tracks.jsonl") == whole.text("tracks.jsonl"));
}

#[test]
fn stopping_leaves_complete_files() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    let mut run = Graph::named("file.yml").source("street", clip).start();
    run.wait_for_rows(200);
    run.stop();
    run.wait(Duration::from_secs(60));
    let output = run.into_output();
    output.assert_rows_once_and_in_order();
    assert_eq!(output.summary()["state"], "stopped");
    assert!(frame_count(&output.path("overlay.mp4")) > 0);
}

#[test]
fn a_node_that_says_nothing_is_killed_and_started_again() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    let graph = || {
        Graph::changed("file.yml", |text| {
            let text = text.replace("health_check_timeout: 30", "health_check_timeout: 3");
            // Said more often than it is asked for.
            let text = text.replace("dora/timer/secs/5", "dora/timer/millis/500");
            text.replace("nodes:", "health_check_interval: 1\nnodes:")
        })
        .source("street", &clip)
    };
    let mut run = graph().start();
    run.wait_for_rows(200);
    run.hold("tracklens-buffer");
    let status = run.wait(Duration::from_secs(120));
    assert!(status.success(), "{status}: {}", run.log());
    let log = run.log();
    assert!(log.contains("unresponsive"), "{log}");
    let held = run.into_output();
    held.assert_rows_once_and_in_order();
    assert!(held.text("tracks.jsonl") == graph().run().text("tracks.jsonl"));
}
