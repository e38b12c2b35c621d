//! Clips, FFmpeg's command line, and short ways to read and write video.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tracklens_schemas::{Image, ImageInfo, PixelEncoding};
use tracklens_video::{Damage, Mp4Writer, Picture, Reader, ReaderOptions, VideoError};

/// The clips of `TRACKLENS_DATA`; none, with a line that says so, where it is not set.
pub fn clips() -> Vec<PathBuf> {
    let Some(data) = std::env::var_os("TRACKLENS_DATA") else {
        eprintln!("skipped: TRACKLENS_DATA not set, no real clips to read");
        return Vec::new();
    };
    let mut clips: Vec<PathBuf> = std::fs::read_dir(Path::new(&data).join("clips"))
        .expect("TRACKLENS_DATA has a folder clips")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mp4"))
        .collect();
    clips.sort();
    clips
}

pub fn ffmpeg(arguments: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(arguments)
        .output()
        .expect("the ffmpeg command is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What `ffprobe` says of the video stream.
pub fn ffprobe(path: &Path, entry: &str) -> String {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-select_streams",
            "v:0",
            "-of",
            "csv=p=0",
        ])
        .args(["-show_entries", entry])
        .arg(path)
        .output()
        .expect("the ffprobe command is installed");
    // In a transport stream the stream is listed twice, the second time with its programme.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches(',')
        .to_string()
}

pub fn frame_count(path: &Path) -> usize {
    ffprobe(path, "stream=nb_read_frames").parse().unwrap()
}

pub fn open(path: &Path) -> Result<Reader, VideoError> {
    Reader::open(path.to_str().unwrap(), ReaderOptions::default())
}

pub fn refusal(path: &Path) -> VideoError {
    match open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// All frames of a video and what was damaged.
pub fn read(path: &Path) -> (Vec<Picture>, Damage) {
    let mut reader = open(path).unwrap();
    let mut pictures = Vec::new();
    while let Some(picture) = reader.next().unwrap() {
        pictures.push(picture);
    }
    let times: Vec<i64> = pictures.iter().map(Picture::pts_ns).collect();
    assert!(
        times.windows(2).all(|pair| pair[0] < pair[1]),
        "times grow: {times:?}"
    );
    (pictures, reader.damage().clone())
}

pub fn pixels(picture: &Picture) -> Vec<u8> {
    let mut pixels = vec![0; picture.info().byte_len()];
    picture.write_to(&mut pixels).unwrap();
    pixels
}

/// Frame `number` of a made-up video: a bright bar that wanders over a grey ramp.
pub fn drawn(width: u32, height: u32, number: u32) -> Vec<u8> {
    let info = ImageInfo::new(width, height, PixelEncoding::Yuv420p);
    let mut pixels = vec![128; info.byte_len()];
    for y in 0..height {
        for x in 0..width {
            let bar = (x + width - number * 4 % width) % width < 8;
            let luma = if bar { 230 } else { 30 + 100 * y / height };
            pixels[(y * width + x) as usize] = luma as u8;
        }
    }
    pixels
}

pub fn image(width: u32, height: u32, data: &[u8]) -> Image<'_> {
    Image::new(ImageInfo::new(width, height, PixelEncoding::Yuv420p), data).unwrap()
}

/// Writes a made-up video at 25 frames a second.
pub fn write(path: &Path, width: u32, height: u32, frames: u32) {
    let mut writer = Mp4Writer::create(path, width, height, 25.0).unwrap();
    for number in 0..frames {
        let pixels = drawn(width, height, number);
        writer
            .write(
                &image(width, height, &pixels),
                i64::from(number) * 40_000_000,
            )
            .unwrap();
    }
    writer.finish().unwrap();
}
