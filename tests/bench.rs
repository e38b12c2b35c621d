//! `tracklens bench` measures a real run and writes its report.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;

use tracklens_tests::{clip, root};

#[test]
fn a_report_has_every_case_with_its_stages_and_plots() {
    let Some(street) = clip("pedestrians.mp4") else {
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(root().join("target/release/tracklens"))
        .current_dir(root())
        .args(["bench", street.to_str().unwrap()])
        .args(["--objects", "1,2", "--streams", "1,2", "--frames", "150"])
        .args([
            "--live",
            "25",
            "--live-mbit",
            "0.5",
            "--height",
            "240",
            "--out",
            out.path().to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    let text = std::fs::read_to_string(out.path().join("bench.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (list, field) in [("objects", "objects"), ("streams", "streams")] {
        for (at, expected) in [1, 2].into_iter().enumerate() {
            let case = &report[list][at];
            assert_eq!(case[field], expected, "{text}");
            assert_eq!(case["height"], 240, "{text}");
            assert!(case["fps"].as_f64().unwrap() > 0.0, "{text}");
            let names = |list: &str, field: &str| -> Vec<String> {
                let all = case[list].as_array().unwrap().iter();
                all.map(|entry| entry[field].as_str().unwrap().to_string())
                    .collect()
            };
            let stages = names("stages", "operation");
            for stage in ["track", "image_encoder", "memory_attention", "masks"] {
                assert!(stages.contains(&stage.to_string()), "{stages:?}");
            }
            let processes = names("processes", "name");
            for process in ["decoder", "buffer", "sam2-tracker", "publisher"] {
                assert!(processes.contains(&process.to_string()), "{processes:?}");
            }
        }
    }
    let live = &report["live"];
    assert_eq!(
        (&live["height"], &live["rate"]),
        (&240.into(), &25.into()),
        "{text}"
    );
    let number = |field: &str| live[field].as_f64().unwrap();
    assert_eq!(number("mbit"), 0.5, "{text}");
    assert!(number("frames") > 100.0, "{text}");
    assert!(
        0.0 < number("tracker_ms") && number("tracker_ms") < number("p99_ms"),
        "{text}"
    );
    for plot in ["objects.png", "streams.png"] {
        let bytes = std::fs::read(out.path().join(plot)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{plot}");
    }
}
