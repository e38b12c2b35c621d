//! What is written plays: frame for frame, at any moment, whatever happens to the writer.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use support::{drawn, ffprobe, frame_count, image, pixels, read, write};
use tracklens_schemas::{BBox, Image, ImageInfo, Mask, PixelEncoding, Track, TrackId, TrackState};
use tracklens_video::{Mp4Writer, VideoError, contact_sheet, draw_tracks};

#[test]
fn frames_come_back_one_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("round.mp4");
    write(&path, 320, 180, 130);
    assert_eq!(frame_count(&path), 130);
    assert_eq!(ffprobe(&path, "stream=codec_name,pix_fmt"), "h264,yuv420p");
    let (pictures, damage) = read(&path);
    assert!(!damage.any(), "{damage}");
    for (number, picture) in pictures.iter().enumerate() {
        assert_eq!(picture.pts_ns(), number as i64 * 40_000_000);
        let expected = drawn(320, 180, number as u32);
        let wrong: u64 = pixels(picture)
            .iter()
            .zip(&expected)
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        assert!(wrong < 4 * expected.len() as u64, "frame {number}: {wrong}");
    }
}

#[test]
fn a_finished_file_begins_at_zero_knows_its_length_and_can_be_searched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seek.mp4");
    write(&path, 160, 90, 250);
    assert_eq!(
        ffprobe(&path, "format=start_time,duration"),
        "0.000000,10.000000"
    );
    assert_eq!(
        ffprobe(&path, "stream=avg_frame_rate").trim_end_matches(','),
        "25/1"
    );
    let output = std::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-read_intervals",
            "8%+#1",
            "-select_streams",
            "v",
            "-of",
            "csv=p=0",
        ])
        .args(["-show_entries", "frame=pts_time"])
        .arg(&path)
        .output()
        .unwrap();
    let found: f64 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .trim_end_matches(',')
        .parse()
        .unwrap();
    assert!((6.0..=8.0).contains(&found), "{found}");
}

#[test]
fn times_of_variable_rate_are_kept_and_made_to_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vfr.mp4");
    let mut writer = Mp4Writer::create(&path, 160, 90, 25.0).unwrap();
    let given = [5000, 5040, 5200, 5200, 5100, 5500, 9000];
    for (number, ms) in given.iter().enumerate() {
        let frame = drawn(160, 90, number as u32);
        writer
            .write(&image(160, 90, &frame), ms * 1_000_000)
            .unwrap();
    }
    writer.finish().unwrap();
    let times: Vec<i64> = read(&path)
        .0
        .iter()
        .map(|p| p.pts_ns() / 1_000_000)
        .collect();
    assert_eq!(times, [0, 40, 200, 200, 200, 500, 4000]);
    assert_eq!(frame_count(&path), given.len());
}

#[test]
fn images_of_other_sizes_and_encodings_are_fitted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sizes.mp4");
    let mut writer = Mp4Writer::create(&path, 161, 91, 25.0).unwrap();
    assert_eq!((writer.width(), writer.height()), (160, 90));
    let mut pts_ns = 0;
    for (width, height, encoding) in [
        (161, 91, PixelEncoding::Yuv420p),
        (320, 180, PixelEncoding::Yuv420p),
        (160, 90, PixelEncoding::Nv12),
        (33, 17, PixelEncoding::Rgb8),
        (160, 90, PixelEncoding::Bgr8),
    ] {
        let info = ImageInfo::new(width, height, encoding);
        let data = vec![200; info.byte_len()];
        writer
            .write(&Image::new(info, &data).unwrap(), pts_ns)
            .unwrap();
        pts_ns += 40_000_000;
    }
    assert_eq!(writer.frames(), 5);
    writer.finish().unwrap();
    assert_eq!(frame_count(&path), 5);
    assert!(ffprobe(&path, "stream=width,height").starts_with("160,90"));
}

#[test]
fn a_dropped_writer_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dropped.mp4");
    let mut writer = Mp4Writer::create(&path, 160, 90, 25.0).unwrap();
    for number in 0..70 {
        let frame = drawn(160, 90, number);
        writer
            .write(&image(160, 90, &frame), i64::from(number) * 40_000_000)
            .unwrap();
    }
    drop(writer);
    assert_eq!(frame_count(&path), 70);
}

#[test]
fn a_killed_process_leaves_all_but_the_last_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.mp4");
    let mut writer = Mp4Writer::create(&path, 160, 90, 25.0).unwrap();
    for number in 0..300 {
        let frame = drawn(160, 90, number);
        writer
            .write(&image(160, 90, &frame), i64::from(number) * 40_000_000)
            .unwrap();
    }
    // What a kill would leave: the bytes in the file before anything is flushed.
    let left = folder.path().join("left.mp4");
    std::fs::copy(&path, &left).unwrap();
    let frames = frame_count(&left);
    assert!((200..=300).contains(&frames), "{frames}");
    assert_eq!(read(&left).0.len(), frames);
}

#[test]
fn what_cannot_be_written_is_named() {
    let error = Mp4Writer::create(Path::new("no/such/folder/x.mp4"), 160, 90, 25.0)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("no/such/folder/x.mp4"),
        "{error}"
    );
    let error = Mp4Writer::create(Path::new("x.mp4"), 0, 90, 25.0)
        .err()
        .unwrap();
    assert_eq!(
        error,
        VideoError::ImageSize {
            width: 0,
            height: 90
        }
    );
}

#[test]
fn tracks_are_seen_in_the_written_video_and_on_the_contact_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overlay.mp4");
    let (w, h) = (320, 180);
    let mut writer = Mp4Writer::create(&path, w, h, 25.0).unwrap();
    for number in 0..40_u32 {
        let mut frame = drawn(w, h, number);
        let left = 40 + number;
        let bitmap: Vec<u8> = (0..w * h)
            .map(|i| u8::from((left..left + 60).contains(&(i % w)) && (50..150).contains(&(i / w))))
            .collect();
        let mask = Mask::from_bitmap(&bitmap, w, h);
        let track = Track {
            track_id: TrackId(3),
            bbox: BBox::new(left as f32, 50.0, left as f32 + 60.0, 150.0),
            area: 6000,
            mask,
            score: 0.9,
            visible: true,
            state: TrackState::Tracked,
            age: number,
        };
        draw_tracks(&mut frame, w, h, &[track]);
        writer
            .write(&image(w, h, &frame), i64::from(number) * 40_000_000)
            .unwrap();
    }
    writer.finish().unwrap();
    let png = folder.path().join("sheet.png");
    assert_eq!(contact_sheet(path.to_str().unwrap(), &png, 6).unwrap(), 6);
    let sheet = image::open(&png).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), (3 * 484 - 4, 2 * 274 - 4));
    let coloured = sheet
        .pixels()
        .filter(|p| p.0.iter().max().unwrap() - p.0.iter().min().unwrap() > 40);
    assert!(coloured.count() > 1000);
    assert_eq!(
        contact_sheet(path.to_str().unwrap(), &png, 1000).unwrap(),
        40
    );
}
