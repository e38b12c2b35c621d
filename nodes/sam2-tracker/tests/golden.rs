//! The modules and the whole loop against values of the reference (tests/golden, written by
//! models/export/goldens.py from `transformers`' Sam2VideoModel with random weights).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tracklens_onnx::SessionSettings;
use tracklens_sam2::engines::Conditioned;
use tracklens_sam2::model_folder::ModelFolder;
use tracklens_sam2::modules::{Decoded, Look, MaskBatch, MemoryBatch, PromptBatch};
use tracklens_sam2::preprocess::Preprocessor;
use tracklens_sam2::{ColourMatrix, Engines, Modules, ProposalRules};
use tracklens_sam2_tracker::stream::Correction;
use tracklens_sam2_tracker::{Tracker, TrackerSettings};
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Image, ImageInfo, Mask, PixelEncoding, Prompt, TrackId, TrackState,
};

/// One tensor of a safetensors file, whatever its type, as f32.
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// A safetensors file: the length of a JSON header, the header, the numbers.
fn tensors(name: &str) -> HashMap<String, Tensor> {
    let bytes = std::fs::read(Path::new("tests/golden").join(name)).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&rest[..length]).unwrap();
    let numbers = &rest[length..];
    let entries = header.as_object().unwrap().iter();
    entries
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| {
            let place = |at: usize| entry["data_offsets"][at].as_u64().unwrap() as usize;
            let bytes = &numbers[place(0)..place(1)];
            let data = match entry["dtype"].as_str().unwrap() {
                "F32" => bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect(),
                "I64" => bytes
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                    .collect(),
                "U8" => bytes.iter().map(|b| f32::from(*b)).collect(),
                other => panic!("{other}"),
            };
            let shape = entry["shape"].as_array().unwrap();
            let shape = shape.iter().map(|s| s.as_u64().unwrap() as usize).collect();
            (name.clone(), Tensor { shape, data })
        })
        .collect()
}

fn folder() -> ModelFolder {
    ModelFolder::open(Path::new("tests/golden/small-test")).unwrap()
}

fn engines() -> Option<Engines> {
    let Some(library) = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from) else {
        println!("skipped: ORT_DYLIB_PATH not set");
        return None;
    };
    let settings = SessionSettings {
        library,
        threads: 1,
        ..SessionSettings::default()
    };
    Some(Engines::open(&folder(), &settings).unwrap())
}

/// Largest difference over largest reference value.
fn difference(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let scale = reference
        .iter()
        .fold(1e-6_f32, |most, value| most.max(value.abs()));
    let pairs = found.iter().zip(reference);
    pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / scale
}

#[track_caller]
fn assert_close(name: &str, found: &[f32], reference: &[f32], bound: f32) {
    let worst = difference(found, reference);
    println!("{name}: {worst:.2e}");
    assert!(worst <= bound, "{name}: {worst:.2e} over {bound:.0e}");
}

/// Memories are rounded to bfloat16: sums that round apart differ by a step of 1/128.
const MEMORY: f32 = 1e-2;

#[test]
fn golden_modules() {
    let Some(mut engines) = engines() else { return };
    let golden = tensors("modules.safetensors");
    let data = |name: &str| golden[name].data.clone();
    let frame = engines
        .encode_image(&data("image_encoder.in.image"))
        .unwrap();
    for (name, value) in frame.tensors().unwrap() {
        assert_close(
            name,
            value,
            &data(&format!("image_encoder.out.{name}")),
            1e-3,
        );
    }
    let features = |module: &str| {
        let embedding = golden
            .get(&format!("{module}.in.embedding"))
            .map(|t| t.data.clone());
        let fine = |name: &str| {
            golden
                .get(&format!("{module}.in.{name}"))
                .map(|t| t.data.clone())
        };
        (embedding, fine("high_res_0"), fine("high_res_1"))
    };

    let (embedding, ..) = features("memory_attention");
    let at_hand = engines
        .features(embedding.as_deref().unwrap(), None, None)
        .unwrap();
    let memory = |name: &str| data(&format!("memory_attention.in.{name}"));
    let shape = &golden["memory_attention.in.memory"].shape;
    let batch = MemoryBatch {
        objects: shape[0],
        memories: shape[1],
        pointers: golden["memory_attention.in.pointers"].shape[1],
        memory: memory("memory"),
        memory_time: memory("memory_time").iter().map(|t| *t as i64).collect(),
        memory_step: vec![0; memory("memory_time").len()],
        pointer: memory("pointers"),
        pointer_time: memory("pointer_time"),
        ..MemoryBatch::default()
    };
    let conditioned = engines.attend(&at_hand, &batch).unwrap();
    assert_close(
        "conditioned",
        &conditioned.numbers().unwrap(),
        &data("memory_attention.out.conditioned"),
        1e-3,
    );

    let (embedding, fine_0, fine_1) = features("mask_decoder");
    let embedding = embedding.unwrap();
    let shape = golden["mask_decoder.in.embedding"].shape.clone();
    let at_hand = engines
        .features(
            &embedding[..embedding.len() / shape[0]],
            fine_0.as_deref(),
            fine_1.as_deref(),
        )
        .unwrap();
    let value = ort::value::Tensor::from_array((shape.clone(), embedding))
        .unwrap()
        .into_dyn();
    let value = Conditioned::whole(shape[0], value);
    let asked = |name: &str| data(&format!("mask_decoder.in.{name}"));
    let prompts = PromptBatch {
        objects: shape[0],
        points: golden["mask_decoder.in.point_labels"].shape[1],
        coords: asked("point_coords"),
        labels: asked("point_labels").iter().map(|l| *l as i64).collect(),
        masks: asked("mask_prompt"),
        has_mask: asked("has_mask"),
        all_candidates: true,
    };
    let mut out = Decoded::default();
    engines
        .decode(&at_hand, Look::Conditioned(&value), &prompts, &mut out)
        .unwrap();
    for (name, found) in [
        ("mask_logits", &out.logits),
        ("iou", &out.iou),
        ("pointers", &out.pointers),
        ("object_score", &out.object_score),
    ] {
        assert_close(
            name,
            found,
            &data(&format!("mask_decoder.out.{name}")),
            1e-3,
        );
    }

    let (embedding, ..) = features("memory_encoder");
    let at_hand = engines
        .features(embedding.as_deref().unwrap(), None, None)
        .unwrap();
    let shape = &golden["memory_encoder.in.mask_logits"].shape;
    let masks = MaskBatch {
        objects: shape[0],
        size: [shape[2], shape[3]],
        logits: data("memory_encoder.in.mask_logits"),
        object_score: data("memory_encoder.in.object_score"),
        from_prompt: data("memory_encoder.in.from_prompt"),
    };
    let found = engines.remember(&at_hand, &masks).unwrap().concat();
    assert_close("memory", &found, &data("memory_encoder.out.memory"), MEMORY);
}

/// The clip: frames at the model's size, as frames of the clip's size would be after resizing.
fn resized(clip: &HashMap<String, Tensor>, frame: usize) -> (ImageInfo, Vec<u8>) {
    let (frames, small) = (&clip["frames"], &clip["resized"]);
    let (height, width) = (small.shape[2], small.shape[3]);
    let mut info = ImageInfo::new(width as u32, height as u32, PixelEncoding::Rgb8);
    info.source_height = frames.shape[1] as u32;
    info.source_width = frames.shape[2] as u32;
    let cells = width * height;
    let planes = &small.data[frame * 3 * cells..][..3 * cells];
    let pixels = (0..cells)
        .flat_map(|at| [0, 1, 2].map(|channel| planes[channel * cells + at] as u8))
        .collect();
    (info, pixels)
}

#[test]
fn golden_preprocessing() {
    let clip = tensors("clip.safetensors");
    let frames = &clip["frames"];
    let [_, height, width, _] = frames.shape[..] else {
        panic!()
    };
    let mut input = folder().config.input;
    (input.mean, input.std) = ([0.0; 3], [1.0 / 255.0; 3]);
    let mut preprocessor = Preprocessor::new(&input, ColourMatrix::default());
    let cells = 3 * input.width * input.height;
    for frame in 0..frames.shape[0] {
        let pixels: Vec<u8> = frames.data[frame * height * width * 3..][..height * width * 3]
            .iter()
            .map(|value| *value as u8)
            .collect();
        let info = ImageInfo::new(width as u32, height as u32, PixelEncoding::Rgb8);
        let found = preprocessor.run(&Image::new(info, &pixels).unwrap());
        let reference = &clip["resized"].data[frame * cells..][..cells];
        let worst = found
            .iter()
            .zip(reference)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        // The reference rounds to bytes.
        assert!(worst <= 0.52, "frame {frame}: {worst} of 255");
    }
}

/// What is asked on a frame: of new objects, and of those that are followed.
fn prompts(clip: &HashMap<String, Tensor>, frame: usize) -> (Vec<Prompt>, Vec<Correction>) {
    let (mut new, mut corrections) = (Vec::new(), Vec::new());
    for object in 1..=3_u32 {
        let key = format!("prompt.{frame}.{object}");
        let mut prompt = Prompt {
            prompt_id: object,
            points: Vec::new(),
            labels: Vec::new(),
            bbox: None,
            mask: None,
            score: 1.0,
            strategy: "file".into(),
        };
        if let Some(mask) = clip.get(&format!("{key}.mask")) {
            let bitmap: Vec<u8> = mask.data.iter().map(|v| *v as u8).collect();
            let mask = Mask::from_bitmap(&bitmap, mask.shape[1] as u32, mask.shape[0] as u32);
            prompt.mask = Some(mask.encode());
        } else if let Some(points) = clip.get(&format!("{key}.points")) {
            let labels = &clip[&format!("{key}.labels")].data;
            let places: Vec<[f32; 2]> = points.data.chunks(2).map(|p| [p[0], p[1]]).collect();
            if labels[0] == 2.0 {
                prompt.bbox = Some([places[0][0], places[0][1], places[1][0], places[1][1]].into());
            } else {
                prompt.points = places;
                prompt.labels = labels.iter().map(|label| *label as i8).collect();
            }
        } else {
            continue;
        }
        match frame {
            9 => corrections.push(Correction {
                object: TrackId(object),
                prompt,
            }),
            _ => new.push(prompt),
        }
    }
    (new, corrections)
}

#[test]
fn golden_loop() {
    let Some(engines) = engines() else { return };
    let (clip, golden) = (tensors("clip.safetensors"), tensors("loop.safetensors"));
    let settings = TrackerSettings {
        proposals: ProposalRules {
            min_iou: -1.0,
            ..ProposalRules::default()
        },
        duplicate_iou: 2.0,
        exclusive: false,
        clean_cells: 0,
        ..TrackerSettings::default()
    };
    let mut tracker = Tracker::new(engines, folder().config, settings);
    let mut least_iou = 1.0_f32;
    let mut compared = 0;
    for frame in 0..clip["frames"].shape[0] {
        let (info, pixels) = resized(&clip, frame);
        let image = Image::new(info, &pixels).unwrap();
        let id = FrameId {
            stream: "clip".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(frame as u64),
        };
        let (new, corrections) = prompts(&clip, frame);
        let outcome = tracker.track_corrected(&id, &image, &new, &corrections);
        assert_eq!((&outcome.error, outcome.bad_prompts.len()), (&None, 0));
        let expected: Vec<u32> = (1..=3)
            .filter(|object| golden.contains_key(&format!("{frame}.{object}.mask_logits")))
            .collect();
        let ids: Vec<u32> = outcome
            .tracks
            .iter()
            .map(|track| track.track_id.0)
            .collect();
        assert_eq!(ids, expected, "frame {frame}");
        let (_, state) = tracker.streams().next().unwrap();
        for (track, (id, sighting)) in outcome.tracks.iter().zip(&state.sightings) {
            assert_eq!(track.track_id, *id);
            let key = format!("{frame}.{}", id.0);
            let reference = |name: &str| &golden[&format!("{key}.{name}")].data;
            assert_close(
                &format!("{key} logits"),
                &sighting.logits,
                reference("mask_logits"),
                1e-3,
            );
            assert_close(
                &format!("{key} pointer"),
                &sighting.pointer,
                reference("pointer"),
                1e-3,
            );
            assert_close(
                &format!("{key} iou"),
                &[sighting.iou],
                reference("iou"),
                1e-3,
            );
            let score = [sighting.object_score];
            assert_close(
                &format!("{key} score"),
                &score,
                reference("object_score"),
                1e-3,
            );
            let packed = &golden[&format!("{key}.mask")];
            let bitmap: Vec<u8> = (0..info.source_height as usize)
                .flat_map(|y| {
                    let row = &packed.data[y * packed.shape[1]..][..packed.shape[1]];
                    (0..info.source_width as usize)
                        .map(move |x| (row[x / 8] as u8 >> (7 - x % 8)) & 1)
                })
                .collect();
            let mask = Mask::from_bitmap(&bitmap, info.source_width, info.source_height);
            let born = new.iter().any(|prompt| prompt.prompt_id == id.0);
            if mask.area() > 0 && !(born && frame == 4) {
                least_iou = least_iou.min(track.mask.iou(&mask));
            }
            let state = match (reference("object_score")[0] > 0.0 && mask.area() > 0, born) {
                (false, _) => TrackState::Occluded,
                (true, true) => TrackState::New,
                (true, false) => TrackState::Tracked,
            };
            assert_eq!(track.state, state, "{key}");
            compared += 1;
        }
    }
    println!("{compared} objects compared, least mask IoU {least_iou:.5}");
    assert_eq!(compared, 12 + 10 + 8);
    assert!(least_iou >= 0.999, "{least_iou}");
}
