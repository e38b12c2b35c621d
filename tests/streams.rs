//! `tracklens streams` beside running graphs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracklens_tests::{Coded, Graph, Sender, clip, free_port, free_ports, root};

fn tracklens(arguments: &[&str]) -> Output {
    Command::new(root().join("target/release/tracklens"))
        .arg("streams")
        .args(arguments)
        .output()
        .expect("target/release/tracklens (make build)")
}

/// What is told as JSON once `condition` holds.
fn told(ports: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let output = tracklens(&["--json", "--ports", ports]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        if condition(&told) {
            return told;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what}: {told:#}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn nodes_of(stream: &Value) -> Vec<&str> {
    let nodes = stream["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node.as_str().unwrap()).collect()
}

#[test]
fn both_trackers_of_a_scaled_graph_are_seen_with_their_streams() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    let first = free_ports(20);
    let (second, tracker) = (first + 10, [first + 4, first + 14]);
    let mut graph = Graph::named("scaled.yml")
        .env("METRICS_ENABLED", "true")
        .env("METRICS_PORT", &first.to_string())
        .env("METRICS_PORT_B", &second.to_string())
        .env("SOURCE_LOOP", "0");
    for camera in ["camera-0", "camera-1", "camera-2", "camera-3"] {
        graph = graph.source(camera, &clip);
    }
    let mut run = graph.start();
    run.wait_for_rows(100);
    let ports = format!("{first},{second}");
    let told = told(&ports, "four streams with rates", |told| {
        let streams = told["streams"].as_array().unwrap();
        let rated = |stream: &Value| stream["fps"].is_f64() && stream["objects"].is_u64();
        streams.len() == 4 && streams.iter().all(rated)
    });
    assert_eq!(told["nodes"].as_array().unwrap().len(), 5, "{told:#}");
    let trackers = tracker.map(|port| format!("iou-tracker:{port}"));
    let mut used = [false; 2];
    for stream in told["streams"].as_array().unwrap() {
        assert_eq!(stream["state"], "open", "{stream:#}");
        assert!(stream["frames_decoded"].as_u64() >= stream["frames_received"].as_u64());
        let nodes = nodes_of(stream);
        let has = trackers
            .each_ref()
            .map(|tracker| nodes.contains(&tracker.as_str()));
        assert!(has[0] != has[1], "one tracker each: {stream:#}");
        used = [used[0] || has[0], used[1] || has[1]];
        for node in ["decoder", "buffer", "publisher"] {
            assert!(nodes.contains(&node), "{stream:#}");
        }
    }
    assert_eq!(used, [true; 2], "{told:#}");
    let table = String::from_utf8(tracklens(&["--ports", &ports]).stdout).unwrap();
    assert!(
        table.contains("camera-3") && table.contains(&trackers[1]),
        "{table}"
    );

    run.stop();
    assert!(run.wait(Duration::from_secs(60)).success(), "{}", run.log());
    let nobody = tracklens(&["--ports", &ports]);
    assert_eq!(nobody.status.code(), Some(1));
    let said = String::from_utf8(nobody.stdout).unwrap();
    assert!(said.starts_with("No TrackLens runs here"), "{said}");
}

#[test]
fn a_camera_that_falls_silent_is_stale_until_it_speaks_again() {
    let coded = Coded::made("h264", "160x120", 60);
    let (first, port) = (free_ports(10), free_port());
    let mut run = Graph::named("live.yml")
        .env("METRICS_ENABLED", "true")
        .env("METRICS_PORT", &first.to_string())
        .env("INGEST_PORT", &port.to_string())
        .env("STREAM_STALE_TIMEOUT_SECONDS", "1")
        .start();
    let ports = first.to_string();
    let streams = |told: &Value| told["streams"].as_array().unwrap().clone();
    let state = |told: &Value, state: &str| {
        let streams = streams(told);
        streams.len() == 1 && streams[0]["stream_id"] == "cam" && streams[0]["state"] == state
    };
    told(&ports, "five nodes", |told| {
        told["nodes"].as_array().unwrap().len() == 5
    });
    let mut sender = Sender::connect(port, "/streams/cam");
    for picture in &coded.pictures[..30] {
        sender.send(picture);
    }
    told(&ports, "silence", |told| state(told, "stale"));
    for picture in &coded.pictures[30..] {
        sender.send(picture);
    }
    told(&ports, "frames again", |told| state(told, "open"));
    sender.close();
    told(&ports, "its end", |told| streams(told).is_empty());
    run.stop();
    assert!(run.wait(Duration::from_secs(60)).success(), "{}", run.log());
}
