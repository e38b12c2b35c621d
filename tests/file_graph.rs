//! `graphs/file.yml`: every frame, once, in order, and the same bytes every time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use tracklens_tests::{Graph, clip, clips, frame_count};

#[test]
fn every_clip_is_processed_frame_by_frame_and_twice_alike() {
    for clip in clips() {
        let run = || Graph::named("file.yml").source("clip", &clip).run();
        let (first, second) = (run(), run());
        let expected = frame_count(&clip);
        for output in [&first, &second] {
            output.assert_rows_once_and_in_order();
            assert_eq!(output.frames("clip"), expected, "{}", clip.display());
            assert_eq!(frame_count(&output.path("overlay.mp4")), expected);
            assert_eq!(output.summary()["state"], "finished");
        }
        assert!(
            first.text("tracks.jsonl") == second.text("tracks.jsonl"),
            "two runs differ on {}",
            clip.display()
        );
    }
}

#[test]
fn people_are_found_and_followed() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    let output = Graph::named("file.yml").source("street", clip).run();
    assert!(output.tracks("street").len() >= 5);
}

#[test]
fn several_streams_share_a_graph() {
    let (Some(a), Some(b)) = (clip("bikes.mp4"), clip("08_driving.mp4")) else {
        return;
    };
    let counts = [frame_count(&a), frame_count(&b)];
    let output = Graph::named("file.yml").source("a", a).source("b", b).run();
    output.assert_rows_once_and_in_order();
    assert_eq!([output.frames("a"), output.frames("b")], counts);
}
