//! From mask logits to masks of the source frame: run lengths straight from the interpolation.
//!
//! Logits are enlarged bilinearly (as PyTorch's `interpolate` without `align_corners`) and cut at
//! zero, column by column inside the object's box. Between two cells the interpolation is linear:
//! only where cells have different signs are pixels looked at, those beside the place where it is zero.
//! A pixel that several objects claim goes to the one with the highest logit, the first of equals.

use tracklens_schemas::Mask;

use crate::bitmap::{Rows, above_zero};

/// Turns logits into masks; keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct MaskPainter {
    columns: Cells,
    rows: Cells,
    bits: Rows,
    spans: Vec<Span>,
    /// Who has the cells of the current column, row by row.
    cells: Owners,
    /// The same for the pixels between two cells.
    pixels: Owners,
}

/// The highest of several layers at each place, if it is above zero.
#[derive(Clone, Debug, Default)]
struct Owners {
    highest: Vec<f32>,
    layer: Vec<u32>,
}

/// In place of a layer.
const NOBODY: u32 = u32::MAX;

impl Owners {
    fn clear(&mut self, places: usize) {
        self.highest.clear();
        self.highest.resize(places, 0.0);
        self.layer.clear();
        self.layer.resize(places, NOBODY);
    }

    /// Gives a layer the places from this one on where it is higher than those before it.
    fn offer(&mut self, first: usize, layer: u32, values: impl Iterator<Item = f32>) {
        let places = self.highest[first..]
            .iter_mut()
            .zip(&mut self.layer[first..]);
        for ((highest, owner), value) in places.zip(values) {
            let wins = value > *highest;
            *highest = if wins { value } else { *highest };
            *owner = if wins { layer } else { *owner };
        }
    }
}

/// Which two cells each pixel of an axis lies between.
#[derive(Clone, Debug, Default)]
struct Cells {
    cells: usize,
    pixels: usize,
    /// For each pixel the cell before it.
    before: Vec<usize>,
    /// For each pixel the weight of the cell after it.
    weights: Vec<f32>,
    /// First pixel whose cell before is this one; one more at the end.
    first: Vec<usize>,
    /// Pixels from one cell to the next.
    apart: f32,
}

impl Cells {
    fn set(&mut self, cells: usize, pixels: usize) {
        if (self.cells, self.pixels) == (cells, pixels) {
            return;
        }
        (self.cells, self.pixels) = (cells, pixels);
        self.apart = pixels as f32 / cells as f32;
        let scale = cells as f32 / pixels as f32;
        self.before.clear();
        self.weights.clear();
        for pixel in 0..pixels {
            let place = (scale * (pixel as f32 + 0.5) - 0.5).max(0.0);
            let cell = (place as usize).min(cells - 1);
            self.before.push(cell);
            self.weights.push(place - cell as f32);
        }
        self.first.clear();
        for cell in 0..=cells {
            self.first
                .push(self.before.partition_point(|before| *before < cell));
        }
    }

    /// The pixels that a mask within these cells can reach.
    fn reach(&self, first: usize, last: usize) -> (usize, usize) {
        let before = first.saturating_sub(1);
        (self.first[before], self.first[last + 1])
    }
}

/// Pixels of a layer in one column.
#[derive(Clone, Copy, Debug)]
struct Span {
    layer: u32,
    y0: usize,
    y1: usize,
}

/// One object while its mask is painted.
struct Layer {
    /// Rows of cells that matter, first and last.
    rows: (usize, usize),
    /// Pixel columns that matter.
    pixels: (usize, usize),
    /// The first column of cells that matters.
    left: usize,
    /// Logits of the cells that matter, column by column, so that a column's lie side by side.
    cells: Vec<f32>,
    /// The current pixel column's value at each of `rows`.
    column: Vec<f32>,
    runs: RunBuilder,
}

impl MaskPainter {
    /// Masks of `width` × `height` pixels from logits of `size` (height, width) cells each;
    /// `exclusive`: no pixel belongs to two of them.
    pub fn paint(
        &mut self,
        logits: &[&[f32]],
        size: [usize; 2],
        (width, height): (u32, u32),
        exclusive: bool,
    ) -> Vec<Mask> {
        let [cell_rows, cell_columns] = size;
        self.columns.set(cell_columns, width as usize);
        self.rows.set(cell_rows, height as usize);
        let mut layers: Vec<Layer> = logits
            .iter()
            .map(|logits| Layer::new(logits, cell_columns, &self.columns, &mut self.bits))
            .collect();
        let left = layers.iter().map(|layer| layer.pixels.0).min().unwrap_or(0);
        let right = layers.iter().map(|layer| layer.pixels.1).max().unwrap_or(0);
        for x in left..right {
            self.column(&mut layers, x, cell_columns, height as usize, exclusive);
        }
        layers
            .into_iter()
            .map(|layer| {
                let runs = layer.runs.finish(width * height);
                Mask::from_runs(runs, width, height).unwrap_or_else(|_| Mask::empty(width, height))
            })
            .collect()
    }

    fn column(
        &mut self,
        layers: &mut [Layer],
        x: usize,
        cell_columns: usize,
        height: usize,
        exclusive: bool,
    ) {
        self.spans.clear();
        let (cell, weight) = (self.columns.before[x], self.columns.weights[x]);
        let next = (cell + 1).min(cell_columns - 1);
        for (at, layer) in (0..).zip(layers.iter_mut()) {
            if layer.is_in(x) {
                layer.interpolate(cell, next, weight);
                layer.spans(at, &self.rows, &mut self.spans);
            }
        }
        if exclusive && self.contested() {
            self.settle(layers, x);
        }
        for span in &self.spans {
            let top = x * height;
            layers[span.layer as usize]
                .runs
                .add(top + span.y0, top + span.y1);
        }
    }

    fn contested(&mut self) -> bool {
        if self
            .spans
            .windows(2)
            .all(|pair| pair[0].layer == pair[1].layer)
        {
            return false;
        }
        self.spans.sort_by_key(|span| (span.y0, span.layer));
        let mut end = 0;
        self.spans.iter().any(|span| {
            let overlaps = span.y0 < end;
            end = end.max(span.y1);
            overlaps
        })
    }

    /// Gives every pixel of the column to the layer with the highest value. Who is the highest at a cell
    /// and at the next is so in between, where all are linear; elsewhere pixels are compared.
    fn settle(&mut self, layers: &[Layer], x: usize) {
        let here = || (0..).zip(layers).filter(|(_, layer)| layer.is_in(x));
        let top = here().map(|(_, layer)| layer.rows.0).min().unwrap_or(0);
        let bottom = here().map(|(_, layer)| layer.rows.1).max().unwrap_or(0);
        self.cells.clear(bottom + 1 - top);
        for (at, layer) in here() {
            let values = layer.column.iter().copied();
            self.cells.offer(layer.rows.0 - top, at, values);
        }
        self.spans.clear();
        for row in top..=bottom {
            let (y0, y1) = (self.rows.first[row], self.rows.first[row + 1]);
            let owner = self.cells.layer[row - top];
            let next = self.cells.layer.get(row + 1 - top).unwrap_or(&owner);
            if owner == *next {
                give(&mut self.spans, owner, y0, y1);
                continue;
            }
            let weights = &self.rows.weights[y0..y1];
            self.pixels.clear(y1 - y0);
            for (at, layer) in here() {
                if let Some((before, after)) = layer.between(row) {
                    let values = weights.iter().map(|w| (1.0 - w) * before + w * after);
                    self.pixels.offer(0, at, values);
                }
            }
            let mut y = y0;
            for group in self.pixels.layer.chunk_by(|a, b| a == b) {
                give(&mut self.spans, group[0], y, y + group.len());
                y += group.len();
            }
        }
    }
}

/// Adds pixels of a layer behind those before.
fn give(spans: &mut Vec<Span>, layer: u32, y0: usize, y1: usize) {
    match spans.last_mut() {
        _ if layer == NOBODY || y0 == y1 => {}
        Some(last) if last.layer == layer && last.y1 == y0 => last.y1 = y1,
        _ => spans.push(Span { layer, y0, y1 }),
    }
}

impl Layer {
    fn new(logits: &[f32], cell_columns: usize, columns: &Cells, bits: &mut Rows) -> Self {
        bits.set(logits, cell_columns);
        let cell_rows = logits.len() / cell_columns;
        let (rows, pixels) = match bits.bounds() {
            Some([(top, bottom), (left, right)]) => {
                let rows = (top.saturating_sub(1), (bottom + 1).min(cell_rows - 1));
                (rows, columns.reach(left, right))
            }
            None => ((0, 0), (0, 0)),
        };
        let (left, right) = match pixels {
            (first, end) if first < end => {
                let last = columns.before[end - 1];
                (columns.before[first], (last + 2).min(cell_columns))
            }
            _ => (0, 0),
        };
        let height = rows.1 + 1 - rows.0;
        let lines = logits[rows.0 * cell_columns..].chunks_exact(cell_columns);
        let mut cells = Vec::with_capacity((right - left) * height);
        for x in left..right {
            cells.extend(lines.clone().take(height).map(|line| line[x]));
        }
        Self {
            rows,
            pixels,
            left,
            cells,
            column: vec![f32::NEG_INFINITY; height],
            runs: RunBuilder::default(),
        }
    }

    /// Whether a column of pixels matters.
    fn is_in(&self, x: usize) -> bool {
        (self.pixels.0..self.pixels.1).contains(&x)
    }

    /// Makes the column of pixels between two columns of cells the current one.
    fn interpolate(&mut self, before: usize, after: usize, weight: f32) {
        let rows = self.column.len();
        let column = |x: usize| &self.cells[(x - self.left) * rows..][..rows];
        let cells = column(before).iter().zip(column(after));
        for (value, (before, after)) in self.column.iter_mut().zip(cells) {
            *value = (1.0 - weight) * before + weight * after;
        }
    }

    /// The object's pixels in the current column.
    fn spans(&self, layer: u32, rows: &Cells, spans: &mut Vec<Span>) {
        let (top, bottom) = self.rows;
        let begins = self.column.first().is_some_and(|value| *value > 0.0);
        let mut open = begins.then(|| rows.first[top]);
        // A cell in each 63 belongs to two words, so that no change is between two of them.
        for from in (0..self.column.len()).step_by(63) {
            let after = self.column.len().min(from + 64);
            let bits = above_zero(&self.column[from..after]);
            let pairs = after - from - 1;
            let mut changes = (bits ^ bits >> 1) & ((1 << pairs) - 1);
            while changes != 0 {
                let row = from + changes.trailing_zeros() as usize;
                changes &= changes - 1;
                let goes_on = self.column[row + 1] > 0.0;
                let y = self.crossing(rows, row, goes_on);
                match goes_on {
                    true => open = open.or(Some(y)),
                    false => close(&mut open, y, layer, spans),
                }
            }
        }
        close(&mut open, rows.first[bottom + 1], layer, spans);
    }

    /// The first pixel between a row of cells and the next on which the next one's sign holds. Values
    /// rise or fall from one to the other, rounded ones, too, so that it is the only such place.
    fn crossing(&self, rows: &Cells, row: usize, goes_on: bool) -> usize {
        let (before, after) = (self.column[row], self.column[row + 1]);
        let value = |y: usize| (1.0 - rows.weights[y]) * before + rows.weights[y] * after;
        let (y0, y1) = (
            rows.first[self.rows.0 + row],
            rows.first[self.rows.0 + row + 1],
        );
        if y0 == y1 {
            return y1;
        }
        let pixels = (before / (before - after) - rows.weights[y0]) * rows.apart;
        let mut y = (y0 + pixels.max(0.0) as usize).min(y1);
        let holds = |y: usize| (value(y) > 0.0) == goes_on;
        while y > y0 && holds(y - 1) {
            y -= 1;
        }
        while y < y1 && !holds(y) {
            y += 1;
        }
        y
    }

    /// The current column's values at a row of cells and at the next, where they matter.
    fn between(&self, row: usize) -> Option<(f32, f32)> {
        let (top, bottom) = self.rows;
        let row = row.checked_sub(top)?;
        let before = self.column.get(row)?;
        Some((*before, self.column[(row + 1).min(bottom - top)]))
    }
}

fn close(open: &mut Option<usize>, end: usize, layer: u32, spans: &mut Vec<Span>) {
    if let Some(y0) = open.take()
        && y0 < end
    {
        spans.push(Span { layer, y0, y1: end });
    }
}

/// Collects a mask's runs from pixel ranges in column-major order.
#[derive(Clone, Debug, Default)]
struct RunBuilder {
    runs: Vec<u32>,
    end: usize,
}

impl RunBuilder {
    fn add(&mut self, start: usize, end: usize) {
        match self.runs.last_mut() {
            Some(last) if start == self.end => *last += (end - start) as u32,
            _ => self
                .runs
                .extend([(start - self.end) as u32, (end - start) as u32]),
        }
        self.end = end;
    }

    fn finish(mut self, pixels: u32) -> Vec<u32> {
        let rest = pixels - self.end as u32;
        if rest > 0 || self.runs.is_empty() {
            self.runs.push(rest);
        }
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, pixel by pixel.
    fn plainly(layers: &[Vec<f32>], [ch, cw]: [usize; 2], (w, h): (u32, u32)) -> Vec<Mask> {
        let sample = |logits: &[f32], x: u32, y: u32| {
            let place = |pixel: u32, pixels: u32, cells: usize| {
                let at = (cells as f32 / pixels as f32 * (pixel as f32 + 0.5) - 0.5).max(0.0);
                let cell = (at as usize).min(cells - 1);
                (cell, (cell + 1).min(cells - 1), at - cell as f32)
            };
            let (x0, x1, u) = place(x, w, cw);
            let (y0, y1, v) = place(y, h, ch);
            let row = |y: usize| (1.0 - u) * logits[y * cw + x0] + u * logits[y * cw + x1];
            (1.0 - v) * row(y0) + v * row(y1)
        };
        let mut bitmaps = vec![vec![0_u8; (w * h) as usize]; layers.len()];
        for y in 0..h {
            for x in 0..w {
                let mut best = (0.0, None);
                for (at, logits) in layers.iter().enumerate() {
                    let value = sample(logits, x, y);
                    if value > best.0 {
                        best = (value, Some(at));
                    }
                }
                if let Some(at) = best.1 {
                    bitmaps[at][(y * w + x) as usize] = 1;
                }
            }
        }
        let masks = bitmaps.iter().map(|bitmap| Mask::from_bitmap(bitmap, w, h));
        masks.collect()
    }

    proptest! {
        #[test]
        fn runs_are_those_of_the_interpolated_pixels(
            (size, layers) in prop_oneof![Just([5, 6]), Just([130, 2]), Just([2, 70])]
                .prop_flat_map(|size: [usize; 2]| {
                    let cells = prop::collection::vec(-2.0f32..2.0, size[0] * size[1]);
                    (Just(size), prop::collection::vec(cells, 1..5))
                }),
            w in 1u32..40, h in 1u32..40,
        ) {
            let views: Vec<&[f32]> = layers.iter().map(Vec::as_slice).collect();
            for h in [h, 7 * h] {
                let painted = MaskPainter::default().paint(&views, size, (w, h), true);
                prop_assert_eq!(painted, plainly(&layers, size, (w, h)));
            }
        }
    }

    #[test]
    fn nothing_is_an_empty_mask_and_everything_a_full_one() {
        let (none, all) = (vec![-1.0; 6], vec![1.0; 6]);
        let masks = MaskPainter::default().paint(&[&none, &all], [2, 3], (9, 7), true);
        assert_eq!(masks[0], Mask::empty(9, 7));
        assert_eq!(masks[1].area(), 63);
    }
}
