//! Sources of all kinds through their threads: frames in order, an end for each, and no hang.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracklens_decoder::{Playback, StreamItem, StreamWorker};
use tracklens_schemas::{Image, ImageInfo, PixelEncoding};
use tracklens_video::{Damage, Hwaccel, Mp4Writer, VideoError, VideoInfo};

const LOSSLESS: Playback = Playback {
    in_groups: true,
    live: false,
    rounds: 1,
    threads: 1,
    timeout: Duration::from_secs(5),
    reconnect: false,
    hwaccel: Hwaccel::None,
};

fn write(path: &Path, frames: u8) {
    let mut writer = Mp4Writer::create(path, 64, 48, 25.0).unwrap();
    let info = ImageInfo::new(64, 48, PixelEncoding::Yuv420p);
    for number in 0..frames {
        let pixels = vec![number.wrapping_mul(9); info.byte_len()];
        let image = Image::new(info, &pixels).unwrap();
        writer
            .write(&image, i64::from(number) * 40_000_000)
            .unwrap();
    }
    writer.finish().unwrap();
}

struct Played {
    info: Option<VideoInfo>,
    times_ms: Vec<i64>,
    error: Option<VideoError>,
    damage: Damage,
    /// How often there was something to take.
    wakes: usize,
}

/// Takes all items, sleeping until woken, as a node does.
fn play(path: &Path, playback: Playback) -> Played {
    let (wake, woken) = mpsc::channel();
    let mut worker = StreamWorker::start(path.to_str().unwrap(), playback, move || {
        let _test_may_be_over = wake.send(());
    });
    let mut played = Played {
        info: None,
        times_ms: Vec::new(),
        error: None,
        damage: Damage::default(),
        wakes: 0,
    };
    loop {
        match worker.try_next() {
            None => {
                woken.recv_timeout(Duration::from_secs(60)).unwrap();
                played.wakes += 1;
            }
            Some(StreamItem::Opened(info)) => played.info = Some(info),
            Some(StreamItem::Frame {
                picture,
                pts_ns: time_ns,
                ..
            }) => {
                assert_eq!(picture.info().width, 64);
                played.times_ms.push(time_ns / 1_000_000);
            }
            Some(StreamItem::Lost { .. }) => panic!("files are not opened again"),
            Some(StreamItem::Ended { error, damage }) => {
                (played.error, played.damage) = (error, damage);
                assert!(worker.try_next().is_none());
                drop(worker);
                played.wakes += woken.try_iter().count();
                return played;
            }
        }
    }
}

fn times(frames: i64) -> Vec<i64> {
    (0..frames).map(|number| number * 40).collect()
}

#[test]
fn a_file_is_played_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write(&path, 30);
    let played = play(&path, LOSSLESS);
    assert_eq!(played.info.unwrap().fps(), Some(25.0));
    assert_eq!(played.times_ms, times(30));
    assert_eq!(played.error, None);
    assert!(!played.damage.any());
}

#[test]
fn rounds_follow_each_other_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write(&path, 10);
    let rounds = 5;
    let played = play(&path, Playback { rounds, ..LOSSLESS });
    assert_eq!(played.times_ms, times(50));
}

#[test]
fn frames_come_in_groups_the_first_ones_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write(&path, 30);
    // The opening; one, one, two, four, twice eight frames; the rest with the end.
    assert_eq!(play(&path, LOSSLESS).wakes, 8);
    let playback = Playback {
        in_groups: false,
        ..LOSSLESS
    };
    assert_eq!(play(&path, playback).wakes, 32);
}

#[test]
fn an_endless_loop_ends_when_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write(&path, 5);
    let playback = Playback {
        rounds: 0,
        ..LOSSLESS
    };
    let mut worker = StreamWorker::start(path.to_str().unwrap(), playback, || {});
    let mut frames = 0;
    while frames < 40 {
        match worker.try_next() {
            Some(StreamItem::Frame { .. }) => frames += 1,
            Some(StreamItem::Ended { .. }) => panic!("ended after {frames} frames"),
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn live_files_play_no_faster_than_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write(&path, 11);
    let start = Instant::now();
    let playback = Playback {
        live: true,
        ..LOSSLESS
    };
    assert_eq!(play(&path, playback).times_ms, times(11));
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[test]
fn what_cannot_be_opened_ends_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let played = play(&folder.path().join("gone.mp4"), LOSSLESS);
    assert!(played.info.is_none());
    assert!(matches!(played.error, Some(VideoError::NoSuchFile { .. })));
}

#[test]
fn damage_is_told_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write(&path, 200);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 400] {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let played = play(&path, LOSSLESS);
    assert!(played.times_ms.len() > 50, "{}", played.times_ms.len());
    assert!(played.damage.any(), "{}", played.damage);
}
