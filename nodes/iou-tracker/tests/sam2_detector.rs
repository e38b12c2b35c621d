//! SAM 2 without memory, with a model that is plain arithmetic: an object is what is as bright as the
//! place that was pointed at.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use tracklens_iou_tracker::{
    Detection, Detector, Follower, Sam2Detector, Sam2Settings, Seen, StreamFrame, TrackerSettings,
};
use tracklens_sam2::modules::{Decoded, Look, MaskBatch, MemoryBatch, PromptBatch};
use tracklens_sam2::{InferenceError, ModelConfig, Modules, ProposalRules};
use tracklens_schemas::{
    BBox, Epoch, FrameId, FrameIndex, Image, ImageInfo, Mask, PixelEncoding, Prompt, StreamId,
};

const SIDE: usize = 32;

/// A model that finds brightnesses, and whose memory must not be asked.
struct Brightness;

impl Modules for Brightness {
    type Frame = Vec<f32>;
    type Conditioned = ();

    fn mask_prompt(&self) -> [usize; 2] {
        [SIDE, SIDE]
    }

    fn encode_image(&mut self, pixels: &[f32]) -> Result<Vec<f32>, InferenceError> {
        Ok(pixels[..SIDE * SIDE].to_vec())
    }

    fn embedding<'a>(&self, frame: &'a Vec<f32>) -> Result<&'a [f32], InferenceError> {
        Ok(frame)
    }

    fn attend(&mut self, _: &Vec<f32>, _: &MemoryBatch) -> Result<(), InferenceError> {
        panic!("there is no memory");
    }

    fn decode(
        &mut self,
        frame: &Vec<f32>,
        _: Look<'_, ()>,
        prompts: &PromptBatch,
        out: &mut Decoded,
    ) -> Result<(), InferenceError> {
        *out = Decoded::default();
        for object in 0..prompts.objects {
            let at = &prompts.coords[object * prompts.points * 2..];
            let level = match prompts.points {
                0 => 0.0,
                _ => frame[at[1] as usize * SIDE + at[0] as usize],
            };
            let logits = frame.iter().map(|cell| 5.0 - (cell - level).abs());
            out.logits.extend(logits);
            out.iou.push(0.9);
            out.pointers.push(0.0);
            out.object_score.push(5.0);
        }
        Ok(())
    }

    fn remember(&mut self, _: &Vec<f32>, _: &MaskBatch) -> Result<Vec<Arc<[f32]>>, InferenceError> {
        panic!("there is no memory");
    }
}

fn config() -> ModelConfig {
    let modules: String = [
        "image_encoder",
        "memory_attention",
        "mask_decoder",
        "memory_encoder",
    ]
    .map(|name| format!("[modules.{name}]\nfile = \"\"\nsha256 = \"\"\n"))
    .concat();
    let text = format!(
        "[model]\nname = \"brightness\"\nfamily = \"nano\"\n\
         [input]\nwidth = {SIDE}\nheight = {SIDE}\nmean = [0, 0, 0]\n\
         std = [0.003921569, 0.003921569, 0.003921569]\n\
         [geometry]\nembedding = [1, 1, 1]\nhigh_res_0 = [1, 1, 1]\nhigh_res_1 = [1, 1, 1]\n\
         memory_channels = 1\nmask = [{SIDE}, {SIDE}]\ncandidates = 1\n\
         [memory]\nframes = 3\nconditioning_frames = 1\npointers = 4\n\
         [selection]\nmultimask_tracking = true\nmultimask_points = [0, 1]\n\
         stability_delta = 0.05\nstability_threshold = 0.9\n{modules}"
    );
    toml::from_str(&text).unwrap()
}

fn detector() -> Sam2Detector<Brightness> {
    let settings = Sam2Settings {
        proposals: ProposalRules {
            min_area: 20,
            ..ProposalRules::default()
        },
        ..Sam2Settings::default()
    };
    Sam2Detector::new(Brightness, config(), settings)
}

/// A dark frame with a square of 6 at (4 + step, 4) and one of 8 at (18, 20).
fn pixels(step: usize) -> Vec<u8> {
    let mut pixels = vec![20; SIDE * SIDE * 3];
    let mut square = |left: usize, top: usize, side: usize, level: u8| {
        for y in top..top + side {
            pixels[(y * SIDE + left) * 3..][..side * 3].fill(level);
        }
    };
    square(4 + step, 4, 6, 120);
    square(18, 20, 8, 220);
    pixels
}

fn info() -> ImageInfo {
    ImageInfo::new(SIDE as u32, SIDE as u32, PixelEncoding::Rgb8)
}

fn prompt(prompt_id: u32, x: f32, y: f32) -> Prompt {
    Prompt {
        prompt_id,
        points: vec![[x, y]],
        labels: vec![1],
        bbox: None,
        mask: None,
        score: 0.5,
        strategy: "grid".into(),
    }
}

/// Points on both squares, twice on the second, on the background, and nowhere.
fn prompts(step: usize) -> Vec<Prompt> {
    let mut nowhere = prompt(4, 0.0, 0.0);
    nowhere.points.clear();
    vec![
        prompt(0, step as f32 + 6.0, 6.0),
        prompt(1, 20.0, 22.0),
        prompt(2, 24.0, 26.0),
        prompt(3, 1.0, 1.0),
        nowhere,
    ]
}

fn detect(prompts: &[Prompt]) -> Vec<Detection> {
    let (stream, pixels): (StreamId, _) = ("a".parse().unwrap(), pixels(0));
    let frame = StreamFrame {
        stream: &stream,
        image: Image::new(info(), &pixels).unwrap(),
        prompts,
    };
    detector().detect(&[frame]).unwrap().remove(0)
}

#[test]
fn good_masks_are_objects_and_each_is_one() {
    let found = detect(&prompts(0));
    let boxes: Vec<BBox> = found.iter().map(|detection| detection.bbox).collect();
    let expected = [
        BBox::new(4.0, 4.0, 10.0, 10.0),
        BBox::new(18.0, 20.0, 26.0, 28.0),
    ];
    assert_eq!(boxes, expected);
    let areas: Vec<u64> = found
        .iter()
        .map(|detection| detection.mask.as_ref().unwrap().area())
        .collect();
    assert_eq!(areas, [36, 64]);
    assert!(found.iter().all(|detection| detection.score == 0.9));
}

#[test]
fn without_prompts_nothing_is_found() {
    assert_eq!(detect(&[]), []);
}

#[test]
fn a_mask_that_is_given_is_the_object() {
    let bitmap: Vec<u8> = (0..SIDE * SIDE).map(|at| u8::from(at % 7 == 0)).collect();
    let mask = Mask::from_bitmap(&bitmap, SIDE as u32, SIDE as u32);
    let mut given = prompt(0, 0.0, 0.0);
    given.points.clear();
    given.labels.clear();
    given.mask = Some(mask.encode());
    let found = detect(&[given]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].mask, Some(mask));
}

#[test]
fn objects_keep_their_ids_from_frame_to_frame() {
    let settings = TrackerSettings {
        min_area: 20,
        ..TrackerSettings::default()
    };
    let mut follower = Follower::new(Box::new(detector()), settings, 1);
    for step in 0..8 {
        let (pixels, prompts) = (pixels(step), prompts(step));
        let id = FrameId {
            stream: "a".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(step as u64),
        };
        let seen = Seen {
            id: &id,
            image: Image::new(info(), &pixels).unwrap(),
            prompts: &prompts,
        };
        let tracks = follower.follow(&[seen]).unwrap().remove(0);
        // Published on the third sighting; the better or the first gets the first id.
        let rows: Vec<(u32, u32)> = tracks.iter().map(|t| (t.track_id.0, t.area)).collect();
        match step {
            0 | 1 => assert_eq!(rows, []),
            _ => assert_eq!(rows, [(1, 36), (2, 64)], "{step}"),
        }
    }
}
