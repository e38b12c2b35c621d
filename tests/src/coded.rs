//! Coded video to send: made by FFmpeg, cut into its pictures.

use crate::ffmpeg;

/// A coded stream, picture by picture.
#[derive(Clone, Debug)]
pub struct Coded {
    /// `h264` or `hevc`.
    pub codec: &'static str,
    /// The coded pictures, each with what belongs before it.
    pub pictures: Vec<Vec<u8>>,
}

impl Coded {
    /// A test picture that moves: so many frames at 25 a second, a keyframe every second.
    #[must_use]
    pub fn made(codec: &'static str, size: &str, frames: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("clip");
        let source = format!("testsrc2=size={size}:rate=25");
        let (encoder, option, mark): (_, _, &[u8]) = match codec {
            "h264" => ("libx264", "-x264-params", &[0, 0, 0, 1, 9]),
            _ => ("libx265", "-x265-params", &[0, 0, 0, 1, 0x46]),
        };
        let count = frames.to_string();
        let out = path.to_string_lossy();
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            &source,
            "-frames:v",
            &count,
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            encoder,
            "-preset",
            "ultrafast",
            option,
            "bframes=0:keyint=25:min-keyint=25:scenecut=0:aud=1:repeat-headers=1",
            "-f",
            codec,
            &out,
        ]);
        let bytes = std::fs::read(&path).expect("the clip");
        let starts: Vec<usize> = (0..bytes.len())
            .filter(|&at| bytes[at..].starts_with(mark))
            .chain([bytes.len()])
            .collect();
        let pictures: Vec<Vec<u8>> = starts
            .windows(2)
            .map(|pair| bytes[pair[0]..pair[1]].to_vec())
            .collect();
        assert_eq!(pictures.len(), frames, "pictures of {codec} {size}");
        Self { codec, pictures }
    }
}
