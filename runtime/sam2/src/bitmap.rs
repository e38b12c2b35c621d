//! Masks at the decoder's resolution as bits: quick to compare; and their clean-up.

use std::ops::Range;

/// Which of up to 64 cells are above zero: the first one's bit is the lowest.
pub(crate) fn above_zero(cells: &[f32]) -> u64 {
    // Compared side by side, then eight bytes are moved together by one multiplication.
    const TOGETHER: u64 = 0x0102_0408_1020_4080;
    let mut bytes = [0_u8; 64];
    for (byte, cell) in bytes.iter_mut().zip(cells) {
        *byte = u8::from(*cell > 0.0);
    }
    let eights = bytes.as_chunks::<8>().0.iter().rev();
    eights.fold(0, |word, eight| {
        word << 8 | u64::from_le_bytes(*eight).wrapping_mul(TOGETHER) >> 56
    })
}

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
        let words: Vec<u64> = logits.chunks(64).map(above_zero).collect();
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

/// Cells of a mask, one bit each; a row begins with a new word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    words: Vec<u64>,
    width: usize,
}

impl Rows {
    /// The cells above zero of rows of this width.
    pub(crate) fn set(&mut self, logits: &[f32], width: usize) {
        self.width = width.max(1);
        self.words.clear();
        for row in logits.chunks_exact(self.width) {
            self.words.extend(row.chunks(64).map(above_zero));
        }
    }

    fn rows(&self) -> impl DoubleEndedIterator<Item = &[u64]> + ExactSizeIterator {
        self.words.chunks_exact(self.words_per_row().max(1))
    }

    fn words_per_row(&self) -> usize {
        self.width.div_ceil(64)
    }

    /// Rows and columns of the object, the first and the last one of each.
    pub(crate) fn bounds(&self) -> Option<[(usize, usize); 2]> {
        let used = |row: &[u64]| row.iter().any(|word| *word != 0);
        let top = self.rows().position(used)?;
        let bottom = self.rows().rposition(used)?;
        let across = |at: usize| self.rows().fold(0, |all, row| all | row[at]);
        let used = |at: &usize| across(*at) != 0;
        let first = (0..self.words_per_row()).find(used)?;
        let last = (0..self.words_per_row()).rfind(used)?;
        let left = first * 64 + across(first).trailing_zeros() as usize;
        let right = last * 64 + across(last).ilog2() as usize;
        Some([(top, bottom), (left, right)])
    }

    /// Makes cells of a row the object's, or the background's.
    fn fill(&mut self, row: usize, cells: Range<usize>, object: bool) {
        let words = self.words_per_row();
        for cell in cells {
            let (word, bit) = (&mut self.words[row * words + cell / 64], 1 << (cell % 64));
            *word = if object { *word | bit } else { *word & !bit };
        }
    }
}

/// Visits the runs of set bits of a row, or of bits that are not.
fn each_run(row: &[u64], width: usize, set: bool, mut visit: impl FnMut(Range<usize>)) {
    let mut begin = None;
    for (at, word) in row.iter().enumerate() {
        let left = width - at * 64;
        let inside = u64::MAX >> (64 - left.min(64));
        let mut word = if set { *word } else { !*word & inside };
        // Bits of what has been visited are made to continue what is looked for next.
        loop {
            match begin {
                None if word == 0 => break,
                None => {
                    let skipped = word.trailing_zeros();
                    begin = Some(at * 64 + skipped as usize);
                    word |= (1 << skipped) - 1;
                }
                Some(_) if word == u64::MAX => break,
                Some(first) => {
                    let ones = word.trailing_ones();
                    visit(first..at * 64 + ones as usize);
                    begin = None;
                    word &= !((1 << ones) - 1);
                }
            }
        }
    }
    if let Some(first) = begin {
        visit(first..width);
    }
}

/// Finds what hangs together on a grid of cells (8-connected), row by row: runs of cells, joined with
/// those that they touch in the row above (two-pass labelling; Rosenfeld and Pfaltz 1966).
#[derive(Clone, Debug, Default)]
pub struct Regions {
    rows: Rows,
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
        visit: impl FnMut(usize, &[Range<usize>]),
    ) {
        self.rows.set(logits, width);
        self.each_known(object, visit);
    }

    /// The same for the cells that were looked at last.
    fn each_known(&mut self, object: bool, mut visit: impl FnMut(usize, &[Range<usize>])) {
        self.find_runs(object);
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

    fn find_runs(&mut self, object: bool) {
        let rows = std::mem::take(&mut self.rows);
        let width = rows.width;
        self.runs.clear();
        let mut above = 0..0;
        for (row, words) in rows.rows().enumerate() {
            let row_begins = self.runs.len();
            each_run(words, width, object, |cells| {
                let (left, right) = (row * width + cells.start, row * width + cells.end);
                let at = self.runs.len();
                self.runs.push(Run {
                    cells: left..right,
                    parent: at,
                    next: None,
                    last: at,
                });
                // Above, cells begin a row earlier; a corner is enough.
                while above.start < above.end && self.runs[above.start].cells.end + width < left {
                    above.start += 1;
                }
                for other in above.clone() {
                    if self.runs[other].cells.start + width > right {
                        break;
                    }
                    self.join(other, at);
                }
            });
            above = row_begins..self.runs.len();
        }
        self.rows = rows;
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
        if limit == 0 {
            return;
        }
        self.regions.rows.set(logits, size[1]);
        if self.regions.rows.words.iter().any(|word| *word != 0) {
            self.flip(logits, limit, false);
            self.flip(logits, limit, true);
        }
    }

    /// Flips the small regions of object or of background.
    fn flip(&mut self, logits: &mut [f32], limit: usize, object: bool) {
        let mut largest = 0;
        let mut small: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
        self.regions.each_known(object, |cells, runs| {
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
                let rows = &mut self.regions.rows;
                let (row, left) = (run.start / rows.width, run.start % rows.width);
                rows.fill(row, left..left + run.len(), !object);
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
            (width, cells) in prop_oneof![1usize..12, 60usize..70, 120usize..140].prop_flat_map(|width| {
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

    proptest! {
        #[test]
        fn bits_are_those_of_cells(
            logits in prop::collection::vec(-1.0f32..1.0, 1..400), width in 1usize..140,
        ) {
            let bit = |words: &[u64], at: usize| words[at / 64] >> (at % 64) & 1 == 1;
            let bitmap = Bitmap::new(&logits);
            let mut rows = Rows::default();
            rows.set(&logits, width);
            let mut bounds: Option<[(usize, usize); 2]> = None;
            for (at, logit) in logits.iter().enumerate() {
                prop_assert_eq!(bit(&bitmap.words, at), *logit > 0.0);
                let (y, x) = (at / width, at % width);
                let Some(row) = rows.rows().nth(y) else { continue };
                prop_assert_eq!(bit(row, x), *logit > 0.0);
                if *logit > 0.0 {
                    let [(top, _), (left, right)] = bounds.unwrap_or([(y, y), (x, x)]);
                    bounds = Some([(top, y), (left.min(x), right.max(x))]);
                }
            }
            prop_assert_eq!(rows.bounds(), bounds);
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
