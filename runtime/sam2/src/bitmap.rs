//! Masks at the decoder's resolution as bits: quick to compare; and their clean-up.

use std::ops::Range;

/// Cells of a mask, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    area: u32,
}

impl Bitmap {
    /// The cells above zero.
    #[must_use]
    pub fn new(logits: &[f32]) -> Self {
        let words: Vec<u64> = logits
            .chunks(64)
            .map(|cells| {
                let bits = cells.iter().enumerate();
                bits.fold(0, |word, (at, cell)| word | (u64::from(*cell > 0.0) << at))
            })
            .collect();
        let area = words.iter().map(|word| word.count_ones()).sum();
        Self { words, area }
    }

    /// Cells of the object.
    #[must_use]
    pub fn area(&self) -> u32 {
        self.area
    }

    /// Cells that both have.
    #[must_use]
    pub fn common(&self, other: &Self) -> u32 {
        let pairs = self.words.iter().zip(&other.words);
        pairs.map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// Intersection over union, 0 to 1; 0 for two empty masks.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.common(other);
        ratio(common, self.area + other.area - common)
    }

    /// Share of the smaller one that the other covers, 0 to 1.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> f32 {
        ratio(self.common(other), self.area.min(other.area))
    }
}

fn ratio(part: u32, whole: u32) -> f32 {
    if whole == 0 {
        0.0
    } else {
        part as f32 / whole as f32
    }
}

/// Finds what hangs together on a grid of cells (8-connected), row by row: runs of cells, joined with
/// those that they touch in the row above (two-pass labelling; Rosenfeld and Pfaltz 1966).
#[derive(Clone, Debug, Default)]
pub struct Regions {
    runs: Vec<Run>,
    region: Vec<Range<usize>>,
}

/// Cells of a row, one after the other, that are alike.
#[derive(Clone, Debug)]
struct Run {
    cells: Range<usize>,
    /// A run of the same region that came before, or this one.
    parent: usize,
    /// The region's next run.
    next: Option<usize>,
    /// Of a region's first run: its last one so far.
    last: usize,
}

impl Regions {
    /// Visits the regions of object (logits above zero) or of background on a grid of this height and
    /// width, each by its number of cells and its runs of cells, in the order of their first cells.
    pub fn each(
        &mut self,
        logits: &[f32],
        [_, width]: [usize; 2],
        object: bool,
        mut visit: impl FnMut(usize, &[Range<usize>]),
    ) {
        self.find_runs(logits, width, object);
        for at in 0..self.runs.len() {
            let first = self.first_of(at);
            if first != at {
                let last = std::mem::replace(&mut self.runs[first].last, at);
                self.runs[last].next = Some(at);
            }
        }
        for first in 0..self.runs.len() {
            if self.runs[first].parent != first {
                continue;
            }
            self.region.clear();
            let mut next = Some(first);
            while let Some(run) = next.map(|at| &self.runs[at]) {
                self.region.push(run.cells.clone());
                next = run.next;
            }
            let cells = self.region.iter().map(Range::len).sum();
            visit(cells, &self.region);
        }
    }

    fn find_runs(&mut self, logits: &[f32], width: usize, object: bool) {
        self.runs.clear();
        let mut above = 0..0;
        for (row, line) in logits.chunks_exact(width).enumerate() {
            let row_begins = self.runs.len();
            let is = |logit: &f32| (*logit > 0.0) == object;
            let mut column = 0;
            while let Some(skipped) = line[column..].iter().position(is) {
                let begin = column + skipped;
                let length = line[begin..].iter().position(|logit| !is(logit));
                column = length.map_or(width, |length| begin + length);
                let at = self.runs.len();
                self.runs.push(Run {
                    cells: row * width + begin..row * width + column,
                    parent: at,
                    next: None,
                    last: at,
                });
                // Above, cells begin a row earlier; a corner is enough.
                let (left, right) = (row * width + begin, row * width + column);
                while above.start < above.end && self.runs[above.start].cells.end + width < left {
                    above.start += 1;
                }
                for other in above.clone() {
                    if self.runs[other].cells.start + width > right {
                        break;
                    }
                    self.join(other, at);
                }
            }
            above = row_begins..self.runs.len();
        }
    }

    /// The first run of a run's region.
    fn first_of(&mut self, mut at: usize) -> usize {
        while self.runs[at].parent != at {
            let up = self.runs[at].parent;
            self.runs[at].parent = self.runs[up].parent;
            at = up;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first_of(one), self.first_of(other));
        let (first, second) = (one.min(other), one.max(other));
        self.runs[second].parent = first;
    }
}

/// Fills small holes and removes small specks, as `fill_holes_in_mask_scores` of SAM 2 does
/// (8-connected, 0.1 on the other side of zero).
#[derive(Clone, Debug, Default)]
pub struct CleanUp {
    regions: Regions,
}

/// Logit of a filled hole; of a removed speck with a minus.
const BARELY: f32 = 0.1;

impl CleanUp {
    /// Holes of at most `limit` cells are filled, specks of at most that removed unless they are
    /// the whole object. `size` is height and width.
    pub fn run(&mut self, logits: &mut [f32], size: [usize; 2], limit: usize) {
        if limit == 0 || logits.iter().all(|logit| *logit <= 0.0) {
            return;
        }
        self.flip(logits, size, limit, false);
        self.flip(logits, size, limit, true);
    }

    /// Flips the small regions of object or of background.
    fn flip(&mut self, logits: &mut [f32], size: [usize; 2], limit: usize, object: bool) {
        let mut largest = 0;
        let mut small: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
        self.regions.each(logits, size, object, |cells, runs| {
            largest = largest.max(cells);
            if cells <= limit {
                small.push((cells, runs.to_vec()));
            }
        });
        for (cells, runs) in small {
            if object && cells == largest {
                continue;
            }
            for run in runs {
                logits[run].fill(if object { -BARELY } else { BARELY });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, cell by cell: every region's cells, in order.
    fn flooded(logits: &[f32], [height, width]: [usize; 2], object: bool) -> Vec<Vec<usize>> {
        let mut seen = vec![false; logits.len()];
        let mut regions = Vec::new();
        for start in 0..logits.len() {
            let mut stack = vec![start];
            let mut region = Vec::new();
            while let Some(cell) = stack.pop() {
                if (logits[cell] > 0.0) != object || std::mem::replace(&mut seen[cell], true) {
                    continue;
                }
                region.push(cell);
                let (y, x) = (cell / width, cell % width);
                for ny in y.saturating_sub(1)..(y + 2).min(height) {
                    stack.extend((x.saturating_sub(1)..(x + 2).min(width)).map(|x| ny * width + x));
                }
            }
            if !region.is_empty() {
                region.sort_unstable();
                regions.push(region);
            }
        }
        regions
    }

    proptest! {
        #[test]
        fn regions_are_those_of_a_flood(
            (width, cells) in (1usize..12).prop_flat_map(|width| {
                (Just(width), prop::collection::vec(any::<bool>(), width * 9))
            }),
            object: bool,
        ) {
            let logits: Vec<f32> = cells.iter().map(|on| f32::from(u8::from(*on)) - 0.5).collect();
            let mut found = Vec::new();
            Regions::default().each(&logits, [9, width], object, |cells, runs| {
                let region: Vec<usize> = runs.iter().cloned().flatten().collect();
                assert_eq!(region.len(), cells);
                found.push(region);
            });
            prop_assert_eq!(found, flooded(&logits, [9, width], object));
        }
    }

    #[test]
    fn ratios_are_those_of_cells() {
        let a = Bitmap::new(&[1.0, 1.0, -1.0, 0.0]);
        let b = Bitmap::new(&[-1.0, 1.0, 1.0, 1.0]);
        assert_eq!((a.area(), b.area(), a.common(&b)), (2, 3, 1));
        assert_eq!(a.iou(&b), 0.25);
        assert_eq!(a.overlap(&b), 0.5);
        assert_eq!(Bitmap::default().iou(&Bitmap::default()), 0.0);
        let long = vec![1.0; 200];
        assert_eq!(Bitmap::new(&long).area(), 200);
    }

    #[test]
    fn small_holes_are_filled_and_specks_removed() {
        let picture = [
            "########..", //
            "########..",
            "###.####..",
            "########..",
            "########.#",
        ];
        let mut logits: Vec<f32> = picture
            .iter()
            .flat_map(|row| row.bytes().map(|c| if c == b'#' { 3.0 } else { -3.0 }))
            .collect();
        CleanUp::default().run(&mut logits, [5, 10], 1);
        assert_eq!(logits[2 * 10 + 3], BARELY);
        assert_eq!(logits[4 * 10 + 9], -BARELY);
        assert_eq!(logits[9], -3.0);
        assert_eq!(logits.iter().filter(|l| **l > 0.0).count(), 40);
    }

    #[test]
    fn a_tiny_object_is_not_a_speck() {
        let mut logits = vec![-1.0; 25];
        logits[12] = 1.0;
        CleanUp::default().run(&mut logits, [5, 5], 4);
        assert_eq!(logits[12], 1.0);
    }
}
