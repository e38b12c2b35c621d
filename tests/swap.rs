//! A node is swapped for another while frames flow: `dora node replace` on a dataflow of a coordinator.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use serde_yaml::Value;
use tracklens_tests::{Machines, clip, frame_count, root};

#[test]
fn a_tracker_is_replaced_and_no_frame_is_lost() {
    let Some(street) = clip("pedestrians.mp4") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("graphs/file.yml")).unwrap();
    let mut graph: Value = serde_yaml::from_str(&text).unwrap();
    let mut tracker = Value::Null;
    for node in graph["nodes"].as_sequence_mut().unwrap() {
        let path = node["path"].as_str().unwrap().replace("..", ".");
        node["path"] = path.into();
        node["deploy"] = serde_yaml::from_str("{machine: edge}").unwrap();
        if node["id"] == "tracker" {
            // Slow enough to be caught at work; its successor is another program, and faster.
            node["env"]["TRIAL_DELAY_MS"] = 20.into();
            tracker = node.clone();
        }
    }
    let other = folder.path().join("tracklens-other-tracker");
    std::fs::copy(root().join("target/release/tracklens-iou-tracker"), &other).unwrap();
    tracker["path"] = other.to_str().unwrap().into();
    tracker["env"]["TRIAL_DELAY_MS"] = 1.into();
    let write = |name: &str, yaml: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, serde_yaml::to_string(yaml).unwrap()).unwrap();
        path
    };
    let (graph, tracker) = (write("swap.yml", &graph), write("tracker.yml", &tracker));

    let sources = format!("[{{id: street, url: '{}'}}]", street.display());
    let machines = Machines::start(&[("SOURCES", &sources)]);
    machines.run_at(&graph, &[]);
    let rows = |machines: &Machines| machines.output().text("tracks.jsonl").lines().count();
    machines.wait_until("rows", |machines| rows(machines) > 200);
    let tracker = tracker.to_str().unwrap();
    let replace = [
        "node",
        "replace",
        "--dataflow",
        "swap",
        "tracker",
        "--from-yaml",
        tracker,
    ];
    let (done, said) = machines.dora(&replace);
    assert!(done, "{said}\n{}", machines.log());
    machines.wait_until("the other tracker", |machines| {
        machines
            .programs("edge")
            .contains(&"tracklens-other-tracker".into())
    });
    machines.wait_until("the end", |machines| {
        machines
            .output()
            .text("summary.json")
            .contains(r#""state": "finished""#)
    });
    let output = machines.output();
    output.assert_rows_once_and_in_order();
    assert_eq!(
        output.frames("street"),
        frame_count(&street),
        "{}",
        machines.log()
    );
}
