//! Scene cuts, by the distance between the brightness histograms of two frames.
//!
//! One histogram for the whole frame would miss cuts between scenes of equal light, and react to one
//! large object; hence nine regions, of which most must have changed.

use tracklens_schemas::Image;
use tracklens_vision::luma;

/// Regions on each axis.
const REGIONS: usize = 3;
/// Bins of brightness.
const BINS: usize = 16;
/// Pixels that are looked at on each axis, about.
const SAMPLES: usize = 96;
/// Share of the median region's pixels that must have changed their brightness for a cut.
const CUT: f32 = 0.4;

type Histograms = [[f32; BINS]; REGIONS * REGIONS];

/// Compares each frame of a stream with the one before.
#[derive(Clone, Debug, Default)]
pub struct CutDetector {
    before: Option<Histograms>,
    row: Vec<u8>,
    /// Columns that are looked at, and the region of each.
    columns: Vec<(usize, usize)>,
}

impl CutDetector {
    /// How much of the frame has changed its brightness since the one before: 0 to 1; 0 for the
    /// first frame.
    pub fn distance(&mut self, image: &Image<'_>) -> f32 {
        let now = self.histograms(image);
        let Some(before) = self.before.replace(now) else {
            return 0.0;
        };
        let mut distances = [0.0_f32; REGIONS * REGIONS];
        for (distance, (a, b)) in distances.iter_mut().zip(now.iter().zip(&before)) {
            *distance = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0;
        }
        distances.sort_by(f32::total_cmp);
        distances[distances.len() / 2]
    }

    /// Whether a new scene begins with this frame.
    pub fn is_cut(&mut self, image: &Image<'_>) -> bool {
        self.distance(image) > CUT
    }

    /// The next frame is a first one.
    pub fn reset(&mut self) {
        self.before = None;
    }

    fn histograms(&mut self, image: &Image<'_>) -> Histograms {
        let (width, height) = (image.info.width as usize, image.info.height as usize);
        let (step_x, step_y) = ((width / SAMPLES).max(1), (height / SAMPLES).max(1));
        let places = (step_x / 2..width).step_by(step_x);
        self.columns.clear();
        self.columns
            .extend(places.map(|x| (x, x * REGIONS / width)));
        let mut counts = [[0_u32; 256]; REGIONS * REGIONS];
        for y in (step_y / 2..height).step_by(step_y) {
            let row = luma::brightness(image, y, &mut self.row);
            let first = y * REGIONS / height * REGIONS;
            for &(x, column) in &self.columns {
                counts[first + column][usize::from(row[x])] += 1;
            }
        }
        let mut regions = [[0.0_f32; BINS]; REGIONS * REGIONS];
        for (region, counts) in regions.iter_mut().zip(&counts) {
            for (brightness, &count) in counts.iter().enumerate() {
                // Shared between the two nearest bins: noise at the edge of a bin is no change.
                let place = (brightness as f32 * (BINS as f32 / 256.0) - 0.5).max(0.0);
                let bin = place as usize;
                let share = place - bin as f32;
                region[bin] += count as f32 * (1.0 - share);
                region[(bin + 1).min(BINS - 1)] += count as f32 * share;
            }
        }
        for region in &mut regions {
            let count: f32 = region.iter().sum();
            region.iter_mut().for_each(|bin| *bin /= count.max(1.0));
        }
        regions
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::{ImageInfo, PixelEncoding, Quality};

    const INFO: ImageInfo = ImageInfo {
        width: 160,
        height: 90,
        encoding: PixelEncoding::Rgb8,
        source_width: 160,
        source_height: 90,
        keyframe: false,
        quality: Quality::FULL,
    };

    fn picture(brightness: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..160 * 90)
            .flat_map(|at| [brightness(at % 160, at / 160); 3])
            .collect()
    }

    fn cuts(pictures: &[Vec<u8>]) -> Vec<bool> {
        let mut detector = CutDetector::default();
        pictures
            .iter()
            .map(|data| detector.is_cut(&Image::new(INFO, data).unwrap()))
            .collect()
    }

    #[test]
    fn a_new_scene_of_equal_light_is_a_cut() {
        let stripes = picture(|x, _| if x / 20 % 2 == 0 { 40 } else { 200 });
        let grey = picture(|_, _| 120);
        let scenes = [stripes.clone(), stripes, grey.clone(), grey];
        assert_eq!(cuts(&scenes), [false, false, true, false]);
    }

    #[test]
    fn pans_noise_and_large_objects_are_none() {
        let pan = |by: usize| picture(move |x, y| ((x + by) * 2 + y).min(255) as u8);
        let object = picture(|x, y| {
            if x < 70 && y > 20 {
                250
            } else {
                (x * 2 + y).min(255) as u8
            }
        });
        assert_eq!(cuts(&[pan(0), pan(6), object]), [false, false, false]);
        let noise = |seed: usize| picture(move |x, y| 127 + ((x * 31 + y * 17 + seed) % 3) as u8);
        assert_eq!(cuts(&[noise(0), noise(1), noise(2)]), [false; 3]);
    }
}
