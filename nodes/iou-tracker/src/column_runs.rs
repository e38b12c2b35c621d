//! COCO runs in the making: pixel ranges in column-major order, put together to a mask.

use tracklens_schemas::Mask;

/// The runs so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnRuns {
    runs: Vec<u32>,
    end: u32,
}

impl ColumnRuns {
    /// Adds pixels; `start` counts from the frame's first pixel, and never goes back.
    pub(crate) fn span(&mut self, start: u32, length: u32) {
        match self.runs.last_mut() {
            Some(last) if start == self.end => *last += length,
            _ => self.runs.extend([start - self.end, length]),
        }
        self.end = start + length;
    }

    /// The runs of a mask of `total` pixels.
    pub(crate) fn finish(mut self, total: u32) -> Vec<u32> {
        if self.end < total || self.runs.is_empty() {
            self.runs.push(total - self.end);
        }
        self.runs
    }
}

/// A mask moved by whole pixels; what leaves the frame is cut off.
pub(crate) fn moved(mask: &Mask, (dx, dy): (i64, i64)) -> Mask {
    let (width, height) = (mask.width(), mask.height());
    if (dx, dy) == (0, 0) {
        return mask.clone();
    }
    let mut runs = ColumnRuns::default();
    for (x, y0, y1) in mask.spans() {
        let x = i64::from(x) + dx;
        let y0 = (i64::from(y0) + dy).clamp(0, i64::from(height));
        let y1 = (i64::from(y1) + dy).clamp(0, i64::from(height));
        if (0..i64::from(width)).contains(&x) && y0 < y1 {
            runs.span((x * i64::from(height) + y0) as u32, (y1 - y0) as u32);
        }
    }
    Mask::from_runs(runs.finish(width * height), width, height)
        .unwrap_or_else(|_| Mask::empty(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_moves_pixel_by_pixel_and_is_cut_off_at_the_edges() {
        let bitmap: Vec<u8> = (0..48)
            .map(|at| u8::from(at % 3 == 0 || at % 7 == 0))
            .collect();
        let mask = Mask::from_bitmap(&bitmap, 8, 6);
        for (dx, dy) in [
            (0, 0),
            (1, 0),
            (-2, 1),
            (3, -4),
            (0, 6),
            (-8, 0),
            (100, -100),
        ] {
            let expected: Vec<u8> = (0..48_i64)
                .map(|at| {
                    let (x, y) = (at % 8 - dx, at / 8 - dy);
                    let inside = (0..8).contains(&x) && (0..6).contains(&y);
                    if inside {
                        bitmap[(y * 8 + x) as usize]
                    } else {
                        0
                    }
                })
                .collect();
            let expected = Mask::from_bitmap(&expected, 8, 6);
            assert_eq!(moved(&mask, (dx, dy)), expected, "{dx} {dy}");
        }
    }
}
