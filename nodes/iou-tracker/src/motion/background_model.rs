//! What every pixel looks like when nothing is in front of it.
//!
//! A running mean and variance per pixel (Wren et al., Pfinder, 1997, one Gaussian), with three
//! additions: pixels that show an object learn ten times slower than those that do not, so that a
//! person who stands still is not swallowed; the brightness of the whole picture may drift and is
//! followed at once; and a picture that is foreground over more than half of its area is a cut or
//! a lamp, and starts the model anew. All loops are branchless over plain slices: the compiler
//! vectorises them.

/// Learning rate of a pixel that shows background.
const RATE: f32 = 0.02;
/// Learning rate of a pixel that shows an object.
const RATE_FOREGROUND: f32 = 0.002;
/// Variance a pixel starts with, and the least and the most it may have.
const VARIANCE_INITIAL: f32 = 40.0;
const VARIANCE_MIN: f32 = 4.0;
const VARIANCE_MAX: f32 = 400.0;
/// Squared distance from the mean, in variances, beyond which a pixel is foreground …
const DEVIATIONS_SQUARED: f32 = 9.0;
/// … and the least distance in grey levels.
const LEAST_CONTRAST: f32 = 14.0;
/// Differences are clamped to this before the drift of the whole picture is measured.
const DRIFT_CLAMP: f32 = 30.0;
/// Drift below this is noise.
const DRIFT_LEAST: f32 = 0.75;
/// More foreground than this share of the picture: not an object.
const CUT_SHARE: f32 = 0.5;

/// What [`BackgroundModel::apply`] made of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The model (re)starts with this frame: there is no foreground to speak of.
    Started,
    /// `foreground` and `contrast` describe this frame.
    Foreground,
}

/// The model of one stream at reduced resolution.
#[derive(Debug, Default)]
pub struct BackgroundModel {
    mean: Vec<f32>,
    variance: Vec<f32>,
    foreground: Vec<u8>,
    contrast: Vec<f32>,
    width: usize,
    frames: u32,
}

impl BackgroundModel {
    /// Learns from one frame of brightness 0..=255, row-major, and splits it in foreground and
    /// background. A frame of another size than the one before starts the model anew.
    pub fn apply(&mut self, luma: &[f32], width: usize) -> Verdict {
        if self.frames == 0 || luma.len() != self.mean.len() || width != self.width {
            self.width = width;
            self.start(luma);
            return Verdict::Started;
        }
        self.follow_drift(luma);
        let rate = RATE.max(1.0 / (self.frames as f32 + 1.0));
        let pixels = luma
            .iter()
            .zip(&mut self.mean)
            .zip(&mut self.variance)
            .zip(&mut self.foreground)
            .zip(&mut self.contrast);
        for ((((&luma, mean), variance), foreground), contrast) in pixels {
            let distance = luma - *mean;
            let squared = distance * distance;
            let limit = (DEVIATIONS_SQUARED * *variance).max(LEAST_CONTRAST * LEAST_CONTRAST);
            let is_foreground = squared > limit;
            let rate = if is_foreground { RATE_FOREGROUND } else { rate };
            // An object's distance says nothing about the noise of what is behind it.
            let spread = if is_foreground { *variance } else { squared };
            *mean += rate * distance;
            *variance = (*variance + rate * (spread - *variance)).clamp(VARIANCE_MIN, VARIANCE_MAX);
            *foreground = u8::from(is_foreground);
            *contrast = distance.abs();
        }
        let count: u32 = self.foreground.iter().map(|&bit| u32::from(bit)).sum();
        if count as f32 > CUT_SHARE * luma.len() as f32 {
            self.start(luma);
            return Verdict::Started;
        }
        self.frames = self.frames.saturating_add(1);
        Verdict::Foreground
    }

    /// 1 where the last frame shows an object, else 0; row-major.
    #[must_use]
    pub fn foreground(&self) -> &[u8] {
        &self.foreground
    }

    /// Distance in grey levels of the last frame from the background.
    #[must_use]
    pub fn contrast(&self) -> &[f32] {
        &self.contrast
    }

    /// The background itself, brightness 0..=255.
    #[must_use]
    pub fn background(&self) -> &[f32] {
        &self.mean
    }

    /// Takes these pixels of the last frame as background from now on.
    pub fn absorb(&mut self, luma: &[f32], pixels: std::ops::Range<usize>) {
        if let (Some(mean), Some(luma)) =
            (self.mean.get_mut(pixels.clone()), luma.get(pixels.clone()))
        {
            mean.copy_from_slice(luma);
        }
        if let Some(variance) = self.variance.get_mut(pixels) {
            variance.fill(VARIANCE_INITIAL);
        }
    }

    fn start(&mut self, luma: &[f32]) {
        self.mean.clear();
        self.mean.extend_from_slice(luma);
        self.variance.clear();
        self.variance.resize(luma.len(), VARIANCE_INITIAL);
        self.foreground.clear();
        self.foreground.resize(luma.len(), 0);
        self.contrast.clear();
        self.contrast.resize(luma.len(), 0.0);
        self.frames = 1;
    }

    /// Moves the whole background with the brightness of the picture (automatic exposure, clouds).
    fn follow_drift(&mut self, luma: &[f32]) {
        // Lanes of partial sums: a single running sum of floats would not vectorise.
        let mut sums = [0.0_f32; 16];
        let mut counts = [0.0_f32; 16];
        let chunks = luma
            .chunks_exact(16)
            .zip(self.mean.chunks_exact(16))
            .zip(self.foreground.chunks_exact(16));
        for ((luma, mean), foreground) in chunks {
            for lane in 0..16 {
                let weight = 1.0 - f32::from(foreground[lane]);
                let distance = (luma[lane] - mean[lane]).clamp(-DRIFT_CLAMP, DRIFT_CLAMP);
                sums[lane] += weight * distance;
                counts[lane] += weight;
            }
        }
        let drift = sums.iter().sum::<f32>() / counts.iter().sum::<f32>().max(1.0);
        if drift.abs() >= DRIFT_LEAST {
            for mean in &mut self.mean {
                *mean += drift;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 32;

    fn scene(object_at: Option<usize>, light: f32) -> Vec<f32> {
        let mut luma = vec![100.0 + light; WIDTH * WIDTH];
        if let Some(x) = object_at {
            for y in 8..16 {
                luma[y * WIDTH + x..y * WIDTH + x + 4].fill(30.0 + light);
            }
        }
        luma
    }

    fn count(model: &BackgroundModel) -> usize {
        model.foreground().iter().filter(|&&bit| bit == 1).count()
    }

    #[test]
    fn sees_an_object_that_enters_and_keeps_it_while_it_stands() {
        let mut model = BackgroundModel::default();
        assert_eq!(model.apply(&scene(None, 0.0), WIDTH), Verdict::Started);
        for _ in 0..10 {
            model.apply(&scene(None, 0.0), WIDTH);
        }
        for _ in 0..150 {
            model.apply(&scene(Some(10), 0.0), WIDTH);
            assert_eq!(count(&model), 32);
        }
    }

    #[test]
    fn follows_the_light_without_foreground() {
        let mut model = BackgroundModel::default();
        for step in 0..40 {
            model.apply(&scene(None, step as f32 * 2.0), WIDTH);
            assert_eq!(count(&model), 0, "step {step}");
        }
    }

    #[test]
    fn a_cut_starts_anew_instead_of_filling_the_frame() {
        let mut model = BackgroundModel::default();
        model.apply(&scene(None, 0.0), WIDTH);
        model.apply(&scene(None, 0.0), WIDTH);
        let other: Vec<f32> = (0..WIDTH * WIDTH).map(|i| (i * 37 % 255) as f32).collect();
        assert_eq!(model.apply(&other, WIDTH), Verdict::Started);
        assert_eq!(count(&model), 0);
    }

    #[test]
    fn a_new_size_starts_anew() {
        let mut model = BackgroundModel::default();
        model.apply(&scene(None, 0.0), WIDTH);
        assert_eq!(model.apply(&[50.0; 64], 8), Verdict::Started);
    }
}
