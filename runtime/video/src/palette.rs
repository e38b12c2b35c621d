//! A colour for every track, for ever the same.

use tracklens_schemas::TrackId;

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color {
    /// Red, 0 to 255.
    pub r: u8,
    /// Green, 0 to 255.
    pub g: u8,
    /// Blue, 0 to 255.
    pub b: u8,
}

impl Color {
    /// Black.
    pub const BLACK: Self = Self { r: 0, g: 0, b: 0 };
    /// White.
    pub const WHITE: Self = Self {
        r: 255,
        g: 255,
        b: 255,
    };

    /// Y, U, V after ITU-R BT.601, limited range.
    #[must_use]
    pub fn yuv(self) -> [u8; 3] {
        let (r, g, b) = (f32::from(self.r), f32::from(self.g), f32::from(self.b));
        [
            (16.0 + 0.257 * r + 0.504 * g + 0.098 * b).round() as u8,
            (128.0 - 0.148 * r - 0.291 * g + 0.439 * b).round() as u8,
            (128.0 + 0.439 * r - 0.368 * g - 0.071 * b).round() as u8,
        ]
    }

    /// Black or white, whichever reads better on this colour.
    #[must_use]
    pub fn contrast(self) -> Self {
        if self.yuv()[0] > 125 {
            Self::BLACK
        } else {
            Self::WHITE
        }
    }
}

/// The colour of a track: hues a golden ratio apart are as far from each other as can be, however
/// many there are.
#[must_use]
pub fn track_color(id: TrackId) -> Color {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
    let hue = (f64::from(id.0) * GOLDEN_RATIO).fract();
    // Every third is paler, every third darker: neighbours in hue still differ.
    let (saturation, value) = [(0.85, 1.0), (0.6, 1.0), (0.9, 0.8)][id.0 as usize % 3];
    from_hsv(hue, saturation, value)
}

fn from_hsv(hue: f64, saturation: f64, value: f64) -> Color {
    let channel = |offset: f64| {
        let k = (offset + hue * 6.0) % 6.0;
        let level = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
        (level * 255.0).round() as u8
    };
    Color {
        r: channel(5.0),
        g: channel(3.0),
        b: channel(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_come_out_as_named() {
        assert_eq!(from_hsv(0.0, 1.0, 1.0), Color { r: 255, g: 0, b: 0 });
        assert_eq!(from_hsv(1.0 / 3.0, 1.0, 1.0), Color { r: 0, g: 255, b: 0 });
        assert_eq!(Color::WHITE.yuv(), [235, 128, 128]);
        assert_eq!(Color::BLACK.yuv(), [16, 128, 128]);
    }

    #[test]
    fn the_first_fifty_tracks_are_distinct() {
        let colors: Vec<Color> = (0..50).map(|id| track_color(TrackId(id))).collect();
        for (i, a) in colors.iter().enumerate() {
            for b in &colors[..i] {
                let apart =
                    a.r.abs_diff(b.r)
                        .max(a.g.abs_diff(b.g))
                        .max(a.b.abs_diff(b.b));
                assert!(apart >= 6, "{a:?} {b:?}");
            }
        }
    }
}
