//! Enlarges small pictures: services are made for photographs, not for stamps.

use image::imageops::{FilterType, resize};

use super::Enhancer;
use crate::Picture;

/// Longest side in pixels from which a picture is large enough.
const ENOUGH: u32 = 224;
/// Most times that a picture is enlarged.
const MOST: u32 = 4;

/// Enlarges what is small (Lanczos, 3 lobes).
#[derive(Clone, Copy, Debug)]
pub struct Upscale;

impl Enhancer for Upscale {
    fn name(&self) -> &'static str {
        "upscale"
    }

    fn enhance(&mut self, picture: &mut Picture) {
        let longest = picture.width.max(picture.height);
        if longest >= ENOUGH {
            return;
        }
        let to = ENOUGH.min(MOST * longest);
        let side = |side: u32| (side * to / longest).max(1);
        let (width, height) = (side(picture.width), side(picture.height));
        let large = resize(&picture.take_image(), width, height, FilterType::Lanczos3);
        if let Some(mask) = &mut picture.mask {
            let (old, old_height) = (picture.width, picture.height);
            let nearest = |at: u32| {
                let (x, y) = (at % width, at / width);
                mask[((y * old_height / height) * old + x * old / width) as usize]
            };
            *mask = (0..width * height).map(nearest).collect();
        }
        picture.pixels = large.into_raw();
        (picture.width, picture.height) = (width, height);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::picture::tests::scene;

    #[test]
    fn small_pictures_grow_and_large_ones_stay() {
        let size = |width, height| {
            let mut picture = scene(1, width, height);
            Upscale.enhance(&mut picture);
            (picture.width, picture.height)
        };
        assert_eq!(size(100, 50), (224, 112));
        assert_eq!(size(20, 40), (80, 160));
        assert_eq!(size(300, 50), (300, 50));
    }

    #[test]
    fn the_mask_grows_with_its_picture() {
        let mut picture = scene(1, 2, 2);
        picture.mask = Some(vec![1, 0, 0, 0]);
        Upscale.enhance(&mut picture);
        let mask = picture.mask.unwrap();
        assert_eq!(
            (mask.len(), mask.iter().filter(|&&pixel| pixel == 1).count()),
            (64, 16)
        );
    }
}
