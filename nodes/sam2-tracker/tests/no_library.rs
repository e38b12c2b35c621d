//! Without the ONNX Runtime library. Apart, because a process loads that library once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;

use tracklens_onnx::SessionSettings;
use tracklens_sam2::{Engines, ModelFolder};

#[test]
fn a_missing_library_is_an_error_that_says_what_to_set() {
    let model = ModelFolder::open(Path::new("tests/golden/small-test")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = SessionSettings {
        library: folder.path().join("libonnxruntime.so"),
        ..SessionSettings::default()
    };
    let message = Engines::open(&model, &settings)
        .expect_err("an error")
        .to_string();
    assert!(message.contains("libonnxruntime.so"), "{message}");
    assert!(message.contains("ORT_DYLIB_PATH"), "{message}");
}
