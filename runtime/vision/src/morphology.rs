//! Opening and closing of bitmaps with rectangles, one axis after the other.
//!
//! Bitmaps are row-major bytes of 0 or 1. What lies outside the picture takes no part, so objects
//! cut by the border keep their shape. Rows are combined as whole slices, which the compiler turns
//! into wide instructions.

/// Buffers reused from frame to frame.
#[derive(Debug, Default)]
pub struct Morphology {
    spare: Vec<u8>,
}

impl Morphology {
    /// Removes what is narrower than `2 * radius + 1` in x or y.
    pub fn open(&mut self, bitmap: &mut [u8], width: usize, radius: (usize, usize)) {
        self.combine(bitmap, width, radius, |a, b| a & b);
        self.combine(bitmap, width, radius, |a, b| a | b);
    }

    /// Fills gaps narrower than `2 * radius + 1` in x or y.
    pub fn close(&mut self, bitmap: &mut [u8], width: usize, radius: (usize, usize)) {
        self.combine(bitmap, width, radius, |a, b| a | b);
        self.combine(bitmap, width, radius, |a, b| a & b);
    }

    /// Replaces each pixel by the combination of its neighbours within the radius.
    fn combine(
        &mut self,
        bitmap: &mut [u8],
        width: usize,
        (radius_x, radius_y): (usize, usize),
        op: impl Fn(u8, u8) -> u8 + Copy,
    ) {
        if width == 0 || bitmap.len() < width {
            return;
        }
        let height = bitmap.len() / width;
        if radius_x > 0 {
            self.spare.clear();
            self.spare.extend_from_slice(bitmap);
            let rows = bitmap
                .chunks_exact_mut(width)
                .zip(self.spare.chunks_exact(width));
            for (out, row) in rows {
                for shift in 1..=radius_x.min(width - 1) {
                    fold(&mut out[shift..], &row[..width - shift], op);
                    fold(&mut out[..width - shift], &row[shift..], op);
                }
            }
        }
        if radius_y > 0 {
            self.spare.clear();
            self.spare.extend_from_slice(bitmap);
            for shift in 1..=radius_y.min(height - 1) {
                let offset = shift * width;
                let end = bitmap.len() - offset;
                fold(&mut bitmap[offset..], &self.spare[..end], op);
                fold(&mut bitmap[..end], &self.spare[offset..], op);
            }
        }
    }
}

fn fold(out: &mut [u8], other: &[u8], op: impl Fn(u8, u8) -> u8) {
    for (out, &other) in out.iter_mut().zip(other) {
        *out = op(*out, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(rows: &[&str]) -> (Vec<u8>, usize) {
        let bits = rows
            .iter()
            .flat_map(|row| row.bytes())
            .map(|b| u8::from(b == b'#'))
            .collect();
        (bits, rows[0].len())
    }

    #[test]
    fn opening_removes_specks_and_keeps_blocks() {
        let (mut bits, width) = bitmap(&["#.....", "..###.", "..###.", "..###.", "......"]);
        let (expected, _) = bitmap(&["......", "..###.", "..###.", "..###.", "......"]);
        Morphology::default().open(&mut bits, width, (1, 1));
        assert_eq!(bits, expected);
    }

    #[test]
    fn closing_joins_fragments_one_above_the_other() {
        let (mut bits, width) = bitmap(&["..##", "..##", "....", "..##", "#...", "#..."]);
        let (expected, _) = bitmap(&["..##", "..##", "..##", "..##", "#...", "#..."]);
        Morphology::default().close(&mut bits, width, (0, 1));
        assert_eq!(bits, expected);
    }

    #[test]
    fn a_radius_beyond_the_picture_is_harmless() {
        let mut bits = vec![1, 0, 1];
        Morphology::default().close(&mut bits, 3, (9, 9));
        assert_eq!(bits, [1, 1, 1]);
        Morphology::default().open(&mut [], 0, (1, 1));
    }
}
