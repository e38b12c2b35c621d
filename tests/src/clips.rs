//! Clips to run graphs on: real ones from `TRACKLENS_DATA`, and ones made from them with FFmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A video file.
pub type Clip = PathBuf;

/// The real clip of this name, or `None` (said on standard error) where there is no data.
#[must_use]
pub fn clip(name: &str) -> Option<Clip> {
    let Some(data) = std::env::var_os("TRACKLENS_DATA") else {
        eprintln!("skipped: TRACKLENS_DATA is not set, so there is no clip {name}");
        return None;
    };
    let path = Path::new(&data).join("clips").join(name);
    assert!(path.is_file(), "TRACKLENS_DATA has no clips/{name}");
    Some(path)
}

/// All real clips, in the order of their names.
#[must_use]
pub fn clips() -> Vec<Clip> {
    let Some(data) = std::env::var_os("TRACKLENS_DATA") else {
        eprintln!("skipped: TRACKLENS_DATA is not set, so there are no clips");
        return Vec::new();
    };
    let mut list: Vec<Clip> = std::fs::read_dir(Path::new(&data).join("clips"))
        .expect("TRACKLENS_DATA has a folder clips/")
        .map(|entry| entry.expect("clips/ can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "mp4"))
        .collect();
    list.sort();
    list
}

/// Runs the ffmpeg command line; panics with its output if it fails.
pub fn ffmpeg(arguments: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y"])
        .args(arguments)
        .output()
        .expect("ffmpeg is installed (make setup)");
    assert!(
        output.status.success(),
        "ffmpeg {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// How many frames ffprobe decodes from a file.
#[must_use]
pub fn frame_count(path: &Path) -> u64 {
    let output = Command::new("ffprobe")
        .args(["-v", "quiet", "-count_frames", "-select_streams", "v:0"])
        .args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe is installed (make setup)");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.trim().trim_end_matches(',');
    number
        .parse()
        .unwrap_or_else(|_| panic!("ffprobe on {}: {text:?}", path.display()))
}
