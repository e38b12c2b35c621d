//! Frames per second of the reader alone, with and without packing each frame into a buffer:
//! `decode_speed CLIP [THREADS]`. Compare with `ffmpeg -benchmark -threads N -i CLIP -f null -`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use tracklens_video::{Reader, ReaderOptions, VideoError};

fn main() -> Result<(), VideoError> {
    let mut arguments = std::env::args().skip(1);
    let clip = arguments.next().unwrap_or_default();
    let threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    for pack in [false, true] {
        let options = ReaderOptions {
            threads,
            ..ReaderOptions::default()
        };
        let start = Instant::now();
        let mut reader = Reader::open(&clip, options)?;
        let mut buffer = Vec::new();
        let mut frames = 0_u32;
        while let Some(picture) = reader.next()? {
            if pack {
                buffer.resize(picture.info().byte_len(), 0);
                picture.write_to(&mut buffer)?;
            }
            frames += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        let fps = f64::from(frames) / seconds;
        println!(
            "threads {threads}, packed {pack}: {frames} frames in {seconds:.3} s, {fps:.0} fps"
        );
    }
    Ok(())
}
