//! From a frame's bytes to the encoder's tensor: planes are resized as they come, colour and
//! normalisation are done on what is left.
//!
//! Resizing is that of `fast_image_resize`, whose triangle filter, widened where an axis shrinks and
//! rounded to bytes, is PIL's `BILINEAR`. Nothing is allocated once a size has been seen.

use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use tracklens_schemas::{Image, PixelEncoding};

use crate::model_folder::Input;
use crate::modules::InferenceError;

/// How brightness and chroma become red, green and blue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMatrix {
    /// ITU-R BT.601, brightness 16 to 235: what small and unmarked videos are in.
    #[default]
    Bt601Limited,
    /// ITU-R BT.601, brightness 0 to 255 (JPEG).
    Bt601Full,
    /// ITU-R BT.709, brightness 16 to 235: high definition.
    Bt709Limited,
}

/// Factors of brightness and chroma (both already centred) in a colour.
#[derive(Clone, Copy, Debug)]
struct Factors {
    black: f32,
    brightness: f32,
    v_in_red: f32,
    u_in_green: f32,
    v_in_green: f32,
    u_in_blue: f32,
}

impl ColourMatrix {
    fn factors(self) -> Factors {
        let (red, blue, full) = match self {
            Self::Bt601Limited => (0.299, 0.114, false),
            Self::Bt601Full => (0.299, 0.114, true),
            Self::Bt709Limited => (0.2126, 0.0722, false),
        };
        let green = 1.0 - red - blue;
        let (black, brightness, chroma) = match full {
            true => (0.0, 1.0, 1.0),
            false => (16.0, 255.0 / 219.0, 255.0 / 224.0),
        };
        Factors {
            black,
            brightness,
            v_in_red: chroma * 2.0 * (1.0 - red),
            u_in_green: -chroma * 2.0 * (1.0 - blue) * blue / green,
            v_in_green: -chroma * 2.0 * (1.0 - red) * red / green,
            u_in_blue: chroma * 2.0 * (1.0 - blue),
        }
    }
}

/// Fills the encoder's tensor.
#[derive(Debug)]
pub struct Preprocessor {
    width: usize,
    height: usize,
    gain: [f32; 3],
    offset: [f32; 3],
    colour: Factors,
    resizer: Resizer,
    /// The frame's planes at the model's size.
    small: Vec<u8>,
    tensor: Vec<f32>,
}

impl Preprocessor {
    /// For a model's input and the colours of the videos.
    #[must_use]
    pub fn new(input: &Input, colour: ColourMatrix) -> Self {
        Self {
            width: input.width,
            height: input.height,
            gain: input.std.map(|deviation| 1.0 / (255.0 * deviation)),
            offset: std::array::from_fn(|c| -input.mean[c] / input.std[c]),
            colour: colour.factors(),
            resizer: Resizer::new(),
            small: vec![0; 3 * input.width * input.height],
            tensor: vec![0.0; 3 * input.width * input.height],
        }
    }

    /// The tensor of a frame, 3×H×W.
    ///
    /// # Errors
    /// Where the frame's planes are not as large as its description says.
    pub fn run(&mut self, image: &Image<'_>) -> Result<&[f32], InferenceError> {
        self.resize(image)?;
        let cells = self.width * self.height;
        let (first, rest) = self.small.split_at(cells);
        let [red, green, blue] = thirds(&mut self.tensor, cells);
        let out = red.iter_mut().zip(green).zip(blue);
        let (gain, offset) = (self.gain, self.offset);
        let put = |((red, green), blue): ((&mut f32, &mut f32), &mut f32), colour: [f32; 3]| {
            *red = colour[0] * gain[0] + offset[0];
            *green = colour[1] * gain[1] + offset[1];
            *blue = colour[2] * gain[2] + offset[2];
        };
        let colour = self.colour;
        match image.info.encoding {
            PixelEncoding::Yuv420p => {
                let (u, v) = rest.split_at(cells);
                for (out, ((y, u), v)) in out.zip(first.iter().zip(u).zip(v)) {
                    put(out, colour.apply(*y, *u, *v));
                }
            }
            PixelEncoding::Nv12 => {
                for (out, (y, uv)) in out.zip(first.iter().zip(rest.chunks_exact(2))) {
                    put(out, colour.apply(*y, uv[0], uv[1]));
                }
            }
            PixelEncoding::Rgb8 => {
                for (out, rgb) in out.zip(self.small.chunks_exact(3)) {
                    put(out, [rgb[0], rgb[1], rgb[2]].map(f32::from));
                }
            }
            PixelEncoding::Bgr8 => {
                for (out, bgr) in out.zip(self.small.chunks_exact(3)) {
                    put(out, [bgr[2], bgr[1], bgr[0]].map(f32::from));
                }
            }
        }
        Ok(&self.tensor)
    }

    /// Gives the tensor of the last frame away, for `instead`.
    pub fn take(&mut self, mut instead: Vec<f32>) -> Vec<f32> {
        instead.resize(self.tensor.len(), 0.0);
        std::mem::replace(&mut self.tensor, instead)
    }

    /// Brings every plane to the model's size.
    fn resize(&mut self, image: &Image<'_>) -> Result<(), InferenceError> {
        let whole = (image.info.width, image.info.height);
        let half = (whole.0.div_ceil(2), whole.1.div_ceil(2));
        let planes: &[((u32, u32), PixelType)] = match image.info.encoding {
            PixelEncoding::Yuv420p => &[
                (whole, PixelType::U8),
                (half, PixelType::U8),
                (half, PixelType::U8),
            ],
            PixelEncoding::Nv12 => &[(whole, PixelType::U8), (half, PixelType::U8x2)],
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => &[(whole, PixelType::U8x3)],
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        let (width, height) = (self.width as u32, self.height as u32);
        let mut rest = self.small.as_mut_slice();
        for (plane, ((from_width, from_height), pixel)) in image.planes().into_iter().zip(planes) {
            let (now, later) = rest.split_at_mut(self.width * self.height * pixel.size());
            rest = later;
            let from = ImageRef::new(*from_width, *from_height, plane, *pixel).map_err(unfit)?;
            let mut to = Target::from_slice_u8(width, height, now, *pixel).map_err(unfit)?;
            self.resizer
                .resize(&from, &mut to, &options)
                .map_err(unfit)?;
        }
        Ok(())
    }
}

fn unfit(error: impl std::fmt::Display) -> InferenceError {
    InferenceError {
        module: "preprocess",
        objects: 1,
        reason: error.to_string(),
    }
}

fn thirds(tensor: &mut [f32], cells: usize) -> [&mut [f32]; 3] {
    let (first, rest) = tensor.split_at_mut(cells);
    let (second, third) = rest.split_at_mut(cells);
    [first, second, third]
}

impl Factors {
    /// Brightness and chroma as red, green and blue, 0 to 255.
    #[inline]
    fn apply(&self, y: u8, u: u8, v: u8) -> [f32; 3] {
        let y = (f32::from(y) - self.black) * self.brightness;
        let (u, v) = (f32::from(u) - 128.0, f32::from(v) - 128.0);
        [
            y + self.v_in_red * v,
            y + self.u_in_green * u + self.v_in_green * v,
            y + self.u_in_blue * u,
        ]
        .map(|colour| colour.clamp(0.0, 255.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::ImageInfo;

    fn plain(width: usize, height: usize) -> Input {
        Input {
            width,
            height,
            mean: [0.0; 3],
            std: [1.0 / 255.0; 3],
        }
    }

    fn run(encoding: PixelEncoding, width: u32, data: &[u8], to: (usize, usize)) -> Vec<f32> {
        let height = match encoding {
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => data.len() as u32 / 3 / width,
            _ => data.len() as u32 * 2 / 3 / width,
        };
        let info = ImageInfo::new(width, height, encoding);
        let mut preprocessor = Preprocessor::new(&plain(to.0, to.1), ColourMatrix::default());
        let image = Image::new(info, data).unwrap();
        preprocessor.run(&image).unwrap().to_vec()
    }

    #[test]
    fn rgb_of_the_same_size_is_only_normalised_into_planes() {
        let data: Vec<u8> = (0..12).collect();
        let tensor = run(PixelEncoding::Rgb8, 2, &data, (2, 2));
        let red: Vec<f32> = vec![0.0, 3.0, 6.0, 9.0];
        for (value, expected) in tensor[..4].iter().zip(red) {
            assert!((value - expected).abs() < 1e-3, "{tensor:?}");
        }
        let swapped = run(PixelEncoding::Bgr8, 2, &data, (2, 2));
        assert_eq!(tensor[..4], swapped[8..]);
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_model() {
        let input = Input {
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            ..plain(1, 1)
        };
        let info = ImageInfo::new(1, 1, PixelEncoding::Rgb8);
        let mut preprocessor = Preprocessor::new(&input, ColourMatrix::default());
        let image = Image::new(info, &[255, 0, 128]).unwrap();
        let tensor = preprocessor.run(&image).unwrap();
        let expected = [
            (1.0 - 0.485) / 0.229,
            -0.456 / 0.224,
            (128.0 / 255.0 - 0.406) / 0.225,
        ];
        for (value, expected) in tensor.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-4, "{tensor:?}");
        }
    }

    #[test]
    fn planar_and_interleaved_chroma_agree_and_grey_is_grey() {
        let (width, height) = (6, 4);
        let luma = vec![126_u8; width * height];
        let planar = [luma.clone(), vec![128; 6], vec![128; 6]].concat();
        let interleaved = [luma, vec![128; 12]].concat();
        let a = run(PixelEncoding::Yuv420p, 6, &planar, (3, 2));
        assert_eq!(a, run(PixelEncoding::Nv12, 6, &interleaved, (3, 2)));
        let grey = (126.0 - 16.0) * 255.0 / 219.0;
        assert!(a.iter().all(|value| (value - grey).abs() < 1e-3), "{a:?}");
    }

    #[test]
    fn the_primaries_come_out_as_bt_601_has_them() {
        // Red, 255 0 0, in limited range BT.601: Y 81, U 90, V 240.
        let data = [vec![81_u8; 4], vec![90], vec![240]].concat();
        let tensor = run(PixelEncoding::Yuv420p, 2, &data, (2, 2));
        assert!(tensor[..4].iter().all(|red| (red - 254.5).abs() < 1.0));
        assert!(tensor[4..].iter().all(|other| *other < 1.5), "{tensor:?}");
    }

    #[test]
    fn shrinking_averages_instead_of_picking() {
        // A chessboard of single pixels is even grey at a quarter of the size.
        let data: Vec<u8> = (0..16 * 16)
            .flat_map(|at| [if (at / 16 + at % 16) % 2 == 0 { 255 } else { 0 }; 3])
            .collect();
        let tensor = run(PixelEncoding::Rgb8, 16, &data, (4, 4));
        assert!(tensor.iter().all(|value| (value - 127.5).abs() < 1.0));
    }
}
