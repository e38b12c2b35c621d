//! Both detectors on a real clip: a static camera, people who come and go, two parked cars.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tracklens_iou_tracker::{
    Detector, DetectorError, Follower, MotionDetector, Seen, StreamFrame, TrackerSettings,
    YoloxDetector, YoloxSettings,
};
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Image, ImageInfo, PixelEncoding, StreamId, Track,
};

const SIZE: (u32, u32) = (768, 576);

fn folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: {variable} not set");
    }
    folder
}

/// The first frames of the clip.
fn frames(count: usize) -> Option<Vec<Vec<u8>>> {
    let clip = folder("TRACKLENS_DATA")?.join("clips/pedestrians.mp4");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(clip)
        .args(["-frames:v", &count.to_string(), "-f", "rawvideo"])
        .args(["-pix_fmt", "yuv420p", "-"])
        .output()
        .expect("the ffmpeg command");
    assert!(output.status.success(), "{output:?}");
    let data = output.stdout;
    let frames: Vec<Vec<u8>> = data
        .chunks_exact(info().byte_len())
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(frames.len(), count);
    Some(frames)
}

fn info() -> ImageInfo {
    ImageInfo::new(SIZE.0, SIZE.1, PixelEncoding::Yuv420p)
}

fn stream() -> StreamId {
    "camera".parse().unwrap()
}

fn yolox(
    model: impl AsRef<Path>,
    classes: &[&str],
) -> Option<Result<YoloxDetector, DetectorError>> {
    Some(YoloxDetector::new(&YoloxSettings {
        library: folder("ORT_DYLIB_PATH")?,
        model: model.as_ref().into(),
        classes: classes.iter().map(|&name| name.into()).collect(),
        score: 0.3,
        threads: 2,
    }))
}

fn nano() -> Option<PathBuf> {
    Some(folder("TRACKLENS_MODELS")?.join("yolox-nano/yolox_nano.onnx"))
}

fn follow(detector: impl Detector + 'static, frames: &[Vec<u8>]) -> Vec<Vec<Track>> {
    let settings = TrackerSettings {
        min_area: 200,
        ..TrackerSettings::default()
    };
    let mut follower = Follower::new(Box::new(detector), settings, 1);
    let run = frames.iter().enumerate().map(|(frame, data)| {
        let id = FrameId {
            stream: stream(),
            epoch: Epoch(0),
            frame: FrameIndex(frame as u64),
        };
        let image = Image::new(info(), data).unwrap();
        let seen = Seen {
            id: &id,
            image,
            prompts: &[],
        };
        follower.follow(&[seen]).unwrap().remove(0)
    });
    run.collect()
}

/// How often each track was seen.
fn lives(tracks: &[Vec<Track>]) -> BTreeMap<u32, usize> {
    let mut lives = BTreeMap::new();
    for track in tracks.iter().flatten().filter(|track| track.visible) {
        *lives.entry(track.track_id.0).or_default() += 1;
    }
    lives
}

fn check_rows(tracks: &[Vec<Track>]) {
    let mut known = BTreeSet::new();
    for row in tracks {
        let mut ids = BTreeSet::new();
        for track in row {
            assert!(ids.insert(track.track_id), "an id twice in a frame");
            assert_eq!(track.state.as_str() == "new", known.insert(track.track_id));
            assert_eq!(u64::from(track.area), track.mask.area());
            assert_eq!((track.mask.width(), track.mask.height()), SIZE);
            assert_eq!(track.visible, track.area > 0);
            assert!(track.bbox.is_valid());
            if track.visible {
                assert_eq!(track.mask.bbox(), Some(track.bbox));
            }
        }
    }
}

#[test]
fn motion_follows_the_people() {
    let Some(frames) = frames(300) else { return };
    let tracks = follow(MotionDetector::default(), &frames);
    check_rows(&tracks);
    let lives = lives(&tracks);
    let long = lives.values().filter(|&&seen| seen >= 50).count();
    assert!(long >= 8, "{lives:?}");
    assert!(lives.len() <= 30, "{lives:?}");
    // Same input, same rows.
    assert_eq!(
        follow(MotionDetector::default(), &frames[..100]),
        tracks[..100]
    );
}

#[test]
fn motion_forgets_what_stood_in_the_first_frame() {
    let Some(frames) = frames(120) else { return };
    let tracks = follow(MotionDetector::default(), &frames);
    // Three people walk in frame 0 and leave holes in the background where they were. A hole does
    // not move: nothing visible may stay in one place for long.
    let mut places: BTreeMap<u32, (f32, usize)> = BTreeMap::new();
    for track in tracks.iter().flatten().filter(|track| track.visible) {
        let x = track.bbox.center().0;
        let place = places.entry(track.track_id.0).or_insert((x, 0));
        *place = if (place.0 - x).abs() < 3.0 {
            (place.0, place.1 + 1)
        } else {
            (x, 0)
        };
        assert!(place.1 < 40, "{} stands at {x}", track.track_id.0);
    }
}

#[test]
fn yolox_follows_people_and_cars() {
    let (Some(frames), Some(model)) = (frames(60), nano()) else {
        return;
    };
    let Some(people) = yolox(&model, &["person"]) else {
        return;
    };
    let people = follow(people.unwrap(), &frames);
    check_rows(&people);
    let seen = lives(&people);
    assert!(
        seen.values().filter(|&&seen| seen >= 20).count() >= 3,
        "{seen:?}"
    );
    let Some(cars) = yolox(&model, &["car", "truck"]) else {
        return;
    };
    let cars = follow(cars.unwrap(), &frames);
    check_rows(&cars);
    let seen = lives(&cars);
    assert!(
        seen.values().filter(|&&seen| seen >= 40).count() >= 2,
        "{seen:?}"
    );
    // They are parked in the upper right corner.
    for track in cars.iter().flatten() {
        assert!(
            track.bbox.x0 > 600.0 && track.bbox.y1 < 130.0,
            "{:?}",
            track.bbox
        );
    }
}

#[test]
fn yolox_looks_at_several_streams_in_one_call() {
    let (Some(frames), Some(model)) = (frames(3), nano()) else {
        return;
    };
    let Some(detector) = yolox(&model, &[]) else {
        return;
    };
    let mut detector = detector.unwrap();
    let streams: Vec<StreamId> = ["a", "b", "c"]
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    let batch: Vec<StreamFrame<'_>> = streams
        .iter()
        .zip(&frames)
        .map(|(stream, data)| StreamFrame {
            stream,
            image: Image::new(info(), data).unwrap(),
            prompts: &[],
        })
        .collect();
    let together = detector.detect(&batch).unwrap();
    assert_eq!(together.len(), 3);
    for (frame, together) in batch.iter().zip(together) {
        detector.release(frame.stream);
        assert_eq!(detector.detect(&[*frame]).unwrap(), [together]);
    }
}

#[test]
fn what_keeps_yolox_from_starting_is_said_in_one_line() {
    let Some(model) = nano() else { return };
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.onnx");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let text = folder.path().join("text.onnx");
    std::fs::write(&text, "not a model").unwrap();
    let missing = folder.path().join("missing.onnx");
    for (path, words) in [
        (&missing, "cannot be read"),
        (&broken, "not a whole"),
        (&text, "not a whole"),
    ] {
        let Some(result) = yolox(path, &[]) else {
            return;
        };
        let message = result.expect_err("an error").to_string();
        assert!(
            message.contains(words) && !message.contains('\n'),
            "{message}"
        );
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
    let Some(result) = yolox(&model, &["unicorn"]) else {
        return;
    };
    assert!(
        result
            .expect_err("an error")
            .to_string()
            .contains("unicorn")
    );
}
