//! The point deepest inside a mask: where one click says most clearly which object is meant.
//!
//! Exact squared Euclidean distances in two passes (Felzenszwalb & Huttenlocher, Distance Transforms of
//! Sampled Functions, 2012, section 2). The picture's border counts as background, as in the clicks
//! that SAM 2 was evaluated with.

use tracklens_schemas::Mask;

/// The pixel (x, y) of the object that is farthest from the background, the first in reading order
/// among equals; `None` for an empty mask.
pub(crate) fn deepest_pixel(mask: &Mask) -> Option<(u32, u32)> {
    // A rim of background, one pixel wide.
    let (width, height) = (mask.width() as usize + 2, mask.height() as usize + 2);
    let far = ((width + height) * (width + height)) as f64;
    let mut squares = vec![0.0; width * height];
    for (x, y0, y1) in mask.spans() {
        for y in y0..y1 {
            squares[(y as usize + 1) * width + x as usize + 1] = far;
        }
    }
    let mut pass = Pass::new(width.max(height));
    for x in 0..width {
        pass.run(&mut squares, x, width, height);
    }
    for y in 0..height {
        pass.run(&mut squares, y * width, 1, width);
    }
    let mut best = (0.0, None);
    for (at, &square) in squares.iter().enumerate() {
        if square > best.0 {
            let (x, y) = (at % width - 1, at / width - 1);
            best = (square, Some((x as u32, y as u32)));
        }
    }
    best.1
}

/// The lower envelope of parabolas over one row or column, with its buffers.
struct Pass {
    values: Vec<f64>,
    /// Where the envelope's parabolas stand.
    roots: Vec<usize>,
    /// From where on each of them is the lowest.
    starts: Vec<f64>,
}

impl Pass {
    fn new(length: usize) -> Self {
        Self {
            values: Vec::with_capacity(length),
            roots: Vec::with_capacity(length),
            starts: Vec::with_capacity(length),
        }
    }

    /// Replaces the `count` numbers at `first`, `first + step`, … by the least of number + squared
    /// distance along this line.
    fn run(&mut self, numbers: &mut [f64], first: usize, step: usize, count: usize) {
        let line = numbers.iter().skip(first).step_by(step).take(count);
        self.values.clear();
        self.values.extend(line);
        self.roots.clear();
        self.starts.clear();
        for place in 0..count {
            let mut start = f64::NEG_INFINITY;
            while let (Some(&root), Some(&before)) = (self.roots.last(), self.starts.last()) {
                start = self.crossing(root, place);
                if start > before {
                    break;
                }
                self.roots.pop();
                self.starts.pop();
                start = f64::NEG_INFINITY;
            }
            self.roots.push(place);
            self.starts.push(start);
        }
        let mut piece = 0;
        for place in 0..count {
            while self
                .starts
                .get(piece + 1)
                .is_some_and(|&start| start < place as f64)
            {
                piece += 1;
            }
            let root = self.roots[piece];
            let away = place as f64 - root as f64;
            numbers[first + place * step] = self.values[root] + away * away;
        }
    }

    /// Where the parabola at `b` gets below the one at `a < b`.
    fn crossing(&self, a: usize, b: usize) -> f64 {
        let (x, z) = (a as f64, b as f64);
        ((self.values[b] + z * z) - (self.values[a] + x * x)) / (2.0 * (z - x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(width: u32, height: u32, inside: impl Fn(u32, u32) -> bool) -> Mask {
        let pixels: Vec<u8> = (0..width * height)
            .map(|at| u8::from(inside(at % width, at / width)))
            .collect();
        Mask::from_bitmap(&pixels, width, height)
    }

    /// The squared distance of a pixel to the nearest background, by looking at all of it.
    fn depth(bitmap: &[u8], width: i64, height: i64, x: i64, y: i64) -> i64 {
        let object = |x: i64, y: i64| {
            let inside = (0..width).contains(&x) && (0..height).contains(&y);
            inside && bitmap[(y * width + x) as usize] != 0
        };
        (-1..=height)
            .flat_map(|v| (-1..=width).map(move |u| (u, v)))
            .filter(|&(u, v)| !object(u, v))
            .map(|(u, v)| (u - x).pow(2) + (v - y).pow(2))
            .min()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_pixel_is_deeper(pixels in prop::collection::vec(0_u8..4, 12 * 9)) {
            let pixels: Vec<u8> = pixels.iter().map(|&pixel| u8::from(pixel > 0)).collect();
            let depths = (0..12 * 9).map(|at| depth(&pixels, 12, 9, at % 12, at / 12));
            let found = deepest_pixel(&Mask::from_bitmap(&pixels, 12, 9));
            let found = found.map_or(0, |(x, y)| depth(&pixels, 12, 9, x.into(), y.into()));
            prop_assert_eq!(Some(found), depths.max());
        }
    }

    #[test]
    fn the_middle_of_a_disk_and_of_the_wider_arm() {
        let disk = mask(40, 30, |x, y| {
            x.abs_diff(17).pow(2) + y.abs_diff(12).pow(2) < 64
        });
        assert_eq!(deepest_pixel(&disk), Some((17, 12)));
        // An L whose centre of mass lies outside of it.
        let l = mask(40, 40, |x, y| x < 9 || (y > 33 && x < 39));
        assert!(deepest_pixel(&l).is_some_and(|(x, _)| x < 9));
    }

    #[test]
    fn the_border_counts_as_background() {
        let full = mask(21, 11, |_, _| true);
        assert_eq!(deepest_pixel(&full), Some((5, 5)));
        assert_eq!(deepest_pixel(&Mask::empty(5, 5)), None);
        assert_eq!(deepest_pixel(&mask(1, 1, |_, _| true)), Some((0, 0)));
    }
}
