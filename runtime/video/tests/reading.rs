//! Intact video: every frame, in order, with the right time and the right pixels.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{clips, ffmpeg, ffprobe, frame_count, open, pixels, read, write};
use tracklens_schemas::{PixelEncoding, wall_clock_ns};
use tracklens_video::{Picture, Reader, ReaderOptions, StopHandle, VideoError};

#[test]
fn real_clips_give_exactly_the_frames_that_ffprobe_counts() {
    for clip in clips() {
        let mut reader = open(&clip).unwrap();
        let expected = frame_count(&clip);
        assert_eq!(reader.info().expected_frames, Some(expected as u64));
        let (mut frames, mut last) = (0, -1);
        while let Some(picture) = reader.next().unwrap() {
            assert!(picture.pts_ns() > last, "{} frame {frames}", clip.display());
            last = picture.pts_ns();
            frames += 1;
        }
        assert_eq!(frames, expected, "{}", clip.display());
        assert!(
            !reader.damage().any(),
            "{}: {}",
            clip.display(),
            reader.damage()
        );
    }
}

/// What a picture is: its time, whether it is a keyframe, its pixels.
fn whole(picture: &Picture) -> (i64, bool, Vec<u8>) {
    (picture.pts_ns(), picture.info().keyframe, pixels(picture))
}

#[test]
fn from_the_beginning_again_all_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let clip = with_b_frames(folder.path());
    let source = clip.to_str().unwrap();
    let copy = ["-i", source, "-c", "copy"];
    let cut = [&["-ss", "0.3"], &copy[..]].concat();
    let fragments = [&copy[..], &["-movflags", "frag_keyframe+empty_moov"]].concat();
    for (name, arguments, rewinds) in [
        ("all.mp4", &copy[..], true),
        // Begins before it is shown, by an edit list.
        ("cut.mp4", &cut[..], true),
        ("cut.mkv", &cut[..], true),
        ("fragments.mp4", &fragments[..], true),
        ("copy.ts", &copy[..], false),
        ("copy.h264", &copy[..], false),
    ] {
        let path = folder.path().join(name);
        ffmpeg(&[arguments, &[path.to_str().unwrap()]].concat());
        let mut reader = open(&path).unwrap();
        assert!(!reader.rewind(), "{name}: not before its end");
        let mut rounds = Vec::new();
        loop {
            let mut round = Vec::new();
            while let Some(picture) = reader.next().unwrap() {
                round.push(whole(&picture));
            }
            rounds.push(round);
            if rounds.len() == 3 || !reader.rewind() {
                break;
            }
        }
        assert_eq!(rounds.len(), if rewinds { 3 } else { 1 }, "{name}");
        assert_eq!(rounds[0].len(), frame_count(&path), "{name}");
        assert!(rounds.iter().all(|round| *round == rounds[0]), "{name}");
        assert!(!reader.damage().any(), "{name}: {}", reader.damage());
    }
}

#[test]
fn nothing_comes_again_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let clip = with_b_frames(folder.path());
    let stop = StopHandle::default();
    let options = ReaderOptions {
        stop: stop.clone(),
        ..ReaderOptions::default()
    };
    let mut reader = Reader::open(clip.to_str().unwrap(), options).unwrap();
    assert!(reader.next().unwrap().is_some());
    stop.stop();
    assert!(reader.next().is_err());
    assert!(!reader.rewind());
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn real_clips_are_the_same_from_the_beginning_again() {
    for clip in clips() {
        let mut reader = open(&clip).unwrap();
        let mut rounds = [Vec::new(), Vec::new()];
        for (number, round) in rounds.iter_mut().enumerate() {
            assert!(number == 0 || reader.rewind(), "{}", clip.display());
            while let Some(picture) = reader.next().unwrap() {
                let (pts_ns, keyframe, pixels) = whole(&picture);
                let sum = pixels.iter().map(|&byte| u64::from(byte)).sum::<u64>();
                round.push((pts_ns, keyframe, sum));
            }
        }
        assert!(rounds[0] == rounds[1], "{}", clip.display());
    }
}

/// A clip with B-frames: a real one where there is one, else one that FFmpeg makes.
fn with_b_frames(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("b-frames.mp4");
    let size = [
        "-frames:v",
        "60",
        "-s",
        "320x180",
        "-c:v",
        "libx264",
        "-bf",
        "2",
        "-pix_fmt",
        "yuv420p",
    ];
    let real = clips().into_iter().find(|clip| clip.ends_with("bikes.mp4"));
    let source = real.map(|clip| clip.to_str().unwrap().to_string());
    let input: Vec<&str> = match &source {
        Some(clip) => vec!["-i", clip],
        None => vec!["-f", "lavfi", "-i", "testsrc=rate=25"],
    };
    ffmpeg(&[&input, &size[..], &[path.to_str().unwrap()]].concat());
    path
}

#[test]
fn pixels_are_those_of_the_ffmpeg_command() {
    let folder = tempfile::tempdir().unwrap();
    let clip = with_b_frames(folder.path());
    let output = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-i",
            clip.to_str().unwrap(),
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-",
        ])
        .output()
        .unwrap();
    let ours: Vec<u8> = read(&clip).0.iter().flat_map(pixels).collect();
    assert!(
        ours == output.stdout,
        "{} and {} bytes",
        ours.len(),
        output.stdout.len()
    );
}

#[test]
fn every_container_gives_the_same_frames_at_the_same_times() {
    let folder = tempfile::tempdir().unwrap();
    let clip = with_b_frames(folder.path());
    let (expected, _) = read(&clip);
    assert_eq!(expected.len(), 60);
    for name in ["copy.mkv", "copy.ts", "copy.h264", "copy.mov"] {
        let path = folder.path().join(name);
        ffmpeg(&[
            "-i",
            clip.to_str().unwrap(),
            "-c",
            "copy",
            path.to_str().unwrap(),
        ]);
        let (pictures, damage) = read(&path);
        assert_eq!(pictures.len(), frame_count(&path), "{name}");
        assert!(!damage.any(), "{name}: {damage}");
        for (number, (ours, theirs)) in pictures.iter().zip(&expected).enumerate() {
            let apart = (ours.pts_ns() - theirs.pts_ns()).abs();
            assert!(
                apart <= 1_000_000,
                "{name} frame {number}: {apart} ns apart"
            );
            assert!(pixels(ours) == pixels(theirs), "{name} frame {number}");
        }
    }
}

#[test]
fn capture_is_when_a_picture_came_in_whatever_is_shown_first() {
    let folder = tempfile::tempdir().unwrap();
    let clip = with_b_frames(folder.path());
    let before = wall_clock_ns();
    let (pictures, _) = read(&clip);
    let captured: Vec<i64> = pictures.iter().map(Picture::capture_ns).collect();
    let mut sorted = captured.clone();
    sorted.sort_unstable();
    assert!(before <= sorted[0] && sorted[59] <= wall_clock_ns());
    // In the file a picture lies before the B-frames that are shown before it.
    assert!(captured != sorted, "{captured:?}");
}

#[test]
fn variable_frame_rates_keep_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.mp4");
    write(&source, 160, 90, 60);
    let path = folder.path().join("vfr.mkv");
    let keep = "select='not(mod(n,3))+lt(n,20)'";
    ffmpeg(&[
        "-i",
        source.to_str().unwrap(),
        "-vf",
        keep,
        "-vsync",
        "vfr",
        "-bf",
        "2",
        path.to_str().unwrap(),
    ]);
    let times: Vec<i64> = read(&path)
        .0
        .iter()
        .map(|p| p.pts_ns() / 1_000_000)
        .collect();
    let expected: Vec<i64> = (0..60)
        .filter(|n| n % 3 == 0 || *n < 20)
        .map(|n| n * 40)
        .collect();
    assert_eq!(times, expected);
}

#[test]
fn what_is_known_before_the_first_frame_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_b_frames(folder.path());
    let reader = open(&path).unwrap();
    let info = reader.info();
    assert_eq!(
        (info.width, info.height, info.codec.as_str()),
        (320, 180, "h264")
    );
    assert_eq!(
        (info.frame_rate, info.expected_frames),
        (Some((25, 1)), Some(60))
    );
    assert_eq!(info.duration_ns, Some(2_400_000_000));
}

#[test]
fn other_pixel_formats_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    for (format, name) in [
        ("yuv444p", "a.mp4"),
        ("yuv422p10le", "b.mkv"),
        ("yuvj420p", "c.mp4"),
        ("gray", "d.mkv"),
    ] {
        let path = folder.path().join(name);
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "testsrc=rate=25:size=162x90",
            "-frames:v",
            "5",
            "-pix_fmt",
            format,
            path.to_str().unwrap(),
        ]);
        let (pictures, _) = read(&path);
        assert_eq!(pictures.len(), 5, "{format}");
        assert_eq!(
            pictures[0].info().encoding,
            PixelEncoding::Yuv420p,
            "{format}"
        );
        assert!(pixels(&pictures[4]).iter().any(|&byte| byte != 0));
    }
}

#[test]
fn odd_sizes_are_packed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.mkv");
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc=rate=25:size=161x91",
        "-frames:v",
        "3",
        "-c:v",
        "ffv1",
        "-pix_fmt",
        "yuv420p",
        path.to_str().unwrap(),
    ]);
    let (pictures, _) = read(&path);
    let info = pictures[0].info();
    assert_eq!((info.width, info.height), (161, 91));
    assert_eq!(pixels(&pictures[0]).len(), 161 * 91 + 2 * 81 * 46);
    assert!(pictures[0].write_to(&mut [0; 3]).is_err());
}

#[test]
fn thread_counts_do_not_change_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    let clip = with_b_frames(folder.path());
    let bytes = |threads| {
        let options = ReaderOptions {
            threads,
            ..ReaderOptions::default()
        };
        let mut reader = Reader::open(clip.to_str().unwrap(), options).unwrap();
        let mut all = Vec::new();
        while let Some(picture) = reader.next().unwrap() {
            all.extend(pixels(&picture));
        }
        all
    };
    assert!(bytes(1) == bytes(3));
}

#[test]
fn a_silent_server_is_given_up_and_a_stop_is_heard() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    for url in [
        format!("http://me:secret@127.0.0.1:{port}/x.mp4"),
        format!("rtsp://me:secret@127.0.0.1:{port}/x"),
    ] {
        let options = ReaderOptions {
            timeout: Duration::from_secs(1),
            ..ReaderOptions::default()
        };
        let error = Reader::open(&url, options).err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(
            matches!(error, VideoError::Timeout { .. } | VideoError::Open { .. }),
            "{error}"
        );
    }
    let stop = StopHandle::default();
    let options = ReaderOptions {
        timeout: Duration::from_secs(3600),
        stop: stop.clone(),
        threads: 1,
        ..ReaderOptions::default()
    };
    let url = format!("http://127.0.0.1:{port}/x.mp4");
    let reading = std::thread::spawn(move || Reader::open(&url, options).err().unwrap());
    let start = Instant::now();
    stop.stop();
    assert!(matches!(
        reading.join().unwrap(),
        VideoError::Stopped { .. }
    ));
    assert!(start.elapsed() < Duration::from_secs(3600));
}

#[test]
fn sizes_are_those_that_ffprobe_tells() {
    for clip in clips() {
        let reader = open(&clip).unwrap();
        let size = format!("{},{}", reader.info().width, reader.info().height);
        assert!(ffprobe(&clip, "stream=width,height").starts_with(&size));
    }
}

#[test]
fn full_range_pictures_come_out_in_the_range_of_video() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("white.jpg");
    let (source, path_text) = ("color=white:size=64x48", path.to_str().unwrap());
    ffmpeg(&["-f", "lavfi", "-i", source, "-frames:v", "1", path_text]);
    let (pictures, _) = read(&path);
    let luma = pixels(&pictures[0])[0];
    assert!((233..=236).contains(&luma), "{luma}");
}

#[test]
fn numbered_pictures_are_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = folder.path().join("%05d.jpg");
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc=rate=25:size=162x90",
        "-frames:v",
        "12",
        "-start_number",
        "0",
        pattern.to_str().unwrap(),
    ]);
    let reader = open(&pattern).unwrap();
    assert_eq!(reader.info().expected_frames, Some(12));
    let (pictures, damage) = read(&pattern);
    assert_eq!((pictures.len(), damage.any()), (12, false));
    let missing = folder.path().join("%06d.jpg");
    let refused = support::refusal(&missing);
    assert!(
        matches!(refused, VideoError::NoSuchFile { .. }),
        "{refused}"
    );
}
