//! Boxes.

use serde::{Deserialize, Serialize};

/// A box in pixels of the source frame: `x0 <= x < x1`, `y0 <= y < y1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge, inside.
    pub x0: f32,
    /// Top edge, inside.
    pub y0: f32,
    /// Right edge, outside.
    pub x1: f32,
    /// Bottom edge, outside.
    pub y1: f32,
}

impl BBox {
    /// A box from its edges.
    #[must_use]
    pub fn new(x0: f32, y0: f32, x1: f32, y1: f32) -> Self {
        Self { x0, y0, x1, y1 }
    }

    /// Width, never negative.
    #[must_use]
    pub fn width(&self) -> f32 {
        (self.x1 - self.x0).max(0.0)
    }

    /// Height, never negative.
    #[must_use]
    pub fn height(&self) -> f32 {
        (self.y1 - self.y0).max(0.0)
    }

    /// Area in square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The centre (x, y).
    #[must_use]
    pub fn center(&self) -> (f32, f32) {
        ((self.x0 + self.x1) / 2.0, (self.y0 + self.y1) / 2.0)
    }

    /// The common part; empty (zero area) where there is none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let x0 = self.x0.max(other.x0);
        let y0 = self.y0.max(other.y0);
        Self {
            x0,
            y0,
            x1: self.x1.min(other.x1).max(x0),
            y1: self.y1.min(other.y1).max(y0),
        }
    }

    /// Intersection over union, 0 to 1.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersect(other).area();
        let union = self.area() + other.area() - common;
        if union > 0.0 { common / union } else { 0.0 }
    }

    /// The box after scaling both axes.
    #[must_use]
    pub fn scale(&self, x: f32, y: f32) -> Self {
        Self::new(self.x0 * x, self.y0 * y, self.x1 * x, self.y1 * y)
    }

    /// The part inside a `width` by `height` frame.
    #[must_use]
    pub fn clamp(&self, width: u32, height: u32) -> Self {
        let (w, h) = (width as f32, height as f32);
        Self::new(
            self.x0.clamp(0.0, w),
            self.y0.clamp(0.0, h),
            self.x1.clamp(0.0, w),
            self.y1.clamp(0.0, h),
        )
    }

    /// Whether all edges are finite and in order.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let edges = self.to_array();
        edges.iter().all(|edge| edge.is_finite()) && self.x0 <= self.x1 && self.y0 <= self.y1
    }

    /// `[x0, y0, x1, y1]`.
    #[must_use]
    pub fn to_array(&self) -> [f32; 4] {
        [self.x0, self.y0, self.x1, self.y1]
    }
}

impl From<[f32; 4]> for BBox {
    fn from([x0, y0, x1, y1]: [f32; 4]) -> Self {
        Self { x0, y0, x1, y1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_half_overlapping_boxes_is_a_third() {
        let a = BBox::new(0.0, 0.0, 2.0, 2.0);
        let b = BBox::new(1.0, 0.0, 3.0, 2.0);
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&BBox::new(5.0, 5.0, 6.0, 6.0)), 0.0);
        assert_eq!(BBox::default().iou(&BBox::default()), 0.0);
    }

    #[test]
    fn clamping_keeps_a_box_inside_the_frame() {
        let clamped = BBox::new(-5.0, -5.0, 50.0, 5.0).clamp(10, 10);
        assert_eq!(clamped.to_array(), [0.0, 0.0, 10.0, 5.0]);
    }
}
