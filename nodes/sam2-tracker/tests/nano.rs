//! The embedded model: its candidates, all of them and the first alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;

use tracklens_onnx::SessionSettings;
use tracklens_sam2::bitmap::Bitmap;
use tracklens_sam2::model_folder::ModelFolder;
use tracklens_sam2::modules::{Decoded, Look, PromptBatch};
use tracklens_sam2::{Engines, Modules};

/// A bright disc in the middle of a dark picture, normalised; and where it is in cells of a mask.
fn disc([height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> (Vec<f32>, Bitmap) {
    let radius = height as f32 / 4.0;
    let inside = |y: f32, x: f32| {
        let (down, across) = (y - height as f32 / 2.0, x - width as f32 / 2.0);
        radius - (down * down + across * across).sqrt()
    };
    let plane = (0..height * width).map(|at| {
        let edge = inside((at / width) as f32 + 0.5, (at % width) as f32 + 0.5);
        if edge > 0.0 { 2.0 } else { -1.5 }
    });
    let plane: Vec<f32> = plane.collect();
    let (down, across) = (height as f32 / rows as f32, width as f32 / columns as f32);
    let cells = (0..rows * columns).map(|at| {
        inside(
            ((at / columns) as f32 + 0.5) * down,
            ((at % columns) as f32 + 0.5) * across,
        )
    });
    let cells: Vec<f32> = cells.collect();
    (plane.repeat(3), Bitmap::new(&cells))
}

#[test]
fn the_first_candidate_is_the_same_alone_and_the_others_show_the_object_too() {
    let folder = ModelFolder::open(Path::new("models/nano")).unwrap();
    let library = std::env::var_os("ORT_DYLIB_PATH").expect("make sets ORT_DYLIB_PATH");
    let sessions = SessionSettings {
        library: library.into(),
        ..SessionSettings::default()
    };
    let mut engines = Engines::open(&folder, &sessions).unwrap();
    let (input, geometry) = (&folder.config.input, &folder.config.geometry);
    let (pixels, disc) = disc([input.height, input.width], geometry.mask);
    let frame = engines.encode_image(&pixels).unwrap();
    let (middle, radius) = (
        [input.width as f32 / 2.0, input.height as f32 / 2.0],
        input.height as f32 / 4.0,
    );
    let corner = |side: f32| middle.map(|place| place + side * radius);
    let mut prompts = PromptBatch::default();
    prompts.begin(2);
    let [height, width] = engines.mask_prompt();
    prompts.push(&[(corner(-1.0), 2), (corner(1.0), 3)], height * width);
    let mut ask = |all: bool| {
        prompts.all_candidates = all;
        let mut decoded = Decoded::default();
        engines
            .decode(&frame, Look::NoMemory, &prompts, &mut decoded)
            .unwrap();
        decoded
    };
    let (all, alone) = (ask(true), ask(false));
    let cells = geometry.mask_len();
    assert_eq!(all.logits[..cells], alone.logits[..cells]);
    assert_eq!(all.iou[0], alone.iou[0]);
    assert_eq!(all.object_score, alone.object_score);
    for (candidate, logits) in all.logits.chunks_exact(cells).enumerate() {
        let overlap = Bitmap::new(logits).iou(&disc);
        assert!(overlap > 0.9, "candidate {candidate}: {overlap}");
    }
}
