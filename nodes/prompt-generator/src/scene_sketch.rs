//! Frames drawn for tests: a textured landscape seen by a camera that may pan, and a square in it.
#![allow(clippy::unwrap_used)]

use tracklens_schemas::{FrameIndex, Image, ImageInfo, PixelEncoding};

use crate::strategy::Frame;

/// Size of the frames in pixels.
pub(crate) const SIZE: (u32, u32) = (640, 360);

/// One frame to be drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sketch {
    /// Where the camera has moved.
    pub(crate) camera: (f32, f32),
    /// Top left corner in the frame of a bright square of 40 pixels.
    pub(crate) square: Option<(f32, f32)>,
    /// No landscape.
    pub(crate) blank: bool,
}

impl Sketch {
    fn pixels(&self) -> Vec<u8> {
        let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
        let wave = |x: f32, y: f32, fx: f32, fy: f32| (x * fx + y * fy).sin();
        let mut data: Vec<u8> = (0..width * height)
            .map(|at| {
                let x = (at % width) as f32 + self.camera.0;
                let y = (at / width) as f32 + self.camera.1;
                let hills = 25.0 * wave(x, y, 0.021, 0.013)
                    + 20.0 * wave(x, y, -0.017, 0.045)
                    + 15.0 * wave(x, y, 0.09, 0.07);
                if self.blank {
                    100
                } else {
                    (100.0 + hills) as u8
                }
            })
            .collect();
        if let Some((left, top)) = self.square {
            for y in top as usize..top as usize + 40 {
                let row = y * width + left as usize;
                data[row..row + 40].fill(240);
            }
        }
        data.resize(PixelEncoding::Yuv420p.byte_len(SIZE.0, SIZE.1), 128);
        data
    }

    /// Draws the frame and shows it.
    pub(crate) fn show<T>(
        &self,
        index: u64,
        fresh: bool,
        look: bool,
        to: impl FnOnce(&Frame<'_>) -> T,
    ) -> T {
        let data = self.pixels();
        let info = ImageInfo::new(SIZE.0, SIZE.1, PixelEncoding::Yuv420p);
        let stream = "sketch".parse().unwrap();
        to(&Frame {
            stream: &stream,
            index: FrameIndex(index),
            image: Image::new(info, &data).unwrap(),
            fresh,
            look,
        })
    }
}
