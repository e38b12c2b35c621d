//! The YOLOX detector with models made for the purpose (fixtures/make.py).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::path::{Path, PathBuf};

use tracklens_iou_tracker::{Detector, DetectorError, StreamFrame, YoloxDetector, YoloxSettings};
use tracklens_schemas::{Image, ImageInfo, PixelEncoding, StreamId};

fn load(model: &str) -> Option<Result<YoloxDetector, DetectorError>> {
    let Some(library) = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from) else {
        println!("skipped: ORT_DYLIB_PATH not set");
        return None;
    };
    Some(YoloxDetector::new(&YoloxSettings {
        library,
        model: Path::new("tests/fixtures").join(model),
        classes: Vec::new(),
        score: 0.3,
        threads: 1,
    }))
}

#[test]
fn frames_of_a_batch_do_not_mix() {
    let Some(detector) = load("any_batch.onnx") else {
        return;
    };
    let mut detector = detector.unwrap();
    assert!(detector.max_batch() > 1);
    // Streams of different sizes and colours, more than fit in one inference.
    let streams: Vec<(StreamId, ImageInfo, Vec<u8>)> = (0..11_u32)
        .map(|i| {
            let side = 64 + 8 * i;
            let info = ImageInfo::new(side, side, PixelEncoding::Rgb8);
            let red = 100 + 10 * i as u8;
            let pixels = [red, 0, 0].repeat((side * side) as usize);
            (format!("s{i}").parse().unwrap(), info, pixels)
        })
        .collect();
    let frames: Vec<StreamFrame<'_>> = streams
        .iter()
        .map(|(stream, info, data)| StreamFrame {
            stream,
            image: Image::new(*info, data).unwrap(),
            prompts: &[],
        })
        .collect();
    let found = detector.detect(&frames).unwrap();
    assert_eq!(found.len(), frames.len());
    for (i, (found, (_, info, _))) in found.iter().zip(&streams).enumerate() {
        assert_eq!(found.len(), 1);
        let expected = (100.0 + 10.0 * i as f32) / 255.0;
        assert!(
            (found[0].score - expected).abs() < 0.01,
            "{i}: {}",
            found[0].score
        );
        let quarter = info.width as f32 / 4.0;
        assert!(
            (found[0].bbox.x0 - quarter).abs() < 0.1,
            "{i}: {:?}",
            found[0].bbox
        );
    }
}

#[test]
fn a_model_of_another_kind_is_refused_with_both_shapes() {
    let Some(result) = load("identity.onnx") else {
        return;
    };
    let message = result.expect_err("an error").to_string();
    for words in ["identity.onnx", "N×3×H×W", "64"] {
        assert!(message.contains(words), "{message}");
    }
    println!("{message}");
}
