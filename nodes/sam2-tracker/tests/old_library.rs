//! With an ONNX Runtime from long ago. Apart, because a process loads that library once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use tracklens_onnx::SessionSettings;
use tracklens_sam2::{Engines, ModelFolder};

/// A library that answers as ONNX Runtime 1.10 does: its version, and no newer interface.
const OLD: &str = r#"
#include <stdint.h>
static const void *api(uint32_t version) { (void)version; return 0; }
static const char *version(void) { return "1.10.0"; }
static const struct { const void *(*api)(uint32_t); const char *(*version)(void); } base = { api, version };
const void *OrtGetApiBase(void) { return &base; }
"#;

#[test]
fn a_library_that_is_too_old_is_an_error_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("old.c"), folder.path().join("old.so"));
    std::fs::write(&source, OLD).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .expect("no C compiler: this test needs `cc`, as building FFmpeg's bindings does");
    assert!(compiled.success());
    let model = ModelFolder::open(Path::new("tests/golden/small-test")).unwrap();
    let settings = SessionSettings {
        library,
        ..SessionSettings::default()
    };
    let message = Engines::open(&model, &settings)
        .expect_err("an error")
        .to_string();
    for part in ["old.so", "1.10.0", "or newer is needed", "ORT_DYLIB_PATH"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}
