//! `saliency`: what stands out, by the spectral residual (Hou and Zhang, Saliency Detection: A
//! Spectral Residual Approach, CVPR 2007).
//!
//! The logarithm of an image's amplitude spectrum is smooth; what sticks out of its local average
//! belongs to what sticks out of the image. Here for brightness and both colour differences of an
//! image 64 pixels long; prompts are the peaks of the summed maps.

use tracklens_schemas::{Image, PixelEncoding};

use crate::motion::spread;
use crate::spectrum::Spectrum;
use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Found, Grid, Proposal};

/// Name of the strategy.
const NAME: &str = "saliency";
/// Longer side of the image that is looked at (section 2.4 of the paper).
const SIDE: usize = 64;
/// Samples on each axis that a pixel of it is averaged from.
const SAMPLES: usize = 6;
/// Variance in squared grey levels under which a plane shows nothing.
const LEAST_VARIANCE: f32 = 2.0;
/// A peak is this many times the mean (section 3.1 of the paper).
const PEAK: f32 = 3.0;
/// Pixels on each side in which there is no higher value.
const PEAK_RADIUS: usize = 3;
/// What the highest peak promises.
const SCORE: f32 = 0.8;
/// Least number of prompts on a look, topped up from a grid of so many points per side.
const LEAST: usize = 4;
const TOP_UP_DENSITY: usize = 4;

/// What stands out in the frames of one stream.
#[derive(Clone, Debug, Default)]
pub struct Saliency {
    looks: usize,
}

impl Saliency {
    /// On a look, what stands out in the frame.
    pub fn find(&mut self, frame: &Frame<'_>) -> Option<Found> {
        frame.look.then(|| {
            self.looks += 1;
            let size = frame.source_size();
            let small = Thumbnail::of(&frame.image);
            Found {
                candidates: peaks(&small.saliency(), small.width, small.height, size),
                reserve: spread(Grid::new(TOP_UP_DENSITY).candidates(size), self.looks),
                least: LEAST,
                ..Found::default()
            }
        })
    }
}

impl Strategy for Saliency {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        self.find(frame).map_or(Proposal::Nothing, Proposal::Found)
    }
}

/// A small image: brightness and two colour differences.
struct Thumbnail {
    width: usize,
    height: usize,
    planes: [Vec<f32>; 3],
}

impl Thumbnail {
    fn of(image: &Image<'_>) -> Self {
        let (w, h) = (image.info.width as usize, image.info.height as usize);
        let long = w.max(h);
        let side = |side: usize| (side * SIDE).div_ceil(long).clamp(1, side.max(1));
        let (width, height) = (side(w), side(h));
        let mut planes = [const { Vec::new() }; 3];
        for at in 0..width * height {
            let (column, row) = (at % width, at / width);
            let mut sums = [0_u32; 3];
            for sample in 0..SAMPLES * SAMPLES {
                let place = |cell: usize, step: usize, cells: usize, side: usize| {
                    ((cell * SAMPLES + step) * 2 + 1) * side / (2 * cells * SAMPLES)
                };
                let x = place(column, sample % SAMPLES, width, w);
                let y = place(row, sample / SAMPLES, height, h);
                for (sum, value) in sums.iter_mut().zip(colour(image, x, y)) {
                    *sum += u32::from(value);
                }
            }
            for (plane, sum) in planes.iter_mut().zip(sums) {
                plane.push(sum as f32 / (SAMPLES * SAMPLES) as f32);
            }
        }
        Self {
            width,
            height,
            planes,
        }
    }

    fn saliency(&self) -> Vec<f32> {
        let mut sum = vec![0.0; self.width * self.height];
        for plane in &self.planes {
            let count = plane.len() as f32;
            let mean = plane.iter().sum::<f32>() / count;
            let variance = plane.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
            if variance < LEAST_VARIANCE {
                continue;
            }
            let map = spectral_residual(plane, self.width, self.height);
            // Planes count by how much they show: the residual itself knows no amplitude.
            let weight = variance.sqrt() * count / map.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            for (sum, value) in sum.iter_mut().zip(map) {
                *sum += weight * value;
            }
        }
        sum
    }
}

/// Brightness and two colour differences of a pixel.
fn colour(image: &Image<'_>, x: usize, y: usize) -> [u8; 3] {
    let (w, h) = (image.info.width as usize, image.info.height as usize);
    let data = image.data;
    let half = w.div_ceil(2);
    let chroma = y / 2 * half + x / 2;
    let packed = |red: usize, blue: usize| {
        let pixel = &data[3 * (y * w + x)..3 * (y * w + x) + 3];
        let [r, g, b] = [pixel[red], pixel[1], pixel[blue]].map(f32::from);
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        let difference = |value: f32, scale: f32| (128.0 + scale * (value - luma)) as u8;
        [luma as u8, difference(b, 0.564), difference(r, 0.713)]
    };
    match image.info.encoding {
        PixelEncoding::Yuv420p => {
            let plane = half * h.div_ceil(2);
            let u = w * h + chroma;
            [data[y * w + x], data[u], data[u + plane]]
        }
        PixelEncoding::Nv12 => {
            let u = w * h + 2 * chroma;
            [data[y * w + x], data[u], data[u + 1]]
        }
        PixelEncoding::Rgb8 => packed(0, 2),
        PixelEncoding::Bgr8 => packed(2, 0),
    }
}

/// The saliency map of one plane (equations 2 to 5 of the paper).
fn spectral_residual(plane: &[f32], width: usize, height: usize) -> Vec<f32> {
    let mean = plane.iter().sum::<f32>() / plane.len() as f32;
    let level: Vec<f32> = plane.iter().map(|value| value - mean).collect();
    let mut spectrum = Spectrum::of(&level, width, height);
    let amplitude = |[re, im]: [f32; 2]| re.hypot(im).max(1e-3);
    let log: Vec<f32> = spectrum.values.iter().map(|v| amplitude(*v).ln()).collect();
    let average = box_average(&log, width, height);
    for ((value, log), average) in spectrum.values.iter_mut().zip(&log).zip(average) {
        let factor = (log - average).exp() / amplitude(*value);
        *value = value.map(|part| part * factor);
    }
    let back = spectrum.inverse().values;
    let map: Vec<f32> = back.iter().map(|[re, im]| re * re + im * im).collect();
    // Three box averages are nearly a Gaussian.
    (0..3).fold(map, |map, _| box_average(&map, width, height))
}

/// Mean over the nine pixels around each; the image goes on at its other side, as spectra do.
fn box_average(values: &[f32], width: usize, height: usize) -> Vec<f32> {
    (0..values.len())
        .map(|at| {
            let (x, y) = (at % width, at / width);
            let around = |value: usize, count: usize| {
                [(value + count - 1) % count, value, (value + 1) % count]
            };
            let rows = around(y, height).into_iter();
            rows.flat_map(|row| around(x, width).map(|column| values[row * width + column]))
                .sum::<f32>()
                / 9.0
        })
        .collect()
}

/// Local maxima that stand out, in source pixels.
fn peaks(map: &[f32], width: usize, height: usize, size: (u32, u32)) -> Vec<Candidate> {
    let mean = map.iter().sum::<f32>() / map.len().max(1) as f32;
    let highest = map.iter().copied().fold(0.0, f32::max);
    if highest <= 0.0 {
        return Vec::new();
    }
    let is_peak = |at: usize| {
        let (x, y) = (at % width, at / width);
        let around = |place: usize, count: usize| {
            place.saturating_sub(PEAK_RADIUS)..(place + PEAK_RADIUS + 1).min(count)
        };
        around(y, height).all(|row| {
            around(x, width).all(|column| {
                let other = row * width + column;
                map[other] < map[at] || (map[other] == map[at] && other >= at)
            })
        })
    };
    let place =
        |cell: usize, cells: usize, side: u32| (cell as f32 + 0.5) / cells as f32 * side as f32;
    (0..map.len())
        .filter(|&at| map[at] > PEAK * mean && is_peak(at))
        .map(|at| Candidate {
            point: [
                place(at % width, width, size.0),
                place(at / width, height, size.1),
            ],
            bbox: None,
            score: SCORE * map[at] / highest,
            strategy: NAME,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scene_sketch::Sketch;
    use proptest::prelude::*;

    fn look(sketch: Sketch) -> Vec<Candidate> {
        let mut saliency = Saliency::default();
        let found = sketch.show(0, true, true, |frame| saliency.find(frame));
        found.unwrap().candidates
    }

    #[test]
    fn the_odd_one_out_is_the_best_peak() {
        for square in [(90.0, 60.0), (420.0, 250.0)] {
            let mut found = look(Sketch {
                square: Some(square),
                ..Sketch::default()
            });
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            let [x, y] = found[0].point;
            let inside = |value: f32, low: f32| value > low - 10.0 && value < low + 50.0;
            assert!(inside(x, square.0) && inside(y, square.1), "{found:?}");
            assert!(found.len() < 20, "{}", found.len());
        }
    }

    #[test]
    fn a_blank_frame_shows_nothing() {
        let blank = look(Sketch {
            blank: true,
            ..Sketch::default()
        });
        assert_eq!(blank, []);
    }

    proptest! {
        #[test]
        fn peaks_lie_inside_any_frame_and_apart(
            width in 1usize..80, height in 1usize..60, seed in 1usize..1000,
        ) {
            let map: Vec<f32> = (0..width * height)
                .map(|at| (at * seed * 7919 % 1009) as f32)
                .map(|value| value * value * value)
                .collect();
            let found = peaks(&map, width, height, (640, 360));
            for candidate in &found {
                let [x, y] = candidate.point;
                prop_assert!((0.0..640.0).contains(&x) && (0.0..360.0).contains(&y));
                prop_assert!((0.0..=1.0).contains(&candidate.score));
            }
        }

        #[test]
        fn any_size_and_encoding_is_looked_at(
            width in 1u32..150, height in 1u32..150, which in 0usize..4,
        ) {
            let encoding = [
                PixelEncoding::Yuv420p, PixelEncoding::Nv12, PixelEncoding::Rgb8, PixelEncoding::Bgr8,
            ][which];
            let info = tracklens_schemas::ImageInfo::new(width, height, encoding);
            let data: Vec<u8> = (0..info.byte_len()).map(|at| (at * 97 % 251) as u8).collect();
            let small = Thumbnail::of(&Image::new(info, &data).unwrap());
            prop_assert!(small.saliency().iter().all(|value| value.is_finite()));
        }
    }
}
