//! An annotated frame: a PNG whose pixel values name objects, 0 being background.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use eyre::{OptionExt, WrapErr};
use png::{BitDepth, ColorType, Transformations};
use tracklens_schemas::Mask;

/// More values than this are no names of objects, but a photograph or a mask with soft edges.
const MAX_OBJECTS: usize = 64;

/// The objects of a frame by their value.
pub(crate) type Objects = BTreeMap<u8, Mask>;

/// What is annotated on one frame.
#[derive(Clone, Debug)]
pub(crate) struct Annotation {
    pub(crate) width: u32,
    pub(crate) height: u32,
    objects: Objects,
}

impl Annotation {
    /// Reads a greyscale or palette PNG; of a palette the indices count, not the colours.
    pub(crate) fn read(path: &Path) -> eyre::Result<Self> {
        let wrong = || format!("the annotation {}", path.display());
        let file = File::open(path).wrap_err_with(wrong)?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(Transformations::IDENTITY);
        let mut reader = decoder.read_info().wrap_err_with(wrong)?;
        let size = reader.output_buffer_size().ok_or_eyre("too large");
        let mut packed = vec![0; size.wrap_err_with(wrong)?];
        let frame = reader.next_frame(&mut packed).wrap_err_with(wrong)?;
        let bits = match (frame.color_type, frame.bit_depth) {
            (ColorType::Grayscale | ColorType::Indexed, BitDepth::One) => 1,
            (ColorType::Grayscale | ColorType::Indexed, BitDepth::Two) => 2,
            (ColorType::Grayscale | ColorType::Indexed, BitDepth::Four) => 4,
            (ColorType::Grayscale | ColorType::Indexed, BitDepth::Eight) => 8,
            (color, depth) => eyre::bail!(
                "{} should be a greyscale or palette PNG whose values name objects, is {color:?} of {depth:?} bits",
                wrong()
            ),
        };
        let values = unpack(&packed, frame.width as usize, frame.line_size, bits);
        let objects = split(&values, frame.width, frame.height);
        eyre::ensure!(
            objects.len() <= MAX_OBJECTS,
            "{} has {} different values, expected at most {MAX_OBJECTS} objects",
            wrong(),
            objects.len()
        );
        Ok(Self {
            width: frame.width,
            height: frame.height,
            objects,
        })
    }

    /// An annotation made of its objects.
    #[cfg(test)]
    pub(crate) fn of(width: u32, height: u32, objects: Objects) -> Self {
        Self {
            width,
            height,
            objects,
        }
    }

    /// The objects that are seen.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// An object's mask, empty where it is not seen.
    pub(crate) fn mask(&self, object: u8) -> Mask {
        let mask = self.objects.get(&object).cloned();
        mask.unwrap_or_else(|| Mask::empty(self.width, self.height))
    }
}

/// One value a pixel, of rows of `line` bytes with `bits` bits a pixel, first pixel in the high bits.
fn unpack(packed: &[u8], width: usize, line: usize, bits: usize) -> Vec<u8> {
    if bits == 8 {
        return packed.to_vec();
    }
    let (per_byte, most) = (8 / bits, (1_u8 << bits) - 1);
    packed
        .chunks_exact(line)
        .flat_map(|row| {
            (0..width).map(move |x| {
                let shift = 8 - bits * (x % per_byte + 1);
                (row[x / per_byte] >> shift) & most
            })
        })
        .collect()
}

fn split(values: &[u8], width: u32, height: u32) -> Objects {
    let mut seen = [false; 256];
    for &value in values {
        seen[usize::from(value)] = true;
    }
    let mut bitmap = vec![0; values.len()];
    (1..=u8::MAX)
        .filter(|&object| seen[usize::from(object)])
        .map(|object| {
            for (pixel, &value) in bitmap.iter_mut().zip(values) {
                *pixel = u8::from(value == object);
            }
            (object, Mask::from_bitmap(&bitmap, width, height))
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Writes a PNG of these values.
    pub(crate) fn write(path: &Path, width: u32, color: ColorType, depth: BitDepth, data: &[u8]) {
        let bits = data.len() as u32 * 8 / (depth as u32 * color.samples() as u32);
        let file = File::create(path).unwrap();
        let mut encoder = png::Encoder::new(file, width, bits / width);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette((0..48).collect::<Vec<u8>>());
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn values_of_any_depth_name_objects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let bytes = [0, 255, 0, 255];
        write(&path, 2, ColorType::Grayscale, BitDepth::Eight, &bytes);
        let annotation = Annotation::read(&path).unwrap();
        assert_eq!((annotation.width, annotation.height), (2, 2));
        assert_eq!(annotation.mask(255).to_bitmap(), [0, 1, 0, 1]);
        assert_eq!(annotation.mask(7), Mask::empty(2, 2));

        write(
            &path,
            8,
            ColorType::Indexed,
            BitDepth::Two,
            &[0b00_01_10_11, 0, 0, 0xff],
        );
        let annotation = Annotation::read(&path).unwrap();
        let areas: Vec<(u8, u64)> = annotation
            .objects()
            .iter()
            .map(|(&object, mask)| (object, mask.area()))
            .collect();
        assert_eq!(areas, [(1, 1), (2, 1), (3, 5)]);
    }

    #[test]
    fn what_is_no_annotation_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.png");
        let says = |part: &str| {
            let error = format!("{:#}", Annotation::read(&path).unwrap_err());
            assert!(
                error.contains("photo.png") && error.contains(part),
                "{error}"
            );
        };
        says("No such file");
        write(&path, 2, ColorType::Rgb, BitDepth::Eight, &[9; 12]);
        says("greyscale or palette");
        let ramp: Vec<u8> = (0..=255).collect();
        write(&path, 16, ColorType::Grayscale, BitDepth::Eight, &ramp);
        says("255 different values");
        std::fs::write(&path, "no png").unwrap();
        says("annotation");
    }
}
