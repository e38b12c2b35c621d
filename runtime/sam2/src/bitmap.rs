//! Masks at the decoder's resolution as bits: quick to compare; and their clean-up.

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

/// Finds what hangs together on a grid of cells (8-connected).
#[derive(Clone, Debug, Default)]
pub struct Regions {
    seen: Vec<bool>,
    stack: Vec<usize>,
    region: Vec<usize>,
}

impl Regions {
    /// Visits the regions of object (logits above zero) or of background on a grid of this height and
    /// width, each by its cells.
    pub fn each(
        &mut self,
        logits: &[f32],
        [height, width]: [usize; 2],
        object: bool,
        mut visit: impl FnMut(&[usize]),
    ) {
        self.seen.clear();
        self.seen.resize(logits.len(), false);
        for start in 0..logits.len() {
            if self.seen[start] || (logits[start] > 0.0) != object {
                continue;
            }
            self.region.clear();
            self.stack.push(start);
            self.seen[start] = true;
            while let Some(cell) = self.stack.pop() {
                self.region.push(cell);
                let (y, x) = (cell / width, cell % width);
                for ny in y.saturating_sub(1)..(y + 2).min(height) {
                    for nx in x.saturating_sub(1)..(x + 2).min(width) {
                        let next = ny * width + nx;
                        if !self.seen[next] && (logits[next] > 0.0) == object {
                            self.seen[next] = true;
                            self.stack.push(next);
                        }
                    }
                }
            }
            visit(&self.region);
        }
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
        let mut small: Vec<Vec<usize>> = Vec::new();
        self.regions.each(logits, size, object, |region| {
            largest = largest.max(region.len());
            if region.len() <= limit {
                small.push(region.to_vec());
            }
        });
        for region in small {
            if object && region.len() == largest {
                continue;
            }
            for cell in region {
                logits[cell] = if object { -BARELY } else { BARELY };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
