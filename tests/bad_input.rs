//! Broken sources: each is named with what is wrong, good frames are kept, other streams go on.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};

use tracklens_tests::{Graph, Output, clip, ffmpeg, frame_count};

/// Runs a broken source beside a good one, which must come through untouched.
fn run_beside_a_good_stream(broken: &Path) -> Option<Output> {
    let good = clip("bikes.mp4")?;
    let output = Graph::named("file.yml")
        .source("broken", broken)
        .source("good", &good)
        .run();
    output.assert_rows_once_and_in_order();
    assert_eq!(output.frames("good"), frame_count(&good));
    assert_eq!(output.errors("good"), "[]");
    assert!(
        !output.text("run.log").contains("panicked"),
        "{}",
        output.text("run.log")
    );
    Some(output)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn written(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_empty_file_is_named() {
    let folder = folder();
    let path = written(&folder, "empty.mp4", b"");
    let Some(output) = run_beside_a_good_stream(&path) else {
        return;
    };
    assert!(
        output.errors("broken").contains("empty"),
        "{}",
        output.errors("broken")
    );
    assert_eq!(output.frames("broken"), 0);
}

#[test]
fn a_text_file_is_named() {
    let folder = folder();
    let path = written(
        &folder,
        "notes.mp4",
        b"Not a video, just a few words.\n".repeat(50).as_slice(),
    );
    let Some(output) = run_beside_a_good_stream(&path) else {
        return;
    };
    assert_ne!(output.errors("broken"), "[]");
    assert_eq!(output.frames("broken"), 0);
}

#[test]
fn a_missing_file_is_named() {
    let folder = folder();
    let Some(output) = run_beside_a_good_stream(&folder.path().join("gone.mp4")) else {
        return;
    };
    assert!(output.errors("broken").contains("gone.mp4"));
}

#[test]
fn a_cut_clip_gives_its_good_frames() {
    let Some(source) = clip("08_driving.mp4") else {
        return;
    };
    let folder = folder();
    // A container whose index lies at the front, so that a cut leaves it readable.
    let whole = folder.path().join("whole.mp4");
    ffmpeg(&[
        "-i",
        source.to_str().unwrap(),
        "-c",
        "copy",
        "-movflags",
        "faststart",
        whole.to_str().unwrap(),
    ]);
    let bytes = std::fs::read(&whole).unwrap();
    let path = written(&folder, "cut.mp4", &bytes[..bytes.len() / 2]);
    let Some(output) = run_beside_a_good_stream(&path) else {
        return;
    };
    let frames = output.frames("broken");
    assert!(
        frames > 10 && frames < frame_count(&source),
        "{frames} frames"
    );
    assert_ne!(output.errors("broken"), "[]");
}

#[test]
fn a_clip_with_flipped_bytes_gives_its_good_frames() {
    let Some(source) = clip("08_driving.mp4") else {
        return;
    };
    let folder = folder();
    let raw = folder.path().join("raw.h264");
    ffmpeg(&[
        "-i",
        source.to_str().unwrap(),
        "-c",
        "copy",
        raw.to_str().unwrap(),
    ]);
    let mut bytes = std::fs::read(&raw).unwrap();
    // One byte in a hundred, from a fixed seed; the first parameter sets stay whole.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for byte in bytes.iter_mut().skip(2000) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state.is_multiple_of(100) {
            *byte ^= (state >> 32) as u8 | 1;
        }
    }
    let path = written(&folder, "flipped.h264", &bytes);
    let Some(output) = run_beside_a_good_stream(&path) else {
        return;
    };
    assert!(output.frames("broken") > 0);
    assert_ne!(output.errors("broken"), "[]");
}

#[test]
fn a_change_of_resolution_goes_on() {
    let Some(source) = clip("08_driving.mp4") else {
        return;
    };
    let folder = folder();
    let part = |name: &str, size: &str| {
        let path = folder.path().join(name);
        ffmpeg(&[
            "-i",
            source.to_str().unwrap(),
            "-frames:v",
            "40",
            "-vf",
            &format!("scale={size}"),
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            "0",
            path.to_str().unwrap(),
        ]);
        std::fs::read(path).unwrap()
    };
    let mut bytes = part("large.h264", "1280:720");
    bytes.extend(part("small.h264", "640:360"));
    let path = written(&folder, "changing.h264", &bytes);
    let Some(output) = run_beside_a_good_stream(&path) else {
        return;
    };
    assert_eq!(output.frames("broken"), 80);
    assert_eq!(frame_count(&output.path("overlay.mp4")), 80);
    let sizes: std::collections::BTreeSet<String> = output
        .rows()
        .iter()
        .filter(|row| row["stream_id"] == "broken")
        .map(|row| row["mask"]["size"].to_string())
        .collect();
    assert!(
        sizes
            .iter()
            .all(|size| size == "[720,1280]" || size == "[360,640]"),
        "{sizes:?}"
    );
}
