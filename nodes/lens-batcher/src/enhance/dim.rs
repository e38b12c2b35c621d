//! Darkens the background, so that the object is what is recognised.

use super::Enhancer;
use crate::Picture;

/// What is left of the background's brightness, of 256.
const LEFT: u32 = 90;
/// Less of a picture than this (in thousandths) is no object to go by.
const LEAST: usize = 20;

/// Keeps the object as it is and darkens the rest; without a mask it does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Dim;

impl Enhancer for Dim {
    fn name(&self) -> &'static str {
        "dim"
    }

    fn enhance(&mut self, picture: &mut Picture) {
        let Some(mask) = &picture.mask else {
            return;
        };
        let object = mask.iter().filter(|&&pixel| pixel != 0).count();
        if object * 1000 < mask.len() * LEAST {
            return;
        }
        for (pixel, &inside) in picture.pixels.chunks_exact_mut(3).zip(mask) {
            if inside == 0 {
                pixel
                    .iter_mut()
                    .for_each(|byte| *byte = ((u32::from(*byte) * LEFT) >> 8) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_background_gets_darker() {
        let mut picture = Picture::new(2, 1, vec![200; 6]).unwrap();
        Dim.enhance(&mut picture);
        assert_eq!(picture.pixels, [200; 6]);
        picture.mask = Some(vec![1, 0]);
        Dim.enhance(&mut picture);
        assert_eq!(picture.pixels, [200, 200, 200, 70, 70, 70]);
        let mut nobody = Picture::new(2, 1, vec![200; 6]).unwrap();
        nobody.mask = Some(vec![0, 0]);
        Dim.enhance(&mut nobody);
        assert_eq!(nobody.pixels, [200; 6]);
    }
}
