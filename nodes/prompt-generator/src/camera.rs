//! The camera's own motion between two frames: an affine map, found by robust alignment of the whole
//! picture from coarse to fine (Odobez and Bouthemy, Robust multiresolution estimation of
//! parametric motion models, 1995): Gauss-Newton steps on the brightness difference, in which pixels
//! that do not fit, because something moves there, count little.

/// Levels have at least this many pixels on their shorter side.
const COARSEST_SIDE: usize = 14;
/// Levels of fewer pixels than this only yield a translation.
const AFFINE_PIXELS: usize = 1500;
/// The finest level that is aligned has at most this many pixels on its longer side: a fifth of a
/// pixel there is precise enough, and the cost is a quarter.
const FINEST_SIDE: usize = 256;
/// Gauss-Newton steps at each level.
const STEPS: usize = 6;
/// Least scale in grey levels of what counts as fitting.
const LEAST_SCALE: f32 = 3.0;
/// Grey levels by which an aligned pixel may differ.
const FITS: f32 = 12.0;
/// Share of pixels that must fit for the alignment to be believed.
const LEAST_FIT: f32 = 0.6;
/// Parameters: two for translation, four for the linear part, one for brightness.
const PARAMETERS: usize = 7;

/// A picture of brightness 0..=255 and its halved copies.
#[derive(Clone, Debug)]
pub struct Pyramid {
    levels: Vec<Level>,
}

/// One size of a picture, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<f32>,
}

impl Pyramid {
    /// Halves a picture until it is small.
    #[must_use]
    pub fn new(pixels: &[f32], width: usize, height: usize) -> Self {
        let mut levels = vec![Level {
            width,
            height,
            pixels: pixels.to_vec(),
        }];
        while let Some(last) = levels.last()
            && last.width.min(last.height) >= 2 * COARSEST_SIDE
        {
            let half = last.halved();
            levels.push(half);
        }
        Self { levels }
    }

    pub(crate) fn finest(&self) -> &Level {
        &self.levels[0]
    }
}

impl Level {
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            let above = &self.pixels[2 * y * self.width..];
            let below = &self.pixels[(2 * y + 1) * self.width..];
            pixels.extend((0..width).map(|x| {
                (above[2 * x] + above[2 * x + 1] + below[2 * x] + below[2 * x + 1]) / 4.0
            }));
        }
        Self {
            width,
            height,
            pixels,
        }
    }

    /// The cell around a place and the place in it; `None` outside the picture.
    fn cell(&self, x: f32, y: f32) -> Option<(usize, f32, f32)> {
        let inside =
            x >= 0.0 && y >= 0.0 && x < (self.width - 1) as f32 && y < (self.height - 1) as f32;
        inside.then(|| {
            let (left, top) = (x as usize, y as usize);
            (top * self.width + left, x - left as f32, y - top as f32)
        })
    }

    /// Value between pixels; `None` outside the picture.
    pub(crate) fn sample(&self, x: f32, y: f32) -> Option<f32> {
        self.sample_with_slope(x, y).map(|(value, _, _)| value)
    }

    /// Value and slopes in x and y between pixels.
    fn sample_with_slope(&self, x: f32, y: f32) -> Option<(f32, f32, f32)> {
        let (at, u, v) = self.cell(x, y)?;
        let (a, b) = (self.pixels[at], self.pixels[at + 1]);
        let (c, d) = (
            self.pixels[at + self.width],
            self.pixels[at + self.width + 1],
        );
        let (above, below) = (a + u * (b - a), c + u * (d - c));
        let slope_x = (b - a) + v * ((d - c) - (b - a));
        Some((above + v * (below - above), slope_x, below - above))
    }
}

/// Where the pixels of a frame were in an earlier one, and how much brighter it was there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraMotion {
    /// Offset of x, and its change per pixel of x and of y from the centre; then the same of y.
    map: [f32; 6],
    /// Brightness of the earlier frame minus that of this one.
    pub(crate) brightness: f32,
    centre: (f32, f32),
}

impl CameraMotion {
    fn still(level: &Level) -> Self {
        Self {
            map: [0.0; 6],
            brightness: 0.0,
            centre: (level.width as f32 / 2.0, level.height as f32 / 2.0),
        }
    }

    /// The place in the earlier frame that a pixel of this frame shows.
    #[must_use]
    pub fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        let (u, v) = (x - self.centre.0, y - self.centre.1);
        let [x0, xx, xy, y0, yx, yy] = self.map;
        (x + x0 + xx * u + xy * v, y + y0 + yx * u + yy * v)
    }

    /// The same motion in a level of another size.
    fn on(&self, level: &Level) -> Self {
        let scale = level.width as f32 / 2.0 / self.centre.0;
        let mut motion = Self {
            brightness: self.brightness,
            map: self.map,
            ..Self::still(level)
        };
        motion.map[0] *= scale;
        motion.map[3] *= scale;
        motion
    }

    /// Finds the motion from an earlier picture to this one, both of one size; `None` where they do
    /// not fit together.
    #[must_use]
    pub fn between(earlier: &Pyramid, now: &Pyramid) -> Option<Self> {
        let size = |pyramid: &Pyramid| (pyramid.finest().width, pyramid.finest().height);
        if size(earlier) != size(now) {
            return None;
        }
        let coarsest = now.levels.last().zip(earlier.levels.last());
        let mut motion = coarsest.map(|(now, earlier)| search(earlier, now))?;
        let levels = now.levels.iter().zip(&earlier.levels).rev();
        for (now, earlier) in levels.filter(|(now, _)| now.width.max(now.height) <= FINEST_SIDE) {
            motion = motion.on(now);
            for _ in 0..STEPS {
                motion.step(earlier, now);
            }
        }
        let finest = now.finest();
        let motion = motion.on(finest);
        (motion.fit(earlier.finest(), finest) >= LEAST_FIT).then_some(motion)
    }

    fn residuals(&self, earlier: &Level, now: &Level, mut each: impl FnMut(Residual)) {
        for y in 0..now.height {
            for x in 0..now.width {
                let (px, py) = self.apply(x as f32, y as f32);
                if let Some((value, slope_x, slope_y)) = earlier.sample_with_slope(px, py) {
                    each(Residual {
                        difference: value - now.pixels[y * now.width + x] - self.brightness,
                        slope_x,
                        slope_y,
                        place: (x as f32 - self.centre.0, y as f32 - self.centre.1),
                    });
                }
            }
        }
    }

    /// One robust Gauss-Newton step.
    fn step(&mut self, earlier: &Level, now: &Level) {
        let mut sizes: Vec<f32> = Vec::with_capacity(now.pixels.len());
        self.residuals(earlier, now, |residual| {
            sizes.push(residual.difference.abs());
        });
        if sizes.is_empty() {
            return;
        }
        let middle = sizes.len() / 2;
        let (_, median, _) = sizes.select_nth_unstable_by(middle, f32::total_cmp);
        let scale = (2.0 * *median).max(LEAST_SCALE);
        let affine = now.pixels.len() >= AFFINE_PIXELS;
        // Places are scaled so that all parameters are of one order.
        let unit = 2.0 / now.width as f32;
        let mut normal = [[0.0_f64; PARAMETERS + 1]; PARAMETERS];
        self.residuals(earlier, now, |residual| {
            let ratio = residual.difference / scale;
            let weight = 1.0 / ((1.0 + ratio * ratio) * (1.0 + ratio * ratio));
            let (u, v) = (residual.place.0 * unit, residual.place.1 * unit);
            let (gx, gy) = (residual.slope_x, residual.slope_y);
            let row = match affine {
                true => [gx, gx * u, gx * v, gy, gy * u, gy * v, -1.0],
                false => [gx, 0.0, 0.0, gy, 0.0, 0.0, -1.0],
            };
            for (line, &factor) in normal.iter_mut().zip(&row) {
                let factor = f64::from(weight * factor);
                for (sum, &other) in line.iter_mut().zip(&row) {
                    *sum += factor * f64::from(other);
                }
                line[PARAMETERS] -= factor * f64::from(residual.difference);
            }
        });
        let change = solve(normal).map(|value| value as f32);
        let reach = now.width as f32 / 8.0;
        if change.iter().any(|value| !value.is_finite()) || change[0].hypot(change[3]) > reach {
            return;
        }
        for (at, value) in self.map.iter_mut().enumerate() {
            *value += change[at] * if at % 3 == 0 { 1.0 } else { unit };
        }
        self.brightness += change[6];
    }

    /// Share of the pixels that look alike after alignment.
    fn fit(&self, earlier: &Level, now: &Level) -> f32 {
        let (mut fitting, mut all) = (0_u32, 0_u32);
        self.residuals(earlier, now, |residual| {
            fitting += u32::from(residual.difference.abs() < FITS);
            all += 1;
        });
        match all as usize * 4 < now.pixels.len() {
            true => 0.0,
            false => fitting as f32 / all as f32,
        }
    }
}

/// How a pixel differs from where it was.
struct Residual {
    difference: f32,
    slope_x: f32,
    slope_y: f32,
    place: (f32, f32),
}

/// The best translation by whole pixels, up to a quarter of the picture.
fn search(earlier: &Level, now: &Level) -> CameraMotion {
    let mean = |level: &Level| level.pixels.iter().sum::<f32>() / level.pixels.len() as f32;
    let brightness = mean(earlier) - mean(now);
    let (reach_x, reach_y) = ((now.width / 4) as isize, (now.height / 4) as isize);
    let mut best = (f32::INFINITY, 0, 0);
    for dy in -reach_y..=reach_y {
        for dx in -reach_x..=reach_x {
            let (mut sum, mut count) = (0.0_f32, 0_u32);
            for y in 0..now.height {
                for x in 0..now.width {
                    let (px, py) = (x as isize + dx, y as isize + dy);
                    if (0..now.width as isize).contains(&px)
                        && (0..now.height as isize).contains(&py)
                    {
                        let other = earlier.pixels[py as usize * now.width + px as usize];
                        sum += (other - now.pixels[y * now.width + x] - brightness).abs();
                        count += 1;
                    }
                }
            }
            // Of equal ones the smallest translation: a blank picture does not move.
            let length = (dx * dx + dy * dy) as f32;
            let cost = sum / count.max(1) as f32 + 0.001 * length;
            if cost < best.0 {
                best = (cost, dx, dy);
            }
        }
    }
    let mut motion = CameraMotion::still(now);
    motion.map[0] = best.1 as f32;
    motion.map[3] = best.2 as f32;
    motion.brightness = brightness;
    motion
}

/// Solves the normal equations, damped a little so that what a picture does not tell (a blank one, a
/// parameter that is not asked for) stays as it is.
fn solve(mut lines: [[f64; PARAMETERS + 1]; PARAMETERS]) -> [f64; PARAMETERS] {
    for (at, line) in lines.iter_mut().enumerate() {
        line[at] = line[at] * 1.001 + 1e-3;
    }
    for pivot in 0..PARAMETERS {
        let from = lines[pivot];
        for line in lines.iter_mut().skip(pivot + 1) {
            let factor = line[pivot] / from[pivot];
            for (value, other) in line.iter_mut().zip(&from) {
                *value -= factor * other;
            }
        }
    }
    let mut solution = [0.0; PARAMETERS];
    for at in (0..PARAMETERS).rev() {
        let known: f64 = (at + 1..PARAMETERS)
            .map(|other| lines[at][other] * solution[other])
            .sum();
        solution[at] = (lines[at][PARAMETERS] - known) / lines[at][at];
    }
    solution
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SIZE: (usize, usize) = (240, 136);

    /// A landscape of smooth hills, so that it can be seen from anywhere.
    fn landscape(x: f32, y: f32) -> f32 {
        let wave = |fx: f32, fy: f32, phase: f32| (x * fx + y * fy + phase).sin();
        128.0
            + 40.0 * wave(0.05, 0.03, 0.0)
            + 30.0 * wave(-0.04, 0.11, 1.0)
            + 20.0 * wave(0.23, 0.17, 2.0)
    }

    fn view(from: impl Fn(f32, f32) -> (f32, f32)) -> Pyramid {
        let pixels: Vec<f32> = (0..SIZE.0 * SIZE.1)
            .map(|at| {
                let (x, y) = from((at % SIZE.0) as f32, (at / SIZE.0) as f32);
                landscape(x, y)
            })
            .collect();
        Pyramid::new(&pixels, SIZE.0, SIZE.1)
    }

    fn assert_maps(motion: &CameraMotion, from: impl Fn(f32, f32) -> (f32, f32)) {
        for (x, y) in [(30.0, 30.0), (200.0, 30.0), (120.0, 68.0), (40.0, 110.0)] {
            let (found, expected) = (motion.apply(x, y), from(x, y));
            let error = (found.0 - expected.0).hypot(found.1 - expected.1);
            assert!(error < 0.3, "{x},{y}: {found:?} instead of {expected:?}");
        }
    }

    #[test]
    fn finds_pans_zooms_and_turns() {
        let earlier = view(|x, y| (x, y));
        let pan = |x: f32, y: f32| (x + 17.5, y - 8.25);
        assert_maps(&CameraMotion::between(&earlier, &view(pan)).unwrap(), pan);
        let zoom = |x: f32, y: f32| (1.04 * (x - 120.0) + 122.0, 1.04 * (y - 68.0) + 67.0);
        assert_maps(&CameraMotion::between(&earlier, &view(zoom)).unwrap(), zoom);
        let (sin, cos) = 0.03_f32.sin_cos();
        let turn = |x: f32, y: f32| {
            let (u, v) = (x - 120.0, y - 68.0);
            (120.0 + cos * u - sin * v, 68.0 + sin * u + cos * v)
        };
        assert_maps(&CameraMotion::between(&earlier, &view(turn)).unwrap(), turn);
    }

    #[test]
    fn a_blank_picture_is_still() {
        let blank = Pyramid::new(&vec![90.0; SIZE.0 * SIZE.1], SIZE.0, SIZE.1);
        let motion = CameraMotion::between(&blank, &blank).unwrap();
        assert_eq!(motion.apply(50.0, 60.0), (50.0, 60.0));
    }

    #[test]
    fn pictures_that_do_not_fit_together_have_no_motion() {
        let noise: Vec<f32> = (0..SIZE.0 * SIZE.1)
            .map(|at| ((at * 7919 + at / 240 * 104_729) % 256) as f32)
            .collect();
        let noise = Pyramid::new(&noise, SIZE.0, SIZE.1);
        assert_eq!(CameraMotion::between(&view(|x, y| (x, y)), &noise), None);
    }
}
