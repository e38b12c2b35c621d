//! Block averages of a frame's brightness: the small picture in which motion is looked for.
//!
//! Averaging blocks instead of picking pixels takes most of the camera's noise away, which is what
//! lets a plain threshold tell object from background.

use tracklens_schemas::{Image, PixelEncoding};

/// Longest side in pixels of the reduced image.
const WORKING_SIDE: usize = 480;

/// Brightness 0..=255 at reduced resolution, row-major.
#[derive(Debug, Default)]
pub struct ReducedLuma {
    /// Columns: the frame's width over the block side, rounded up.
    pub width: usize,
    /// Rows: the frame's height over the block side, rounded up.
    pub height: usize,
    /// `width * height` averages.
    pub pixels: Vec<f32>,
    column_sums: Vec<u32>,
    luma_row: Vec<u8>,
}

/// Side in frame pixels of the blocks that a frame of this size is averaged over.
#[must_use]
pub fn block_side(width: usize, height: usize) -> usize {
    width.max(height).div_ceil(WORKING_SIDE).max(1)
}

impl ReducedLuma {
    /// Fills `self` from a frame of any encoding.
    pub fn fill(&mut self, image: &Image<'_>) {
        let (width, height) = (image.info.width as usize, image.info.height as usize);
        let side = block_side(width, height);
        self.width = width.div_ceil(side);
        self.height = height.div_ceil(side);
        self.pixels.clear();
        let mut luma_row = std::mem::take(&mut self.luma_row);
        for block_y in 0..self.height {
            let rows = (block_y * side)..((block_y + 1) * side).min(height);
            let row_count = rows.len();
            self.column_sums.clear();
            self.column_sums.resize(width, 0);
            for y in rows {
                let row = brightness(image, y, &mut luma_row);
                for (sum, &luma) in self.column_sums.iter_mut().zip(row) {
                    *sum += u32::from(luma);
                }
            }
            self.pixels
                .extend(self.column_sums.chunks(side).map(|block| {
                    let sum: u32 = block.iter().sum();
                    sum as f32 / (block.len() * row_count) as f32
                }));
        }
        self.luma_row = luma_row;
    }
}

/// Row `y` of the brightness, straight from the frame or computed into `row`.
///
/// # Panics
/// Where the image has no such row.
pub fn brightness<'a>(image: &Image<'a>, y: usize, row: &'a mut Vec<u8>) -> &'a [u8] {
    let width = image.info.width as usize;
    let (red, blue) = match image.info.encoding {
        PixelEncoding::Yuv420p | PixelEncoding::Nv12 => {
            return &image.data[y * width..(y + 1) * width];
        }
        PixelEncoding::Rgb8 => (0, 2),
        PixelEncoding::Bgr8 => (2, 0),
    };
    row.clear();
    // ITU-R BT.601 weights in 1/256.
    row.extend(
        image.data[y * width * 3..(y + 1) * width * 3]
            .chunks_exact(3)
            .map(|pixel| {
                let weighted = 77 * u32::from(pixel[red])
                    + 150 * u32::from(pixel[1])
                    + 29 * u32::from(pixel[blue]);
                (weighted >> 8) as u8
            }),
    );
    row
}
