//! Where a frame's time goes, for 1, 4, 8 and 16 objects:
//!   stages MODEL-FOLDER [FRAMES] [THREADS] [BATCH]
//! The frames are noise that moves, 1280x720 yuv420p; the objects are masks given on the first one,
//! and never let go, so that every frame does the full work.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracklens_onnx::SessionSettings;
use tracklens_sam2::{Engines, ModelFolder};
use tracklens_sam2_tracker::{Tracker, TrackerSettings};
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Image, ImageInfo, Mask, PixelEncoding, Prompt,
};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;

fn prompt(number: u32) -> Prompt {
    let (left, top) = (40 + 300 * (number % 4), 30 + 170 * (number / 4));
    let mut bitmap = vec![0; (WIDTH * HEIGHT) as usize];
    for y in top..top + 130 {
        let row = (y * WIDTH + left) as usize;
        bitmap[row..row + 200].fill(1);
    }
    Prompt {
        prompt_id: number,
        points: Vec::new(),
        labels: Vec::new(),
        bbox: None,
        mask: Some(Mask::from_bitmap(&bitmap, WIDTH, HEIGHT).encode()),
        score: 1.0,
        strategy: "file".into(),
    }
}

fn frame(info: &ImageInfo, number: u64) -> Vec<u8> {
    let side = u64::from(WIDTH);
    let pixels = (0..info.byte_len() as u64).map(|at| {
        let (x, y) = (at % side + 3 * number, at / side);
        (128 + (x / 16 * 37 + y / 16 * 101) % 100) as u8
    });
    pixels.collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: stages MODEL-FOLDER [FRAMES] [THREADS] [BATCH]")?;
    let frames: u64 = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let max_batch = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let folder = ModelFolder::open(&PathBuf::from(folder))?;
    let library = std::env::var_os("ORT_DYLIB_PATH").ok_or("set ORT_DYLIB_PATH")?;
    let sessions = SessionSettings {
        library: library.into(),
        threads,
        ..SessionSettings::default()
    };
    println!(
        "{}, {threads} threads, {frames} frames, ms a frame",
        folder.config.model.name
    );
    for objects in [1, 4, 8, 16] {
        let engines = Engines::open(&folder, &sessions)?;
        let settings = TrackerSettings {
            duplicate_iou: 2.0,
            lost_frames: u32::MAX,
            max_batch,
            ..TrackerSettings::default()
        };
        let mut tracker = Tracker::new(engines, folder.config.clone(), settings);
        let info = ImageInfo::new(WIDTH, HEIGHT, PixelEncoding::Yuv420p);
        let mut sums: Vec<(&str, Duration)> = Vec::new();
        let mut total = Duration::ZERO;
        // The memories fill up first.
        let warm_up = 10;
        for number in 0..frames + warm_up {
            let pixels = frame(&info, number);
            let id = FrameId {
                stream: "bench".parse()?,
                epoch: Epoch(0),
                frame: FrameIndex(number),
            };
            let prompts: Vec<Prompt> = match number {
                0 => (0..objects).map(prompt).collect(),
                _ => Vec::new(),
            };
            let image = Image::new(info, &pixels)?;
            let start = Instant::now();
            let outcome = tracker.track(&id, &image, &prompts);
            if number < warm_up {
                sums = outcome
                    .stages
                    .each()
                    .map(|(name, _)| (name, Duration::ZERO))
                    .to_vec();
                continue;
            }
            total += start.elapsed();
            for (sum, (_, time)) in sums.iter_mut().zip(outcome.stages.each()) {
                sum.1 += time;
            }
        }
        let per_frame = |time: Duration| time.as_secs_f64() * 1000.0 / frames as f64;
        print!("{objects:2} objects: {:7.2} all", per_frame(total));
        for (name, sum) in sums {
            print!(", {:.2} {name}", per_frame(sum));
        }
        println!();
    }
    Ok(())
}
