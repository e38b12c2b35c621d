//! What is said about a model folder in which something is missing or wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tracklens_onnx::SessionSettings;
use tracklens_sam2::model_folder::{find, search_path};
use tracklens_sam2::{Engines, ModelFolder};

/// A copy of the test model.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir("tests/golden/small-test").unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// Changes the description.
fn edit(folder: &Path, from: &str, to: &str) {
    let file = folder.join("model.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// Puts a module's real checksum into the description.
fn sign(folder: &Path, module: &str) {
    let bytes = std::fs::read(folder.join(format!("{module}.onnx"))).unwrap();
    let sum: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let file = folder.join("model.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let section = format!("[modules.{module}]");
    let (before, after) = text.split_once(&section).unwrap();
    let start = after.find("sha256 = \"").unwrap() + 10;
    let text = format!(
        "{before}{section}{}{sum}{}",
        &after[..start],
        &after[start + 64..]
    );
    std::fs::write(file, text).unwrap();
}

fn library() -> Option<PathBuf> {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    if library.is_none() {
        println!("skipped: ORT_DYLIB_PATH not set");
    }
    library
}

/// Opens a model whole; what is said must hold these words and be one line.
#[track_caller]
fn refused(folder: &Path, library: Option<PathBuf>, words: &[&str]) {
    let opened = ModelFolder::open(folder).and_then(|model| {
        let library = library.expect("only the folder was to be looked at");
        let settings = SessionSettings {
            library,
            threads: 1,
            ..SessionSettings::default()
        };
        Engines::open(&model, &settings)
    });
    let message = opened.expect_err("an error").to_string();
    println!("{message}");
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_missing_module_is_named() {
    let folder = copy();
    std::fs::remove_file(folder.path().join("mask_decoder.onnx")).unwrap();
    refused(folder.path(), None, &["mask_decoder", "missing", "fetch"]);
}

#[test]
fn a_wrong_checksum_is_said_with_both() {
    let folder = copy();
    let file = folder.path().join("memory_encoder.onnx");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    refused(
        folder.path(),
        None,
        &["memory_encoder.onnx", "expected sha256", "found"],
    );
}

#[test]
fn a_missing_or_broken_description_is_named() {
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), None, &["model.toml", "cannot be read"]);
    let folder = copy();
    edit(folder.path(), "candidates = 4", "candidates = four");
    refused(folder.path(), None, &["model.toml", "candidates"]);
    let folder = copy();
    edit(folder.path(), "frames = 7", "frames = 0");
    refused(folder.path(), None, &["memory", "at least 1"]);
}

#[test]
fn a_wrong_shape_is_said_with_both() {
    let Some(library) = library() else { return };
    let folder = copy();
    edit(
        folder.path(),
        "memory_channels = 32",
        "memory_channels = 48",
    );
    let words = [
        "memory_attention.onnx",
        "expected input memory",
        "48×8×8",
        "32×8×8",
    ];
    refused(folder.path(), Some(library), &words);
}

#[test]
fn a_truncated_module_is_named_even_if_its_checksum_is_right() {
    let Some(library) = library() else { return };
    let folder = copy();
    let file = folder.path().join("image_encoder.onnx");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    sign(folder.path(), "image_encoder");
    let words = ["image_encoder.onnx", "not a whole ONNX model", "fetch"];
    refused(folder.path(), Some(library), &words);
}

#[test]
fn a_module_in_another_ones_place_is_named() {
    let Some(library) = library() else { return };
    let folder = copy();
    let (from, to) = ("memory_encoder.onnx", "mask_decoder.onnx");
    std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    sign(folder.path(), "mask_decoder");
    refused(
        folder.path(),
        Some(library),
        &["mask_decoder.onnx", "expected input"],
    );
}

#[test]
fn a_model_is_found_beside_the_program_and_named_where_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("nodes/sam2-tracker/models");
    std::fs::create_dir_all(models.join("nano")).unwrap();
    std::fs::write(models.join("nano/model.toml"), "").unwrap();
    let program = folder.path().join("target/release/tracklens-sam2-tracker");
    let folders = search_path(&[], Some(&program), None);
    assert_eq!(find("nano", &folders).unwrap(), models.join("nano"));
    let graphs = folder.path().join("graphs");
    assert_eq!(
        find("nano", &search_path(&[], None, Some(&graphs))).unwrap(),
        models.join("nano")
    );
    let message = find("tiny", &folders).unwrap_err().to_string();
    for word in ["tiny", "SAM2_MODEL_DIR", "models found: nano"] {
        assert!(message.contains(word), "{message}");
    }
}
