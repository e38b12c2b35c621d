//! Where an object can be, given where it was: a small model takes look-alikes for it.
//!
//! From one frame to the next an object gets no farther than a share of its own size; every frame
//! without sight adds as much. Inside this window, the part that touches most of the object's last mask
//! is the object, or the largest where none does. Further parts are, too, as far as they are near it,
//! are not in another object's last mask, and do not let it outgrow its usual size.

use tracklens_schemas::BBox;

use crate::bitmap::Regions;

/// Logit of a cell that is not the object.
const BEYOND: f32 = -10.0;
/// Cells that a border may be off.
const BLUR: f32 = 1.0;
/// Growth beyond the usual area that a further part may bring.
const GROWTH: f32 = 1.4;
/// Gap between parts of one object, as a share of its side: something is before it.
const GAP: f32 = 0.75;

/// How far an object can have got.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// `[x0, y0, x1, y1)` in cells: where it can be.
    window: [usize; 4],
    /// Cells that it usually has.
    usual: f32,
    /// Cells that may lie between its parts.
    gap: usize,
    size: [usize; 2],
}

/// Cells that hang together.
struct Part {
    cells: Vec<usize>,
    /// Of those, on or beside the last mask.
    known: usize,
    /// Of those, in the last mask of another object.
    others: usize,
}

impl Reach {
    /// The reach of an object last seen at `bbox` (pixels of the `source`, width and height) and not
    /// for `missed` frames, usually `area` pixels large, on a grid of height and width `size`.
    /// `share` of its side (the root of its box's area) is what it covers in a frame.
    #[must_use]
    pub fn new(
        bbox: &BBox,
        area: f32,
        missed: u32,
        source: (u32, u32),
        size: [usize; 2],
        share: f32,
    ) -> Self {
        let [height, width] = size;
        let x = width as f32 / source.0.max(1) as f32;
        let y = height as f32 / source.1.max(1) as f32;
        let sides = [bbox.x0 * x, bbox.y0 * y, bbox.x1 * x, bbox.y1 * y];
        let side = ((sides[2] - sides[0]) * (sides[3] - sides[1]))
            .max(0.0)
            .sqrt();
        let by = side * share * missed.saturating_add(1) as f32 + BLUR;
        let at = |side: f32, most: usize| (side.max(0.0) as usize).min(most);
        Self {
            window: [
                at((sides[0] - by).floor(), width),
                at((sides[1] - by).floor(), height),
                at((sides[2] + by).ceil(), width),
                at((sides[3] + by).ceil(), height),
            ],
            usual: area * x * y,
            gap: (side * GAP + 3.0 * BLUR) as usize,
            size,
        }
    }

    /// Takes everything out of a mask that is not the object, which had the mask `last` on the frame
    /// before (empty: unknown); `taken` counts, for every cell, the objects whose last mask it was in.
    /// True if something is left.
    pub fn keep(
        &self,
        logits: &mut [f32],
        last: &[f32],
        taken: &[u16],
        regions: &mut Regions,
    ) -> bool {
        let width = self.size[1];
        let [x0, y0, x1, y1] = self.window;
        let mut left = false;
        for (row, cells) in logits.chunks_exact_mut(width).enumerate() {
            for (column, logit) in cells.iter_mut().enumerate() {
                if !(y0..y1).contains(&row) || !(x0..x1).contains(&column) {
                    *logit = logit.min(BEYOND);
                }
                left |= *logit > 0.0;
            }
        }
        if !left {
            return false;
        }
        let mut parts = Vec::new();
        regions.each(logits, self.size, true, |_, runs| {
            let cells: Vec<usize> = runs.iter().cloned().flatten().collect();
            let known = cells.iter().filter(|cell| self.beside(last, **cell));
            let others = cells.iter().filter(|cell| {
                let own = last.get(**cell).is_some_and(|logit| *logit > 0.0);
                taken.get(**cell).copied().unwrap_or(0) > u16::from(own)
            });
            let (known, others) = (known.count(), others.count());
            parts.push(Part {
                known,
                others,
                cells,
            });
        });
        parts.sort_by_key(|part| std::cmp::Reverse((part.known, part.cells.len())));
        let most = self.usual * GROWTH;
        let mut total = parts.first().map_or(0, |part| part.cells.len());
        for part in parts.iter().skip(1) {
            let grown = total + part.cells.len();
            let stays = grown as f32 <= most
                && self.gap(&parts[0], part) <= self.gap
                && 2 * part.others <= part.cells.len();
            if stays {
                total = grown;
                continue;
            }
            for cell in &part.cells {
                logits[*cell] = BEYOND;
            }
        }
        true
    }

    /// Cells between the boxes of two parts.
    fn gap(&self, a: &Part, b: &Part) -> usize {
        let (a, b) = (self.bounds(a), self.bounds(b));
        let between = |axis: usize| {
            a[axis]
                .max(b[axis])
                .saturating_sub(a[axis + 2].min(b[axis + 2]))
        };
        between(0).max(between(1))
    }

    /// `[x0, y0, x1, y1)` of a part.
    fn bounds(&self, part: &Part) -> [usize; 4] {
        let width = self.size[1];
        part.cells
            .iter()
            .fold([usize::MAX, usize::MAX, 0, 0], |b, cell| {
                let (x, y) = (cell % width, cell / width);
                [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)]
            })
    }

    /// Whether a cell or one beside it is in a mask.
    fn beside(&self, mask: &[f32], cell: usize) -> bool {
        let [height, width] = self.size;
        let (y, x) = (cell / width, cell % width);
        (y.saturating_sub(1)..(y + 2).min(height)).any(|y| {
            let row = y * width + x.saturating_sub(1)..y * width + (x + 2).min(width);
            mask.get(row)
                .is_some_and(|cells| cells.iter().any(|logit| *logit > 0.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [3, 12];

    fn logits(picture: [&str; 3]) -> Vec<f32> {
        let cells = picture.iter().flat_map(|row| row.bytes());
        cells.map(|c| if c == b'#' { 3.0 } else { -3.0 }).collect()
    }

    /// An object of four cells in the left upper corner, so many frames ago.
    fn keep(picture: [&str; 3], missed: u32, share: f32) -> (bool, [String; 3]) {
        let last = match missed {
            0 => logits(["##..........", "##..........", "............"]),
            _ => Vec::new(),
        };
        let mut mask = logits(picture);
        let bbox = BBox::new(0.0, 0.0, 4.0, 4.0);
        let reach = Reach::new(&bbox, 16.0, missed, (24, 6), SIZE, share);
        let left = reach.keep(&mut mask, &last, &[], &mut Regions::default());
        let row = |y: usize| {
            let row = mask[y * 12..][..12].iter();
            row.map(|l| if *l > 0.0 { '#' } else { '.' }).collect()
        };
        (left, [row(0), row(1), row(2)])
    }

    #[test]
    fn a_look_alike_beside_the_object_is_left_out() {
        let (left, mask) = keep(["##..##......", "##..##......", "............"], 0, 2.0);
        assert!(left);
        assert_eq!(mask, ["##..........", "##..........", "............"]);
    }

    #[test]
    fn an_object_that_parts_keeps_both_parts_as_far_as_it_does_not_grow() {
        let parted = ["#.#.........", "#.#.........", "............"];
        assert_eq!(keep(parted, 0, 2.0).1, parted);
        let two = ["##.##.......", "##.##.......", "##.##......."];
        assert_eq!(keep(two, 0, 2.0).1[0], "##..........");
    }

    #[test]
    fn an_object_that_jumps_within_its_reach_is_kept() {
        let seen = [".....##.....", ".....##.....", "............"];
        assert_eq!(keep(seen, 0, 2.0), (true, seen.map(str::to_owned)));
    }

    #[test]
    fn what_is_out_of_reach_comes_into_reach_with_time() {
        let seen = ["..........##", "..........##", "............"];
        assert!(!keep(seen, 0, 1.0).0);
        assert_eq!(keep(seen, 4, 1.0), (true, seen.map(str::to_owned)));
    }
}
