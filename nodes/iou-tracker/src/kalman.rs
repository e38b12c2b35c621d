//! Constant-velocity Kalman filter of a box: centre, height and aspect ratio.
//!
//! The state is that of SORT (Bewley et al., Simple online and realtime tracking, 2016) with the
//! height in the place of the area, and noise in proportion to the height as in DeepSORT (Wojke et
//! al., 2017). All its noise matrices are diagonal, so the filter falls apart into independent
//! filters of one coordinate each: two-by-two matrices instead of eight-by-eight.

use tracklens_schemas::BBox;

/// Standard deviations, in heights: of a measured or moved position, and of the velocity's change
/// per frame.
const POSITION_NOISE: f32 = 1.0 / 20.0;
const VELOCITY_NOISE: f32 = 1.0 / 80.0;
/// Standard deviations of the aspect ratio: measured, and changing per frame.
const ASPECT_MEASURED: f32 = 0.1;
const ASPECT_CHANGE: f32 = 0.02;
/// What is left of the velocity after each frame in which the object was not seen.
const COASTING: f32 = 0.9;

/// One coordinate: value and velocity per frame, with their covariance.
#[derive(Clone, Copy, Debug)]
struct Coordinate {
    value: f32,
    velocity: f32,
    /// Variance of the value, covariance, variance of the velocity.
    covariance: [f32; 3],
}

impl Coordinate {
    fn new(value: f32, position_noise: f32, velocity_noise: f32) -> Self {
        let (position, velocity) = (2.0 * position_noise, 10.0 * velocity_noise);
        Self {
            value,
            velocity: 0.0,
            covariance: [position * position, 0.0, velocity * velocity],
        }
    }

    fn predict(&mut self, position_noise: f32, velocity_noise: f32) {
        self.value += self.velocity;
        let [value, cross, velocity] = self.covariance;
        self.covariance = [
            value + 2.0 * cross + velocity + position_noise * position_noise,
            cross + velocity,
            velocity + velocity_noise * velocity_noise,
        ];
    }

    fn update(&mut self, measured: f32, noise: f32) {
        let [value, cross, velocity] = self.covariance;
        let innovation = value + noise * noise;
        let gain = (value / innovation, cross / innovation);
        let surprise = measured - self.value;
        self.value += gain.0 * surprise;
        self.velocity += gain.1 * surprise;
        self.covariance = [
            (1.0 - gain.0) * value,
            (1.0 - gain.0) * cross,
            velocity - gain.1 * cross,
        ];
    }
}

/// The filter of one object; boxes in pixels of the source frame.
#[derive(Clone, Debug)]
pub struct BoxFilter {
    x: Coordinate,
    y: Coordinate,
    height: Coordinate,
    aspect: Coordinate,
}

impl BoxFilter {
    /// Starts at rest with a first box.
    #[must_use]
    pub fn new(bbox: &BBox) -> Self {
        let (x, y) = bbox.center();
        let height = bbox.height().max(1.0);
        let (position, velocity) = (POSITION_NOISE * height, VELOCITY_NOISE * height);
        Self {
            x: Coordinate::new(x, position, velocity),
            y: Coordinate::new(y, position, velocity),
            height: Coordinate::new(height, position, velocity),
            aspect: Coordinate::new(bbox.width().max(1.0) / height, ASPECT_MEASURED, 0.0),
        }
    }

    /// Moves on by one frame.
    pub fn predict(&mut self) {
        let height = self.height.value.max(1.0);
        let (position, velocity) = (POSITION_NOISE * height, VELOCITY_NOISE * height);
        self.x.predict(position, velocity);
        self.y.predict(position, velocity);
        self.height.predict(position, velocity);
        self.aspect.predict(ASPECT_CHANGE, 0.0);
        self.height.value = self.height.value.max(1.0);
    }

    /// The object was not seen: it slows down instead of running off.
    pub fn coast(&mut self) {
        self.x.velocity *= COASTING;
        self.y.velocity *= COASTING;
        self.height.velocity = 0.0;
    }

    /// Takes in a measured box.
    pub fn update(&mut self, bbox: &BBox) {
        let (x, y) = bbox.center();
        let noise = POSITION_NOISE * self.height.value.max(1.0);
        let height = bbox.height().max(1.0);
        self.x.update(x, noise);
        self.y.update(y, noise);
        self.height.update(height, noise);
        self.aspect
            .update(bbox.width().max(1.0) / height, ASPECT_MEASURED);
    }

    /// Where the object is thought to be.
    #[must_use]
    pub fn bbox(&self) -> BBox {
        let height = self.height.value.max(1.0);
        let width = (self.aspect.value * height).max(1.0);
        BBox {
            x0: self.x.value - width / 2.0,
            y0: self.y.value - height / 2.0,
            x1: self.x.value + width / 2.0,
            y1: self.y.value + height / 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: f32) -> BBox {
        let x = 100.0 + 6.0 * step;
        BBox {
            x0: x,
            y0: 50.0,
            x1: x + 30.0,
            y1: 140.0,
        }
    }

    #[test]
    fn learns_the_velocity_and_predicts_ahead() {
        let mut filter = BoxFilter::new(&at(0.0));
        for step in 1..30 {
            filter.predict();
            filter.update(&at(step as f32));
        }
        filter.predict();
        let expected = at(30.0);
        assert!(filter.bbox().iou(&expected) > 0.95, "{:?}", filter.bbox());
    }

    #[test]
    fn an_unseen_object_comes_to_rest() {
        let mut filter = BoxFilter::new(&at(0.0));
        for step in 1..30 {
            filter.predict();
            filter.update(&at(step as f32));
        }
        let start = filter.bbox().x0;
        for _ in 0..200 {
            filter.predict();
            filter.coast();
        }
        assert!(filter.bbox().x0 - start < 6.0 / (1.0 - COASTING) + 6.0);
        assert!(filter.bbox().is_valid());
    }
}
