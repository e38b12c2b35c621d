//! Without the ONNX Runtime library. Apart, because a process loads that library once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use tracklens_iou_tracker::{YoloxDetector, YoloxSettings};

#[test]
fn a_missing_library_is_an_error_that_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::write(&model, "never read").unwrap();
    let settings = YoloxSettings {
        library: folder.path().join("libonnxruntime.so"),
        model,
        classes: Vec::new(),
        score: 0.3,
        threads: 1,
    };
    let message = YoloxDetector::new(&settings)
        .expect_err("an error")
        .to_string();
    assert!(message.contains("libonnxruntime.so"), "{message}");
    assert!(message.contains("ORT_DYLIB_PATH"), "{message}");
}
