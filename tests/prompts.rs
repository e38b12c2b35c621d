//! The cycle of prompt-generator and tracker: it ends by itself, and survives kills.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use tracklens_tests::{Graph, clip, frame_count, root};

/// `graphs/sam2.yml` with a tracker that needs no model.
fn graph() -> Graph {
    Graph::at(root().join("tests/graphs/prompts.yml"))
        .env("REPROMPT_INTERVAL", "10")
        .env("SINKS", "jsonl")
}

#[test]
fn the_cycle_ends_by_itself_and_twice_alike() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    let run = |strategy: &str| {
        graph()
            .env("SAM2_PROMPT_STRATEGY", strategy)
            .source("street", &clip)
            .run()
    };
    let (first, second) = (run("hybrid"), run("grid"));
    first.assert_rows_once_and_in_order();
    assert_eq!(first.frames("street"), frame_count(&clip));
    assert_eq!(first.summary()["state"], "finished");
    assert!(first.text("tracks.jsonl") == second.text("tracks.jsonl"));
}

#[test]
fn several_streams_share_the_cycle() {
    let (Some(a), Some(b)) = (clip("bikes.mp4"), clip("08_driving.mp4")) else {
        return;
    };
    let counts = [frame_count(&a), frame_count(&b)];
    let output = graph().source("a", a).source("b", b).run();
    output.assert_rows_once_and_in_order();
    assert_eq!([output.frames("a"), output.frames("b")], counts);
}

#[test]
fn killed_nodes_of_the_cycle_lose_no_frame() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    for program in ["tracklens-prompt-generator", "tracklens-iou-tracker"] {
        let mut run = graph().source("street", &clip).start();
        run.wait_for_rows(200);
        run.kill(program);
        let status = run.wait(Duration::from_secs(120));
        assert!(status.success(), "{program}: {status}: {}", run.log());
        let output = run.into_output();
        output.assert_rows_once_and_in_order();
        assert_eq!(output.frames("street"), frame_count(&clip), "{program}");
    }
}
