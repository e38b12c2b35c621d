//! Two trackers share the streams of one graph.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use tracklens_schemas::Shard;
use tracklens_tests::{Graph, Output, clip, ffmpeg};

const STREAMS: usize = 8;

fn name(stream: usize) -> String {
    format!("camera-{stream}")
}

/// The graph with eight cameras: parts of the same clip, each from another second on.
fn graph(file: &str, folder: &std::path::Path) -> Option<Graph> {
    let clip = clip("pedestrians.mp4")?;
    let mut graph = Graph::named(file);
    for stream in 0..STREAMS {
        let part = folder.join(format!("{stream}.mp4"));
        if !part.exists() {
            let (clip, part) = (clip.to_str().unwrap(), part.to_str().unwrap());
            let from = (2 * stream).to_string();
            ffmpeg(&[
                "-ss",
                &from,
                "-i",
                clip,
                "-t",
                "6",
                "-vf",
                "scale=384:288",
                part,
            ]);
        }
        graph = graph.source(&name(stream), part);
    }
    Some(graph)
}

fn of(output: &Output, stream: usize) -> Vec<String> {
    let mark = format!("\"stream_id\":\"{}\"", name(stream));
    let text = output.text("tracks.jsonl");
    let rows = text.lines().filter(|row| row.contains(&mark));
    rows.map(str::to_owned).collect()
}

#[test]
fn two_trackers_do_together_what_one_does_and_fall_alone() {
    let clips = tempfile::tempdir().unwrap();
    let Some(one) = graph("file.yml", clips.path()) else {
        return;
    };
    let one = one.run();
    let scaled = || graph("scaled.yml", clips.path()).unwrap();
    let two = scaled().run();
    two.assert_rows_once_and_in_order();
    for stream in 0..STREAMS {
        assert!(!of(&one, stream).is_empty());
        assert!(of(&one, stream) == of(&two, stream), "{}", name(stream));
    }

    let mut run = scaled().start();
    run.wait_for_rows(200);
    run.kill_with("tracklens-iou-tracker", "SHARD=0/2\0");
    let status = run.wait(Duration::from_secs(120));
    assert!(status.success(), "{status}: {}", run.log());
    let killed = run.into_output();
    killed.assert_rows_once_and_in_order();
    let shard: Shard = "0/2".parse().unwrap();
    let mut parts = BTreeSet::new();
    for stream in 0..STREAMS {
        let hit = shard.owns(&name(stream).parse().unwrap());
        parts.insert(hit);
        assert_eq!(killed.frames(&name(stream)), one.frames(&name(stream)));
        let same = of(&one, stream) == of(&killed, stream);
        assert!(
            hit || same,
            "{} is none of the killed tracker's",
            name(stream)
        );
    }
    assert_eq!(parts.len(), 2, "both trackers have streams");
}
