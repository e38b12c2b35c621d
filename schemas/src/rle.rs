//! Masks as COCO run lengths: runs of background and object pixels in column-major order, starting
//! with background; and COCO's compressed text form of them.
//!
//! The compressed form is that of `pycocotools`: each run (from the third on, its difference to the
//! run two before) in groups of five bits, least significant first, sixth bit: more follows, plus
//! 48 to make it printable.

use crate::BBox;

/// Longest side of a mask, in pixels.
const MAX_SIDE: u32 = crate::image::MAX_SIDE;

/// A binary mask of a frame's size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    width: u32,
    height: u32,
    runs: Vec<u32>,
}

/// Run lengths that are no mask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RleError {
    /// A size that no frame has.
    #[error("a mask should be 1 to {MAX_SIDE} pixels wide and high, is {width}x{height}")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A byte that the compressed form does not have.
    #[error("byte {at} of the compressed runs is {byte:#04x}, expected 0x30 to 0x6f")]
    Byte {
        /// Its position.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// The text ends inside a number.
    #[error("the compressed runs end in the middle of a number")]
    Cut,
    /// A run below zero or beyond the mask.
    #[error("run {at} is {run}")]
    Run {
        /// Its position.
        at: usize,
        /// Its length.
        run: i64,
    },
    /// The runs do not fill the mask.
    #[error("the runs cover {covered} pixels of {pixels}")]
    Cover {
        /// Pixels covered.
        covered: u64,
        /// Pixels of the mask.
        pixels: u64,
    },
}

impl Mask {
    /// A mask without object pixels.
    #[must_use]
    pub fn empty(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            runs: vec![width * height],
        }
    }

    /// A mask from column-major runs.
    ///
    /// # Errors
    /// Where the size is no frame's or the runs do not add up to it.
    pub fn from_runs(runs: Vec<u32>, width: u32, height: u32) -> Result<Self, RleError> {
        check_size(width, height)?;
        let covered: u64 = runs.iter().map(|run| u64::from(*run)).sum();
        let pixels = u64::from(width) * u64::from(height);
        if covered == pixels {
            Ok(Self {
                width,
                height,
                runs,
            })
        } else {
            Err(RleError::Cover { covered, pixels })
        }
    }

    /// A mask from a row-major bitmap of `width * height` bytes, non-zero being object. A bitmap
    /// that is too short counts as background where it ends.
    #[must_use]
    pub fn from_bitmap(bitmap: &[u8], width: u32, height: u32) -> Self {
        let mut runs = Runs::default();
        let (w, h) = (width as usize, height as usize);
        // Column by column in strips, so that rows are read in cache lines.
        const STRIP: usize = 64;
        let mut strip = vec![0_u8; STRIP * h];
        for left in (0..w).step_by(STRIP) {
            let columns = STRIP.min(w - left);
            for y in 0..h {
                let start = y * w + left;
                let row = bitmap.get(start..start + columns).unwrap_or(&[]);
                for x in 0..columns {
                    strip[x * h + y] = row.get(x).copied().unwrap_or(0);
                }
            }
            for pixel in &strip[..columns * h] {
                runs.push(*pixel != 0, 1);
            }
        }
        Self {
            width,
            height,
            runs: runs.finish(),
        }
    }

    /// Adds this mask's object pixels to a row-major bitmap as ones.
    pub fn fill_bitmap(&self, bitmap: &mut [u8]) {
        let w = self.width as usize;
        for (x, y0, y1) in self.spans() {
            for y in y0..y1 {
                if let Some(pixel) = bitmap.get_mut(y as usize * w + x as usize) {
                    *pixel = 1;
                }
            }
        }
    }

    /// The row-major bitmap, `width * height` bytes of 0 or 1.
    #[must_use]
    pub fn to_bitmap(&self) -> Vec<u8> {
        let mut bitmap = vec![0; self.width as usize * self.height as usize];
        self.fill_bitmap(&mut bitmap);
        bitmap
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The runs: background, object, background, …, column-major.
    #[must_use]
    pub fn runs(&self) -> &[u32] {
        &self.runs
    }

    /// Object pixels.
    #[must_use]
    pub fn area(&self) -> u64 {
        let object = self.runs.iter().skip(1).step_by(2);
        object.map(|run| u64::from(*run)).sum()
    }

    /// The object's pixel ranges `start..end` in column-major order.
    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut position = 0_u64;
        self.runs.chunks(2).filter_map(move |pair| {
            let start = position + u64::from(pair[0]);
            let end = start + u64::from(*pair.get(1)?);
            position = end;
            (end > start).then_some((start, end))
        })
    }

    /// The object's pixels column by column: `(x, y0, y1)` with `y0 <= y < y1`.
    pub fn spans(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let height = u64::from(self.height.max(1));
        self.ranges().flat_map(move |(start, end)| {
            (start / height..=(end - 1) / height).map(move |x| {
                let top = x * height;
                let y0 = start.max(top) - top;
                let y1 = end.min(top + height) - top;
                (x as u32, y0 as u32, y1 as u32)
            })
        })
    }

    /// The smallest box around the object; `None` for an empty mask.
    #[must_use]
    pub fn bbox(&self) -> Option<BBox> {
        let mut edges: Option<(u32, u32, u32, u32)> = None;
        for (x, y0, y1) in self.spans() {
            let (left, top, right, bottom) = edges.unwrap_or((x, y0, x + 1, y1));
            edges = Some((left.min(x), top.min(y0), right.max(x + 1), bottom.max(y1)));
        }
        edges.map(|(x0, y0, x1, y1)| BBox::new(x0 as f32, y0 as f32, x1 as f32, y1 as f32))
    }

    /// Object pixels that both masks have; 0 for masks of different sizes.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> u64 {
        if (self.width, self.height) != (other.width, other.height) {
            return 0;
        }
        let (mut ours, mut theirs) = (self.ranges(), other.ranges());
        let (mut a, mut b) = (ours.next(), theirs.next());
        let mut common = 0;
        while let (Some((a0, a1)), Some((b0, b1))) = (a, b) {
            common += a1.min(b1).saturating_sub(a0.max(b0));
            if a1 <= b1 {
                a = ours.next();
            } else {
                b = theirs.next();
            }
        }
        common
    }

    /// Intersection over union, 0 to 1; 0 for two empty masks.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersection(other);
        let union = self.area() + other.area() - common;
        if union == 0 {
            0.0
        } else {
            common as f32 / union as f32
        }
    }

    /// The mask at another size, by nearest neighbour.
    #[must_use]
    pub fn scale(&self, width: u32, height: u32) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        // The first pixel of the new side whose nearest old pixel is `old` or a later one.
        let first = |old: u32, from: u32, to: u32| -> u32 {
            (u64::from(old) * u64::from(to)).div_ceil(u64::from(from.max(1))) as u32
        };
        let spans: Vec<(u32, u32, u32)> = self.spans().collect();
        let mut runs = Runs::default();
        let mut end = 0;
        for column in spans.chunk_by(|a, b| a.0 == b.0) {
            let x = column[0].0;
            for x in first(x, self.width, width)..first(x + 1, self.width, width) {
                for &(_, y0, y1) in column {
                    let start = x * height + first(y0, self.height, height);
                    let stop = x * height + first(y1, self.height, height);
                    if start < stop {
                        runs.gap(start - end);
                        runs.push(true, stop - start);
                        end = stop;
                    }
                }
            }
        }
        runs.gap(width * height - end);
        Self {
            width,
            height,
            runs: runs.finish(),
        }
    }

    /// The compressed form, ASCII.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.runs.len() * 2);
        for (at, run) in self.runs.iter().enumerate() {
            let before = if at > 2 { self.runs[at - 2] } else { 0 };
            let mut number = i64::from(*run) - i64::from(before);
            loop {
                let group = (number & 0x1f) as u8;
                number >>= 5;
                let sign = group & 0x10 != 0;
                let last = if sign { number == -1 } else { number == 0 };
                text.push(48 + if last { group } else { group | 0x20 });
                if last {
                    break;
                }
            }
        }
        text
    }

    /// Reads the compressed form of a mask of this size.
    ///
    /// # Errors
    /// Where the text is no such mask.
    pub fn decode(text: &[u8], width: u32, height: u32) -> Result<Self, RleError> {
        check_size(width, height)?;
        let pixels = i64::from(width) * i64::from(height);
        let mut runs: Vec<u32> = Vec::with_capacity(text.len() / 2);
        let (mut number, mut shift) = (0_i64, 0_u32);
        for (at, byte) in text.iter().enumerate() {
            let group = byte.wrapping_sub(48);
            if group > 0x3f {
                return Err(RleError::Byte { at, byte: *byte });
            }
            // Seven groups hold any run of the largest mask.
            if shift > 30 {
                return Err(RleError::Run {
                    at: runs.len(),
                    run: number,
                });
            }
            number |= i64::from(group & 0x1f) << shift;
            shift += 5;
            if group & 0x20 != 0 {
                continue;
            }
            if group & 0x10 != 0 {
                number |= -1 << shift;
            }
            let before = if runs.len() > 2 {
                runs[runs.len() - 2]
            } else {
                0
            };
            let run = number + i64::from(before);
            match u32::try_from(run) {
                Ok(length) if run <= pixels => runs.push(length),
                _ => {
                    return Err(RleError::Run {
                        at: runs.len(),
                        run,
                    });
                }
            }
            (number, shift) = (0, 0);
        }
        if shift != 0 {
            return Err(RleError::Cut);
        }
        Self::from_runs(runs, width, height)
    }
}

fn check_size(width: u32, height: u32) -> Result<(), RleError> {
    if (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height) {
        Ok(())
    } else {
        Err(RleError::Size { width, height })
    }
}

/// Collects runs from pixels.
#[derive(Default)]
struct Runs {
    runs: Vec<u32>,
    object: bool,
    length: u32,
}

impl Runs {
    fn push(&mut self, object: bool, length: u32) {
        if object == self.object {
            self.length += length;
        } else {
            self.runs.push(self.length);
            self.object = object;
            self.length = length;
        }
    }

    fn gap(&mut self, length: u32) {
        if length > 0 {
            self.push(false, length);
        }
    }

    fn finish(mut self) -> Vec<u32> {
        if self.length > 0 {
            self.runs.push(self.length);
        }
        self.runs
    }
}

#[cfg(test)]
mod tests;
