//! Connected components of a bitmap: runs of each row, joined by union-find with the runs they
//! touch in the row above (diagonals count).

/// Object pixels `x0..x1` of row `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Row.
    pub y: usize,
    /// First column.
    pub x0: usize,
    /// One past the last column.
    pub x1: usize,
}

/// One connected component, in pixels of the bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its rows, top to bottom, each left to right.
    pub runs: Vec<Run>,
    /// Number of pixels.
    pub area: usize,
    /// First and one past the last column.
    pub columns: (usize, usize),
    /// First and one past the last row.
    pub rows: (usize, usize),
}

impl Blob {
    /// Visits the places of the outline in a row-major bitmap of this width: a pixel of the blob and
    /// a neighbour that may lie outside of it. A neighbour above or below the bitmap is past its end.
    pub fn outline(&self, width: usize, mut visit: impl FnMut(usize, usize)) {
        for run in &self.runs {
            let row = run.y * width;
            if run.x0 > 0 {
                visit(row + run.x0, row + run.x0 - 1);
            }
            if run.x1 < width {
                visit(row + run.x1 - 1, row + run.x1);
            }
            for x in run.x0..run.x1 {
                visit(row + x, (row + x).wrapping_sub(width));
                visit(row + x, row + x + width);
            }
        }
    }

    /// COCO runs (column by column, background first) of the blob in a bitmap of this height and
    /// width.
    #[must_use]
    pub fn column_runs(&self, width: usize, height: usize) -> Vec<u32> {
        let (x0, x1) = self.columns;
        let (y0, y1) = self.rows;
        let tall = y1 - y0;
        let mut crop = vec![false; (x1 - x0) * tall];
        for run in &self.runs {
            for x in run.x0..run.x1 {
                crop[(x - x0) * tall + run.y - y0] = true;
            }
        }
        let mut runs = Vec::new();
        let mut object = false;
        let mut length = x0 * height;
        for column in crop.chunks_exact(tall.max(1)) {
            // The rows above and below the crop are background.
            switch(&mut runs, &mut object, &mut length, false, y0);
            for &bit in column {
                switch(&mut runs, &mut object, &mut length, bit, 1);
            }
            switch(&mut runs, &mut object, &mut length, false, height - y1);
        }
        switch(
            &mut runs,
            &mut object,
            &mut length,
            false,
            (width - x1) * height,
        );
        if length > 0 || runs.is_empty() {
            runs.push(length as u32);
        }
        runs
    }
}

fn switch(runs: &mut Vec<u32>, object: &mut bool, length: &mut usize, bit: bool, count: usize) {
    if count == 0 {
        return;
    }
    if bit != *object {
        runs.push(*length as u32);
        *length = 0;
        *object = bit;
    }
    *length += count;
}

/// Finds components; keeps its buffers from frame to frame.
#[derive(Debug, Default)]
pub struct Components {
    runs: Vec<Run>,
    parents: Vec<usize>,
}

impl Components {
    /// The components of at least `min_area` pixels, ordered by their first pixel.
    pub fn find(&mut self, bitmap: &[u8], width: usize, min_area: usize) -> Vec<Blob> {
        self.scan(bitmap, width);
        let mut blobs: Vec<Blob> = Vec::new();
        let mut slots = vec![usize::MAX; self.runs.len()];
        for index in 0..self.runs.len() {
            let root = find_root(&mut self.parents, index);
            let run = self.runs[index];
            if slots[root] == usize::MAX {
                slots[root] = blobs.len();
                blobs.push(Blob {
                    runs: Vec::new(),
                    area: 0,
                    columns: (run.x0, run.x1),
                    rows: (run.y, run.y + 1),
                });
            }
            let blob = &mut blobs[slots[root]];
            blob.runs.push(run);
            blob.area += run.x1 - run.x0;
            blob.columns = (blob.columns.0.min(run.x0), blob.columns.1.max(run.x1));
            blob.rows.1 = run.y + 1;
        }
        blobs.retain(|blob| blob.area >= min_area);
        blobs
    }

    fn scan(&mut self, bitmap: &[u8], width: usize) {
        self.runs.clear();
        self.parents.clear();
        let mut above = 0..0;
        for (y, row) in bitmap.chunks_exact(width.max(1)).enumerate() {
            let start = self.runs.len();
            let mut x = 0;
            while let Some(begin) = row[x..].iter().position(|&bit| bit != 0) {
                let x0 = x + begin;
                let x1 = row[x0..]
                    .iter()
                    .position(|&bit| bit == 0)
                    .map_or(width, |n| x0 + n);
                self.parents.push(self.runs.len());
                self.runs.push(Run { y, x0, x1 });
                x = x1;
            }
            self.join(above, start..self.runs.len());
            above = start..self.runs.len();
        }
    }

    fn join(&mut self, above: std::ops::Range<usize>, here: std::ops::Range<usize>) {
        let mut upper = above.start;
        for lower in here {
            let run = self.runs[lower];
            while upper < above.end && self.runs[upper].x1 < run.x0 {
                upper += 1;
            }
            let mut touching = upper;
            while touching < above.end && self.runs[touching].x0 <= run.x1 {
                let a = find_root(&mut self.parents, touching);
                let b = find_root(&mut self.parents, lower);
                self.parents[a.max(b)] = a.min(b);
                touching += 1;
            }
        }
    }
}

fn find_root(parents: &mut [usize], mut node: usize) -> usize {
    while parents[node] != node {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rows: &[&str]) -> Vec<Blob> {
        let bits: Vec<u8> = rows
            .iter()
            .flat_map(|row| row.bytes())
            .map(|b| u8::from(b == b'#'))
            .collect();
        Components::default().find(&bits, rows[0].len(), 2)
    }

    #[test]
    fn joins_arms_that_meet_below_and_diagonals() {
        let blobs = find(&["#.#.", "#.#.", ".#..", "...#"]);
        assert_eq!(blobs.len(), 1);
        assert_eq!(
            (blobs[0].area, blobs[0].columns, blobs[0].rows),
            (5, (0, 3), (0, 3))
        );
    }

    #[test]
    fn keeps_neighbours_apart() {
        let blobs = find(&["##..##", "##..##", "......", "..##.."]);
        assert_eq!(
            blobs.iter().map(|blob| blob.area).collect::<Vec<_>>(),
            [4, 4, 2]
        );
    }

    #[test]
    fn column_runs_cover_the_bitmap() {
        let blobs = find(&["....", ".##.", ".#..", "...."]);
        assert_eq!(blobs[0].column_runs(4, 4), [5, 2, 2, 1, 6]);
        let corner = find(&["##", "##"]);
        assert_eq!(corner[0].column_runs(2, 2), [0, 4]);
    }
}
