//! From a frame's bytes to the encoder's tensor in one pass: resize, colour, normalisation.
//!
//! A few output rows at a time: the input rows under each are summed with their weights; then the
//! columns of all of them at once, for which a column's sums lie side by side; then the colour becomes
//! RGB and is normalised. Between bytes and tensor there are only these rows. Nothing is allocated
//! once a size has been seen. The loops are compiled for the widest vectors that the processor may have
//! (AVX2 on x86-64), too, and the best are chosen when the program runs.

use pulp::{Arch, NullaryFnOnce};
use tracklens_schemas::{Image, PixelEncoding};

use crate::model_folder::Input;
use crate::resample::Axis;

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

/// Weights for one size of frame.
#[derive(Clone, Debug)]
struct Plan {
    from: (u32, u32),
    full: [Axis; 2],
    chroma: [Axis; 2],
}

/// Output rows that are made at once.
const ROWS: usize = 8;

/// Cells of a column in that many rows.
type Column = [f32; ROWS];

/// A plane, its columns, samples between neighbours, channel.
type Source<'i> = (&'i [u8], usize, usize, usize);

/// Sizes of frames whose weights are kept.
const PLANS: usize = 8;

/// Fills the encoder's tensor.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    width: usize,
    height: usize,
    gain: [f32; 3],
    offset: [f32; 3],
    colour: Factors,
    arch: Arch,
    plans: Vec<Plan>,
    /// Input rows summed for each output row, one after the other.
    sums: Vec<f32>,
    /// The same by columns.
    columns: Vec<Column>,
    /// Output rows of each channel.
    rows: [Vec<Column>; 3],
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
            arch: Arch::new(),
            plans: Vec::new(),
            sums: Vec::new(),
            columns: Vec::new(),
            rows: std::array::from_fn(|_| vec![[0.0; ROWS]; input.width]),
            tensor: vec![0.0; 3 * input.width * input.height],
        }
    }

    /// The tensor of a frame, 3×H×W.
    pub fn run(&mut self, image: &Image<'_>) -> &[f32] {
        let plan = self.plan(image.info.width, image.info.height);
        let width = image.info.width as usize;
        let cw = width.div_ceil(2);
        let planes = image.planes();
        let full = |channel| (planes[0], width, 3, channel);
        let sources = match image.info.encoding {
            PixelEncoding::Yuv420p => [
                (planes[0], width, 1, 0),
                (planes[1], cw, 1, 0),
                (planes[2], cw, 1, 0),
            ],
            PixelEncoding::Nv12 => [
                (planes[0], width, 1, 0),
                (planes[1], cw, 2, 0),
                (planes[1], cw, 2, 1),
            ],
            PixelEncoding::Rgb8 => [full(0), full(1), full(2)],
            PixelEncoding::Bgr8 => [full(2), full(1), full(0)],
        };
        let fill = Fill {
            plan,
            sources,
            yuv: image.luma().is_some(),
            preprocessor: &mut *self,
        };
        fill.preprocessor.arch.dispatch(fill);
        &self.tensor
    }

    /// Gives the tensor of the last frame away, for `instead`.
    pub fn take(&mut self, mut instead: Vec<f32>) -> Vec<f32> {
        instead.resize(self.tensor.len(), 0.0);
        std::mem::replace(&mut self.tensor, instead)
    }

    fn plan(&mut self, width: u32, height: u32) -> usize {
        let from = (width, height);
        if let Some(at) = self.plans.iter().position(|plan| plan.from == from) {
            return at;
        }
        if self.plans.len() == PLANS {
            self.plans.remove(0);
        }
        let axes = |width: u32, height: u32| {
            [
                Axis::new(height as usize, self.height),
                Axis::new(width as usize, self.width),
            ]
        };
        self.plans.push(Plan {
            from,
            full: axes(width, height),
            chroma: axes(width.div_ceil(2), height.div_ceil(2)),
        });
        self.plans.len() - 1
    }
}

/// The work on a frame, which must be inlined to get the vectors it is compiled for.
struct Fill<'p, 'i> {
    preprocessor: &'p mut Preprocessor,
    plan: usize,
    sources: [Source<'i>; 3],
    /// The sources are brightness and chroma.
    yuv: bool,
}

impl NullaryFnOnce for Fill<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let pre = self.preprocessor;
        let plan = &pre.plans[self.plan];
        for top in (0..pre.height).step_by(ROWS) {
            let mut summed = None;
            for (at, (plane, columns, step, channel)) in self.sources.into_iter().enumerate() {
                let small = step < 3 && at > 0;
                let [vertical, horizontal] = if small { &plan.chroma } else { &plan.full };
                // Interleaved channels share their sums.
                if summed != Some((plane.as_ptr(), step)) {
                    let stride = columns * step;
                    pre.sums.resize(ROWS * stride, 0.0);
                    for (row, sums) in pre.sums.chunks_exact_mut(stride).enumerate() {
                        // The last rows are made with others that nobody looks at.
                        let y = (top + row).min(pre.height - 1);
                        sum_rows(plane, stride, vertical.taps(y), sums);
                    }
                    by_columns(&pre.sums, stride, &mut pre.columns);
                    summed = Some((plane.as_ptr(), step));
                }
                let (columns, cells) = (&pre.columns[channel..], &mut pre.rows[at]);
                match step {
                    1 => sum_columns::<1>(columns, horizontal, cells),
                    2 => sum_columns::<2>(columns, horizontal, cells),
                    _ => sum_columns::<3>(columns, horizontal, cells),
                }
            }
            if self.yuv {
                let [first, second, third] = &mut pre.rows;
                pre.colour.apply(
                    first.as_flattened_mut(),
                    second.as_flattened_mut(),
                    third.as_flattened_mut(),
                );
            }
            let planes = pre.tensor.chunks_exact_mut(pre.width * pre.height);
            for (channel, (plane, cells)) in planes.zip(&pre.rows).enumerate() {
                let (gain, offset) = (pre.gain[channel], pre.offset[channel]);
                let rows = plane.chunks_exact_mut(pre.width).skip(top).take(ROWS);
                for (row, out) in rows.enumerate() {
                    for (out, column) in out.iter_mut().zip(cells) {
                        *out = column[row] * gain + offset;
                    }
                }
            }
        }
    }
}

impl Factors {
    /// Brightness and chroma rows become red, green and blue, 0 to 255.
    #[inline(always)]
    fn apply(&self, first: &mut [f32], second: &mut [f32], third: &mut [f32]) {
        for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
            let y = (*a - self.black) * self.brightness;
            let (u, v) = (*b - 128.0, *c - 128.0);
            *a = (y + self.v_in_red * v).clamp(0.0, 255.0);
            *b = (y + self.u_in_green * u + self.v_in_green * v).clamp(0.0, 255.0);
            *c = (y + self.u_in_blue * u).clamp(0.0, 255.0);
        }
    }
}

/// The weighted sum of the rows under an output row, four of them at a time.
#[inline(always)]
fn sum_rows(plane: &[u8], stride: usize, taps: (usize, &[f32]), sums: &mut [f32]) {
    let (first, weights) = taps;
    sums.fill(0.0);
    let rows = plane[first * stride..].chunks(4 * stride);
    for (rows, weights) in rows.zip(weights.chunks(4)) {
        let row = |at: usize| &rows[at * stride..(at + 1) * stride];
        match *weights {
            [a, b, c, d] => add_rows([row(0), row(1), row(2), row(3)], [a, b, c, d], sums),
            [a, b, c] => add_rows([row(0), row(1), row(2)], [a, b, c], sums),
            [a, b] => add_rows([row(0), row(1)], [a, b], sums),
            [a] => add_rows([row(0)], [a], sums),
            _ => {}
        }
    }
}

#[inline(always)]
fn add_rows<const N: usize>(rows: [&[u8]; N], weights: [f32; N], sums: &mut [f32]) {
    let rows = rows.map(|row| &row[..sums.len()]);
    for (x, sum) in sums.iter_mut().enumerate() {
        // In a variable of its own it is stored once.
        let mut all = *sum;
        for (row, weight) in rows.iter().zip(weights) {
            all += weight * f32::from(row[x]);
        }
        *sum = all;
    }
}

/// Rows of `stride` cells as columns.
#[inline(always)]
fn by_columns(rows: &[f32], stride: usize, columns: &mut Vec<Column>) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[row * stride..(row + 1) * stride]);
    columns.resize(stride, [0.0; ROWS]);
    for (x, column) in columns.iter_mut().enumerate() {
        *column = std::array::from_fn(|row| rows[row][x]);
    }
}

/// The weighted sums of the columns under each output cell; one in `STEP` columns counts.
#[inline(always)]
fn sum_columns<const STEP: usize>(columns: &[Column], axis: &Axis, cells: &mut [Column]) {
    for (x, cell) in cells.iter_mut().enumerate() {
        let (first, weights) = axis.taps(x);
        let under = columns[first * STEP..].iter().step_by(STEP);
        // In a variable of its own it stays in registers.
        let mut sums = [0.0; ROWS];
        for (column, weight) in under.zip(weights) {
            for (sum, value) in sums.iter_mut().zip(column) {
                *sum += weight * value;
            }
        }
        *cell = sums;
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
        preprocessor.run(&Image::new(info, data).unwrap()).to_vec()
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
        let tensor = preprocessor.run(&image);
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
