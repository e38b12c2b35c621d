//! Two-dimensional discrete Fourier transforms of small images.
//!
//! Rows, then columns, each as a plain sum with a table of unit roots: for 64 x 36 numbers that is
//! a third of a million multiplications, and any size will do.

/// A complex image, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Spectrum {
    width: usize,
    height: usize,
    /// Real and imaginary parts.
    pub(crate) values: Vec<[f32; 2]>,
}

impl Spectrum {
    /// The transform of a real image.
    pub(crate) fn of(pixels: &[f32], width: usize, height: usize) -> Self {
        let spectrum = Self {
            width,
            height,
            values: pixels.iter().map(|&pixel| [pixel, 0.0]).collect(),
        };
        spectrum.transformed(-1.0)
    }

    /// Transforms back; values are larger by the number of pixels.
    pub(crate) fn inverse(self) -> Self {
        self.transformed(1.0)
    }

    fn transformed(self, sign: f32) -> Self {
        self.rows(sign).transposed().rows(sign).transposed()
    }

    fn rows(&self, sign: f32) -> Self {
        let width = self.width;
        let roots: Vec<[f32; 2]> = (0..width)
            .map(|k| {
                let angle = sign * std::f32::consts::TAU * k as f32 / width as f32;
                [angle.cos(), angle.sin()]
            })
            .collect();
        let mut values = Vec::with_capacity(self.values.len());
        for row in self.values.chunks_exact(width) {
            values.extend((0..width).map(|k| {
                let (mut re, mut im, mut turn) = (0.0, 0.0, 0);
                for [a, b] in row {
                    let [cos, sin] = roots[turn];
                    re += a * cos - b * sin;
                    im += a * sin + b * cos;
                    turn += k;
                    if turn >= width {
                        turn -= width;
                    }
                }
                [re, im]
            }));
        }
        Self { values, ..*self }
    }

    fn transposed(&self) -> Self {
        let (width, height) = (self.height, self.width);
        let values = (0..self.values.len())
            .map(|at| self.values[at % width * self.width + at / width])
            .collect();
        Self {
            width,
            height,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_the_same_picture() {
        let pixels: Vec<f32> = (0..15 * 8).map(|at| (at * 37 % 101) as f32).collect();
        let back = Spectrum::of(&pixels, 15, 8).inverse();
        for (pixel, [re, im]) in pixels.iter().zip(back.values) {
            assert!((re / 120.0 - pixel).abs() < 0.01 && im.abs() < 1.0);
        }
    }

    #[test]
    fn a_wave_is_one_line_of_the_spectrum() {
        let wave: Vec<f32> = (0..16 * 4)
            .map(|at| (std::f32::consts::TAU * 3.0 * (at % 16) as f32 / 16.0).cos())
            .collect();
        let spectrum = Spectrum::of(&wave, 16, 4);
        for (at, [re, im]) in spectrum.values.iter().enumerate() {
            let expected = if at == 3 || at == 13 { 32.0 } else { 0.0 };
            assert!((re.hypot(*im) - expected).abs() < 0.01, "{at}");
        }
    }
}
