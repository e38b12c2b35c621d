//! From mask logits to masks of the source frame: run lengths straight from the interpolation.
//!
//! Logits are enlarged bilinearly (as PyTorch's `interpolate` without `align_corners`) and cut at
//! zero, column by column inside the object's box. Between two cells the interpolation is linear:
//! only where it crosses zero are pixels looked at one by one. A pixel that several objects claim
//! goes to the one with the highest logit, the first of equals.

use tracklens_schemas::Mask;

/// Turns logits into masks; keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct MaskPainter {
    columns: Cells,
    rows: Cells,
    spans: Vec<Span>,
    /// Whose each pixel of the current column is.
    owners: Vec<usize>,
}

/// In place of a layer.
const NOBODY: usize = usize::MAX;

/// Which two cells each pixel of an axis lies between.
#[derive(Clone, Debug, Default)]
struct Cells {
    cells: usize,
    pixels: usize,
    /// Cell before, and the weight of the one after.
    between: Vec<(usize, f32)>,
    /// First pixel whose cell before is this one; one more at the end.
    first: Vec<usize>,
}

impl Cells {
    fn set(&mut self, cells: usize, pixels: usize) {
        if (self.cells, self.pixels) == (cells, pixels) {
            return;
        }
        (self.cells, self.pixels) = (cells, pixels);
        let scale = cells as f32 / pixels as f32;
        self.between.clear();
        self.between.extend((0..pixels).map(|pixel| {
            let place = (scale * (pixel as f32 + 0.5) - 0.5).max(0.0);
            let cell = (place as usize).min(cells - 1);
            (cell, place - cell as f32)
        }));
        self.first.clear();
        for cell in 0..=cells {
            self.first
                .push(self.between.partition_point(|(before, _)| *before < cell));
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
    layer: usize,
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
            .map(|logits| Layer::new(logits, cell_columns, &self.columns))
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
        let (cell, weight) = self.columns.between[x];
        let next = (cell + 1).min(cell_columns - 1);
        for (at, layer) in layers.iter_mut().enumerate() {
            if (layer.pixels.0..layer.pixels.1).contains(&x) {
                layer.interpolate(cell, next, weight);
                layer.spans(at, &self.rows, &mut self.spans);
            }
        }
        if exclusive && self.contested() {
            self.settle(layers, height);
        }
        for span in &self.spans {
            let top = x * height;
            layers[span.layer].runs.add(top + span.y0, top + span.y1);
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

    /// Gives every pixel of the column to the layer with the highest value.
    fn settle(&mut self, layers: &[Layer], height: usize) {
        self.owners.clear();
        self.owners.resize(height, NOBODY);
        self.spans.sort_by_key(|span| (span.layer, span.y0));
        for span in &self.spans {
            let wins = |y: usize, owner: usize| {
                let value = |layer: usize| layers[layer].value(&self.rows, y);
                owner == NOBODY || value(span.layer) > value(owner)
            };
            let mut y = span.y0;
            while y < span.y1 {
                let (row, _) = self.rows.between[y];
                let end = self.rows.first[row + 1].min(span.y1);
                claim(&mut self.owners[y..end], span.layer, y, wins);
                y = end;
            }
        }
        self.spans.clear();
        let mut y = 0;
        for group in self.owners.chunk_by(|a, b| a == b) {
            if group[0] != NOBODY {
                self.spans.push(Span {
                    layer: group[0],
                    y0: y,
                    y1: y + group.len(),
                });
            }
            y += group.len();
        }
    }
}

impl Layer {
    fn new(logits: &[f32], cell_columns: usize, columns: &Cells) -> Self {
        let mut rows: Option<(usize, usize)> = None;
        let mut across: Option<(usize, usize)> = None;
        let lines = logits.chunks_exact(cell_columns);
        let cell_rows = lines.len();
        for (y, line) in lines.enumerate() {
            let Some(first) = line.iter().position(|logit| *logit > 0.0) else {
                continue;
            };
            let last = line.iter().rposition(|logit| *logit > 0.0).unwrap_or(first);
            rows = Some((rows.map_or(y, |(top, _)| top), y));
            let (left, right) = across.unwrap_or((first, last));
            across = Some((left.min(first), right.max(last)));
        }
        let (rows, pixels) = match (rows, across) {
            (Some((top, bottom)), Some((left, right))) => {
                let rows = (top.saturating_sub(1), (bottom + 1).min(cell_rows - 1));
                (rows, columns.reach(left, right))
            }
            _ => ((0, 0), (0, 0)),
        };
        let (left, right) = match pixels {
            (first, end) if first < end => {
                let (last, _) = columns.between[end - 1];
                (columns.between[first].0, (last + 2).min(cell_columns))
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

    /// Makes the column of pixels between two columns of cells the current one.
    fn interpolate(&mut self, before: usize, after: usize, weight: f32) {
        let rows = self.column.len();
        let column = |x: usize| &self.cells[(x - self.left) * rows..][..rows];
        let cells = column(before).iter().zip(column(after));
        for (value, (before, after)) in self.column.iter_mut().zip(cells) {
            *value = (1.0 - weight) * before + weight * after;
        }
    }

    /// The object's pixels in the current column: looked at one by one only between two cells of which
    /// one is the object's.
    fn spans(&self, layer: usize, rows: &Cells, spans: &mut Vec<Span>) {
        let (top, bottom) = self.rows;
        let begins = self.column.first().is_some_and(|value| *value > 0.0);
        let mut open = begins.then(|| rows.first[top]);
        for (row, pair) in (top..).zip(self.column.windows(2)) {
            let goes_on = pair[1] > 0.0;
            if (pair[0] > 0.0) == goes_on {
                continue;
            }
            let (y0, y1) = (rows.first[row], rows.first[row + 1]);
            for y in y0..y1 {
                match self.value(rows, y) > 0.0 {
                    true => open = open.or(Some(y)),
                    false => close(&mut open, y, layer, spans),
                }
            }
            match goes_on {
                true => open = open.or(Some(y1)),
                false => close(&mut open, y1, layer, spans),
            }
        }
        close(&mut open, rows.first[bottom + 1], layer, spans);
    }

    /// The value at a pixel of the current column.
    fn value(&self, rows: &Cells, y: usize) -> f32 {
        let (row, weight) = rows.between[y];
        let (top, bottom) = self.rows;
        let next = (row + 1).min(bottom);
        (1.0 - weight) * self.column[row - top] + weight * self.column[next - top]
    }
}

/// Gives the pixels from `top` on to a layer where it wins against their owners. They lie between the same
/// two cells, where values are linear: who is higher at both ends is so in between.
fn claim(owners: &mut [usize], layer: usize, top: usize, wins: impl Fn(usize, usize) -> bool) {
    if let [owner, others @ ..] = &*owners
        && others.iter().all(|other| other == owner)
    {
        let wins_first = wins(top, *owner);
        if wins_first == wins(top + others.len(), *owner) {
            if wins_first {
                owners.fill(layer);
            }
            return;
        }
    }
    for (y, owner) in (top..).zip(owners) {
        if wins(y, *owner) {
            *owner = layer;
        }
    }
}

fn close(open: &mut Option<usize>, end: usize, layer: usize, spans: &mut Vec<Span>) {
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
            layers in prop::collection::vec(prop::collection::vec(-2.0f32..2.0, 30), 1..4),
            w in 1u32..40, h in 1u32..40,
        ) {
            let views: Vec<&[f32]> = layers.iter().map(Vec::as_slice).collect();
            let painted = MaskPainter::default().paint(&views, [5, 6], (w, h), true);
            prop_assert_eq!(painted, plainly(&layers, [5, 6], (w, h)));
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
