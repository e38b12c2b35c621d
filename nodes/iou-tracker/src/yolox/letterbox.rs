//! From a frame to the model's input in one pass: scale, convert, store as planes of f32.
//!
//! The frame is scaled to fit, keeping its shape, into the top left corner (bilinear, as in the
//! training of YOLOX); the rest is grey 114. Every output pixel reads its source pixels straight
//! from the frame's own planes; there is no picture in between.

use tracklens_schemas::{Image, PixelEncoding};

/// Grey around the frame.
const PADDING: f32 = 114.0;
/// Frames of at least this height carry ITU-R BT.709 colours, smaller ones BT.601.
const HD_HEIGHT: u32 = 720;

/// Where an output coordinate lies between two input samples.
#[derive(Clone, Copy, Debug)]
struct Tap {
    low: usize,
    high: usize,
    /// Weight of `high`.
    weight: f32,
}

/// Sample positions along one axis, pixel centres aligned.
fn taps(outputs: usize, zoom: f32, inputs: usize, subsampling: usize) -> Vec<Tap> {
    let samples = inputs.div_ceil(subsampling);
    (0..outputs)
        .map(|output| {
            let source = (output as f32 + 0.5) / zoom / subsampling as f32 - 0.5;
            let source = source.clamp(0.0, samples.saturating_sub(1) as f32);
            let low = source as usize;
            Tap {
                low,
                high: (low + 1).min(samples.saturating_sub(1)),
                weight: source - low as f32,
            }
        })
        .collect()
}

/// The positions for one frame size.
#[derive(Debug, Default)]
struct Plan {
    size: (u32, u32),
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    chroma_columns: Vec<Tap>,
    chroma_rows: Vec<Tap>,
}

/// Fills model inputs of one size.
#[derive(Debug)]
pub struct Letterbox {
    width: usize,
    height: usize,
    plan: Plan,
}

/// One plane of a frame: every `step`-th byte from `offset`, in rows of `stride` bytes.
#[derive(Clone, Copy)]
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    step: usize,
    offset: usize,
}

impl Plane<'_> {
    fn sample(&self, row: Tap, column: Tap) -> f32 {
        let at = |y: usize, x: usize| {
            f32::from(self.data[y * self.stride + x * self.step + self.offset])
        };
        let line = |y: usize| {
            let (low, high) = (at(y, column.low), at(y, column.high));
            low + (high - low) * column.weight
        };
        let (low, high) = (line(row.low), line(row.high));
        low + (high - low) * row.weight
    }
}

impl Letterbox {
    /// For inputs of this size.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            plan: Plan::default(),
        }
    }

    /// Width of the input.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the input.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Input pixels per frame pixel.
    #[must_use]
    pub fn zoom(&self, width: u32, height: u32) -> f32 {
        (self.width as f32 / width as f32).min(self.height as f32 / height as f32)
    }

    /// Writes a frame as planes of blue, green and red, 0..=255, `3 * height * width` values.
    pub fn fill(&mut self, image: &Image<'_>, tensor: &mut [f32]) {
        self.prepare(image.info.width, image.info.height);
        let (width, height) = (image.info.width as usize, image.info.height as usize);
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        let packed = |offset| Plane {
            data: image.data,
            stride: width * 3,
            step: 3,
            offset,
        };
        let luma = Plane {
            data: image.data,
            stride: width,
            step: 1,
            offset: 0,
        };
        let chroma = &image.data[(width * height).min(image.data.len())..];
        let planar = |offset| Plane {
            data: chroma,
            stride: chroma_width,
            step: 1,
            offset,
        };
        let paired = |offset| Plane {
            data: chroma,
            stride: chroma_width * 2,
            step: 2,
            offset,
        };
        match image.info.encoding {
            PixelEncoding::Yuv420p => {
                let second = chroma_width * chroma_height;
                self.fill_yuv([luma, planar(0), planar(second)], height, tensor);
            }
            PixelEncoding::Nv12 => self.fill_yuv([luma, paired(0), paired(1)], height, tensor),
            PixelEncoding::Rgb8 => self.fill_bgr([packed(2), packed(1), packed(0)], tensor),
            PixelEncoding::Bgr8 => self.fill_bgr([packed(0), packed(1), packed(2)], tensor),
        }
    }

    fn prepare(&mut self, width: u32, height: u32) {
        if self.plan.size == (width, height) {
            return;
        }
        let zoom = self.zoom(width, height);
        let inside = |side: u32, limit: usize| ((side as f32 * zoom) as usize).clamp(1, limit);
        let (columns, rows) = (inside(width, self.width), inside(height, self.height));
        let (width_px, height_px) = (width as usize, height as usize);
        self.plan = Plan {
            size: (width, height),
            columns: taps(columns, zoom, width_px, 1),
            rows: taps(rows, zoom, height_px, 1),
            chroma_columns: taps(columns, zoom, width_px, 2),
            chroma_rows: taps(rows, zoom, height_px, 2),
        };
    }

    fn fill_bgr(&self, planes: [Plane<'_>; 3], tensor: &mut [f32]) {
        tensor.fill(PADDING);
        let area = self.width * self.height;
        for (plane, out) in planes.iter().zip(tensor.chunks_exact_mut(area)) {
            for (&row, out) in self.plan.rows.iter().zip(out.chunks_exact_mut(self.width)) {
                for (&column, out) in self.plan.columns.iter().zip(out) {
                    *out = plane.sample(row, column);
                }
            }
        }
    }

    fn fill_yuv(&self, [luma, cb, cr]: [Plane<'_>; 3], height: usize, tensor: &mut [f32]) {
        tensor.fill(PADDING);
        // Limited range; red from cr, green from cb and cr, blue from cb.
        let [red, green_cb, green_cr, blue] = if height >= HD_HEIGHT as usize {
            [1.7927, -0.2132, -0.5329, 2.1124]
        } else {
            [1.5960, -0.3918, -0.8130, 2.0172]
        };
        let area = self.width * self.height;
        let (blues, rest) = tensor.split_at_mut(area);
        let (greens, reds) = rest.split_at_mut(area);
        let rows = self
            .plan
            .rows
            .iter()
            .zip(&self.plan.chroma_rows)
            .enumerate();
        for (y, (&row, &chroma_row)) in rows {
            let columns = self
                .plan
                .columns
                .iter()
                .zip(&self.plan.chroma_columns)
                .enumerate();
            for (x, (&column, &chroma_column)) in columns {
                let bright = 1.1644 * (luma.sample(row, column) - 16.0);
                let b = cb.sample(chroma_row, chroma_column) - 128.0;
                let r = cr.sample(chroma_row, chroma_column) - 128.0;
                let at = y * self.width + x;
                blues[at] = (bright + blue * b).clamp(0.0, 255.0);
                greens[at] = (bright + green_cb * b + green_cr * r).clamp(0.0, 255.0);
                reds[at] = (bright + red * r).clamp(0.0, 255.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracklens_schemas::ImageInfo;

    fn tensor(encoding: PixelEncoding, size: (u32, u32), data: &[u8]) -> Vec<f32> {
        let info = ImageInfo::new(size.0, size.1, encoding);
        let mut out = vec![0.0; 3 * 64 * 32];
        if let Ok(image) = Image::new(info, data) {
            Letterbox::new(64, 32).fill(&image, &mut out);
        }
        out
    }

    #[test]
    fn red_is_red_in_every_encoding() {
        let (w, h) = (33_u32, 17_u32);
        let pixels = (w * h) as usize;
        let chroma = (w.div_ceil(2) * h.div_ceil(2)) as usize;
        let rgb: Vec<u8> = [255, 0, 0].repeat(pixels);
        let bgr: Vec<u8> = [0, 0, 255].repeat(pixels);
        let mut yuv = vec![82; pixels];
        yuv.extend(vec![90; chroma]);
        yuv.extend(vec![240; chroma]);
        let mut nv12 = vec![82; pixels];
        nv12.extend([90, 240].repeat(chroma));
        for (encoding, data) in [
            (PixelEncoding::Rgb8, rgb),
            (PixelEncoding::Bgr8, bgr),
            (PixelEncoding::Yuv420p, yuv),
            (PixelEncoding::Nv12, nv12),
        ] {
            let out = tensor(encoding, (w, h), &data);
            let pixel = 10 * 64 + 20;
            let bgr = [out[pixel], out[64 * 32 + pixel], out[2 * 64 * 32 + pixel]];
            assert!(
                bgr[0] < 4.0 && bgr[1] < 4.0 && bgr[2] > 251.0,
                "{encoding:?} {bgr:?}"
            );
            assert_eq!(out[31 * 64 + 63], PADDING);
        }
    }

    #[test]
    fn wide_and_tall_frames_fit_and_keep_their_shape() {
        let grey = vec![200; 128 * 32 * 3];
        let wide = tensor(PixelEncoding::Rgb8, (128, 32), &grey);
        assert_eq!((wide[15 * 64 + 63], wide[16 * 64]), (200.0, PADDING));
        let tall = tensor(PixelEncoding::Rgb8, (32, 128), &grey);
        assert_eq!((tall[31 * 64 + 7], tall[8]), (200.0, PADDING));
    }
}
