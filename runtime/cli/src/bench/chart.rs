//! A line chart as a PNG: a few points from zero on, to see whether a cost grows faster than a straight line.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use eyre::WrapErr;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

const WIDTH: usize = 720;
const HEIGHT: usize = 400;
/// Left, right, top and bottom of the plot.
const PLOT: [usize; 4] = [72, 690, 44, 352];
const TICKS: usize = 5;

type Rgb = [u8; 3];
const INK: Rgb = [40, 40, 40];
const PALE: Rgb = [224, 224, 224];
const BLUE: Rgb = [31, 99, 180];

struct Picture(Vec<u8>);

/// Draws the points, which have grown from left to right.
pub(super) fn write(path: &Path, title: &str, points: &[(f64, f64)]) -> eyre::Result<()> {
    let picture = draw(title, points);
    let failed = || format!("cannot write {}", path.display());
    let file = File::create(path).wrap_err_with(failed)?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().wrap_err_with(failed)?;
    writer.write_image_data(&picture.0).wrap_err_with(failed)
}

fn draw(title: &str, points: &[(f64, f64)]) -> Picture {
    let mut picture = Picture(vec![255; WIDTH * HEIGHT * 3]);
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max);
    let (x_most, y_most) = (round_up(most(|p| p.0)), round_up(most(|p| p.1)));
    let [left, right, top, bottom] = PLOT;
    let x_of = |x: f64| left as f64 + x / x_most * (right - left) as f64;
    let y_of = |y: f64| bottom as f64 - y / y_most * (bottom - top) as f64;
    picture.text(left, 14, title, INK);
    for tick in 0..=TICKS {
        let share = tick as f64 / TICKS as f64;
        let y = y_of(share * y_most);
        picture.line((left as f64, y), (right as f64, y), PALE);
        let label = number(share * y_most);
        picture.text(left - 8 - 8 * label.len(), y as usize - 8, &label, INK);
        let label = number(share * x_most);
        let x = x_of(share * x_most) as usize;
        picture.text(x - 4 * label.len(), bottom + 12, &label, INK);
    }
    let (left, right, top, bottom) = (left as f64, right as f64, top as f64, bottom as f64);
    picture.line((left, top), (left, bottom), INK);
    picture.line((left, bottom), (right, bottom), INK);
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        picture.line((x_of(a.0), y_of(a.1)), (x_of(b.0), y_of(b.1)), BLUE);
    }
    for (x, y) in points {
        for offset in -3..=3 {
            let at = y_of(*y) + f64::from(offset);
            picture.line((x_of(*x) - 3.0, at), (x_of(*x) + 3.0, at), BLUE);
        }
    }
    picture
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn round_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= most).unwrap_or(most)
}

fn number(value: f64) -> String {
    match value {
        value if value == value.round() => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

impl Picture {
    fn dot(&mut self, x: usize, y: usize, color: Rgb, level: u8) {
        if x < WIDTH && y < HEIGHT {
            let place = (y * WIDTH + x) * 3;
            for (pixel, color) in self.0[place..place + 3].iter_mut().zip(color) {
                let mixed = u32::from(*pixel) * (255 - u32::from(level))
                    + u32::from(color) * u32::from(level);
                *pixel = (mixed / 255) as u8;
            }
        }
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: Rgb) {
        let steps = (to.0 - from.0)
            .abs()
            .max((to.1 - from.1).abs())
            .ceil()
            .max(1.0);
        for step in 0..=steps as usize {
            let share = step as f64 / steps;
            let x = from.0 + share * (to.0 - from.0);
            let y = from.1 + share * (to.1 - from.1);
            self.dot(x.round() as usize, y.round() as usize, color, 255);
        }
    }

    fn text(&mut self, x: usize, y: usize, text: &str, color: Rgb) {
        let mut left = x;
        for character in text.chars() {
            let glyph = get_raster(character, FontWeight::Regular, RasterHeight::Size16);
            let Some(glyph) = glyph else { continue };
            for (row, line) in glyph.raster().iter().enumerate() {
                for (column, level) in line.iter().enumerate() {
                    self.dot(left + column, y + row, color, *level);
                }
            }
            left += glyph.width();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_on_round_numbers() {
        let ends: Vec<f64> = [0.3, 1.0, 7.0, 13.0, 21.0].map(round_up).into();
        assert_eq!(ends, [0.5, 1.0, 10.0, 20.0, 25.0]);
    }

    #[test]
    fn points_are_drawn_inside_the_plot() {
        let picture = draw("title", &[(1.0, 10.0), (8.0, 80.0)]);
        let blue = picture.0.chunks(3).filter(|pixel| *pixel == BLUE);
        assert!(blue.count() > 300);
    }
}
