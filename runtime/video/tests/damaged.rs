//! Broken video: good frames are kept, the rest is counted, and every refusal says why.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use support::{drawn, ffmpeg, frame_count, open, read, refusal, write};
use tempfile::TempDir;
use tracklens_video::VideoError;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// 100 frames with a keyframe every 10.
fn whole(folder: &TempDir, name: &str, extra: &[&str]) -> PathBuf {
    let source = folder.path().join("source.mp4");
    write(&source, 320, 180, 100);
    let path = folder.path().join(name);
    let encode = [
        "-i",
        source.to_str().unwrap(),
        "-c:v",
        "libx264",
        "-g",
        "10",
        "-preset",
        "veryfast",
    ];
    ffmpeg(&[&encode, extra, &[path.to_str().unwrap()]].concat());
    path
}

fn cut(folder: &TempDir, path: &Path) -> PathBuf {
    let bytes = std::fs::read(path).unwrap();
    let name = format!("cut-{}", path.file_name().unwrap().to_str().unwrap());
    put(folder, &name, &bytes[..bytes.len() / 2])
}

#[test]
fn refusals_say_what_is_wrong() {
    let folder = folder();
    let told = |path: &Path, part: &str| {
        let text = refusal(path).to_string();
        assert!(text.contains(part), "{part} in {text}");
        assert!(
            text.contains(path.file_name().unwrap().to_str().unwrap()),
            "{text}"
        );
    };
    told(&folder.path().join("gone.mp4"), "no such file");
    told(folder.path(), "is a folder");
    told(&put(&folder, "empty.mp4", b""), "empty");
    let words = b"Only words, and no video at all.\n".repeat(40);
    told(&put(&folder, "words.mp4", &words), "it is a text file");
    told(&put(&folder, "words.txt", &words), "it is a text file");
    told(&put(&folder, "noise.bin", &drawn(7, 9, 3)), "not a video");
    let unfinished = cut(&folder, &whole(&folder, "plain.mp4", &[]));
    told(&unfinished, "moov");
    let sound = folder.path().join("sound.wav");
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "sine=duration=0.2",
        sound.to_str().unwrap(),
    ]);
    told(&sound, "no video stream in this wav file, only audio");
    assert!(matches!(
        tracklens_video::Reader::open("a\0b", Default::default()),
        Err(VideoError::Address { .. })
    ));
}

#[test]
fn a_cut_clip_gives_its_good_frames_and_says_so() {
    let folder = folder();
    for (name, extra) in [
        ("a.mp4", &["-movflags", "faststart"][..]),
        ("b.mkv", &[]),
        ("c.ts", &[]),
    ] {
        let path = cut(&folder, &whole(&folder, name, extra));
        let (pictures, damage) = read(&path);
        let frames = pictures.len();
        assert!((20..90).contains(&frames), "{name}: {frames}");
        assert_eq!(frames, frame_count(&path), "{name}");
        if name == "a.mp4" {
            assert!(
                damage.to_string().contains("of 100 frames came out"),
                "{name}: {damage}"
            );
        }
        if name == "b.mkv" {
            assert!(damage.any(), "{name}");
        }
    }
}

#[test]
fn flipped_bytes_are_survived_and_counted() {
    let folder = folder();
    for (name, extra) in [
        ("a.h264", &[][..]),
        ("b.mp4", &["-movflags", "faststart"]),
        ("c.mkv", &[]),
        ("d.ts", &[]),
    ] {
        let mut bytes = std::fs::read(whole(&folder, name, extra)).unwrap();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for byte in bytes.iter_mut().skip(4000) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state.is_multiple_of(100) {
                *byte ^= (state >> 32) as u8 | 1;
            }
        }
        let path = put(&folder, &format!("flipped-{name}"), &bytes);
        let (pictures, damage) = read(&path);
        assert!(pictures.len() >= 10, "{name}: {} frames", pictures.len());
        assert!(damage.any() && damage.first.is_some(), "{name}: {damage}");
    }
}

#[test]
fn any_bytes_are_refused_or_read_to_an_end() {
    let folder = folder();
    let start = std::fs::read(whole(&folder, "a.mp4", &["-movflags", "faststart"])).unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    for round in 0..60 {
        let mut bytes = start.clone();
        for _ in 0..40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Mostly in the index, where a wrong number does most harm.
            let at = state as usize % if round % 2 == 0 { 3000 } else { bytes.len() };
            bytes[at] = (state >> 40) as u8;
        }
        let path = put(&folder, "any.mp4", &bytes);
        if let Ok(mut reader) = open(&path) {
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}

#[test]
fn a_change_of_resolution_is_passed_on() {
    let folder = folder();
    let mut bytes = Vec::new();
    for (name, size) in [
        ("large.h264", "scale=640:360"),
        ("small.h264", "scale=320:180"),
    ] {
        bytes.extend(std::fs::read(whole(&folder, name, &["-vf", size])).unwrap());
    }
    let path = put(&folder, "changing.h264", &bytes);
    let (pictures, damage) = read(&path);
    let sizes: Vec<(u32, u32)> = pictures
        .iter()
        .map(|p| (p.info().width, p.info().height))
        .collect();
    assert_eq!(sizes.len(), 200);
    assert!(sizes[..100].iter().all(|size| *size == (640, 360)));
    assert!(sizes[100..].iter().all(|size| *size == (320, 180)));
    assert!(!damage.any(), "{damage}");
}
