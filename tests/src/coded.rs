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
        let (encoder, option) = match codec {
            "h264" => ("libx264", "-x264-params"),
            _ => ("libx265", "-x265-params"),
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
        let coded = Self::cut(codec, &std::fs::read(&path).expect("the clip"));
        assert_eq!(coded.pictures.len(), frames, "pictures of {codec} {size}");
        coded
    }

    /// The pictures of a file, coded with access unit delimiters.
    #[must_use]
    pub fn read(codec: &'static str, file: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("clip");
        ffmpeg(&[
            "-i",
            file,
            "-c",
            "copy",
            "-f",
            codec,
            &path.to_string_lossy(),
        ]);
        Self::cut(codec, &std::fs::read(&path).expect("the clip"))
    }

    /// Cuts before each access unit delimiter.
    fn cut(codec: &'static str, bytes: &[u8]) -> Self {
        let mark: &[u8] = match codec {
            "h264" => &[0, 0, 0, 1, 9],
            _ => &[0, 0, 0, 1, 0x46],
        };
        let starts: Vec<usize> = (0..bytes.len())
            .filter(|&at| bytes[at..].starts_with(mark))
            .chain([bytes.len()])
            .collect();
        let pictures = starts
            .windows(2)
            .map(|pair| bytes[pair[0]..pair[1]].to_vec())
            .collect();
        Self { codec, pictures }
    }
}
