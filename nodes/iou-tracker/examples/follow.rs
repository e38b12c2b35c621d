//! Follows the objects of a clip without any dataflow and tells what it cost and how well ids hold:
//! `follow CLIP [motion|yolox] [FOLDER-FOR-PICTURES]`. Needs the `ffmpeg` and `ffprobe` commands.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tracklens_iou_tracker::{
    Detector, Follower, MotionDetector, Seen, TrackerSettings, YoloxDetector, YoloxSettings,
};
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Image, ImageInfo, PixelEncoding, StreamId, Track,
};

/// Every so many frames a picture is written.
const PICTURE_EVERY: u64 = 25;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let clip = arguments
        .first()
        .expect("usage: follow CLIP [motion|yolox] [FOLDER]");
    let detector: Box<dyn Detector> = match arguments.get(1).map(String::as_str) {
        Some("yolox") => Box::new(YoloxDetector::new(&yolox_settings()).expect("YOLOX")),
        _ => Box::<MotionDetector>::default(),
    };
    let number = |name: &str, usual: f32| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(usual)
    };
    let settings = TrackerSettings {
        min_area: number("MIN_OBJECT_AREA", 200.0) as u32,
        ..TrackerSettings::default()
    };
    let info = probe(clip);
    let mut follower = Follower::new(detector, settings, 0);
    let mut decoder = Command::new("ffmpeg")
        .args([
            "-v", "error", "-i", clip, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the ffmpeg command");
    let mut pixels = decoder.stdout.take().expect("its output");
    let stream: StreamId = "clip".parse().expect("a stream id");
    let mut data = vec![0; info.byte_len()];
    let mut lives: BTreeMap<u32, (u64, u64, usize)> = BTreeMap::new();
    let (mut frames, mut rows, mut busy) = (0_u64, 0, Duration::ZERO);
    while pixels.read_exact(&mut data).is_ok() {
        let image = Image::new(info, &data).expect("a whole frame");
        let id = FrameId {
            stream: stream.clone(),
            epoch: Epoch(0),
            frame: FrameIndex(frames),
        };
        let start = Instant::now();
        let tracks = follower
            .follow(&[Seen {
                id: &id,
                image,
                prompts: &[],
            }])
            .expect("detections")
            .remove(0);
        busy += start.elapsed();
        for track in &tracks {
            let life = lives.entry(track.track_id.0).or_insert((frames, frames, 0));
            life.1 = frames;
            life.2 += usize::from(track.visible);
        }
        rows += tracks.len();
        if let Some(folder) = arguments.get(2).filter(|_| frames % PICTURE_EVERY == 0) {
            write_picture(
                &Path::new(folder).join(format!("{frames:04}.ppm")),
                &image,
                &tracks,
            );
        }
        frames += 1;
    }
    assert!(decoder.wait().expect("an exit status").success());
    let seen: usize = lives.values().map(|life| life.2).sum();
    let long = lives.values().filter(|life| life.2 >= 30).count();
    println!(
        "frames {frames}, rows {rows}, tracks {}, seen 30 frames or more {long}",
        lives.len()
    );
    println!(
        "mean frames seen per track {:.1}",
        seen as f64 / lives.len().max(1) as f64
    );
    println!(
        "{:.2} ms a frame",
        busy.as_secs_f64() * 1000.0 / frames.max(1) as f64
    );
    for (id, (first, last, seen)) in &lives {
        println!("  {id}: frames {first}..={last}, seen {seen}");
    }
}

fn yolox_settings() -> YoloxSettings {
    let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
    YoloxSettings {
        library: variable("ORT_DYLIB_PATH").into(),
        model: Path::new(&variable("TRACKLENS_MODELS")).join("yolox-nano/yolox_nano.onnx"),
        classes: Vec::new(),
        score: 0.3,
        threads: 0,
    }
}

fn probe(clip: &str) -> ImageInfo {
    let entries = "stream=width,height";
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            entries,
        ])
        .args(["-of", "csv=p=0", clip])
        .output()
        .expect("the ffprobe command");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut sides = text
        .trim()
        .split(',')
        .map(|side| side.parse().expect("a number"));
    let mut side = || sides.next().expect("width and height");
    ImageInfo::new(side(), side(), PixelEncoding::Yuv420p)
}

/// The frame in grey, each visible track's mask in a colour of its own.
fn write_picture(path: &Path, image: &Image<'_>, tracks: &[Track]) {
    let (width, height) = (image.info.width as usize, image.info.height as usize);
    let mut rgb: Vec<u8> = image
        .luma()
        .expect("planes")
        .iter()
        .flat_map(|&luma| [luma, luma, luma])
        .collect();
    for track in tracks {
        let seed = track.track_id.0.wrapping_mul(0x9E37_79B9).rotate_left(7) | 0x40;
        let color = [seed as u8, (seed >> 8) as u8, (seed >> 16) as u8];
        for (x, y0, y1) in track.mask.spans() {
            for y in y0..y1 {
                let at = (y as usize * width + x as usize) * 3;
                for (out, &tint) in rgb[at..at + 3].iter_mut().zip(&color) {
                    *out = (*out / 2).saturating_add(tint / 2);
                }
            }
        }
        let end = |value: f32, side: usize| (value.max(0.0) as usize).min(side - 1);
        let (x0, x1) = (end(track.bbox.x0, width), end(track.bbox.x1, width));
        let (y0, y1) = (end(track.bbox.y0, height), end(track.bbox.y1, height));
        let color = if track.visible {
            color
        } else {
            [255, 255, 255]
        };
        let sides = (x0..=x1).flat_map(|x| [(x, y0), (x, y1)]);
        for (x, y) in sides.chain((y0..=y1).flat_map(|y| [(x0, y), (x1, y)])) {
            let at = (y * width + x) * 3;
            rgb[at..at + 3].copy_from_slice(&color);
        }
    }
    let mut file = format!("P6\n{width} {height}\n255\n").into_bytes();
    file.extend(rgb);
    std::fs::write(path, file).expect("a picture");
}
