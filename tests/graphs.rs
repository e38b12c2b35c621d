//! Every graph in `graphs/` is one that dora accepts, edges' types included.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;

use tracklens_tests::{dora, root};

#[test]
fn every_graph_is_valid_with_strict_types() {
    let mut graphs: Vec<_> = std::fs::read_dir(root().join("graphs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yml"))
        .collect();
    graphs.sort();
    assert!(graphs.len() >= 3, "{graphs:?}");
    for graph in graphs {
        let output = Command::new(dora())
            .args(["validate", "--strict-types"])
            .arg(&graph)
            .output()
            .expect("dora starts (make setup)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", graph.display());
    }
}
