//! From a frame's bytes to the encoder's tensor in one pass: resize, colour, normalisation.
//!
//! A few output rows at a time: the input rows under each are summed with their weights; then the
//! columns of all of them at once, for which a column's sums lie side by side; then the colour becomes
//! RGB and is normalised. Between bytes and tensor there are only these rows. Nothing is allocated
//! once a size has been seen. The loops are compiled for the widest vectors that the processor may have
//! (AVX2 on x86-64), too, and the best are chosen when the program runs; both give the same bits.

use pulp::{Arch, NullaryFnOnce};
use tracklens_schemas::{Image, PixelEncoding};

use crate::model_folder::Input;
use crate::resample::{Axis, EvenAxis};

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
    full: (Axis, EvenAxis),
    chroma: (Axis, EvenAxis),
}

/// Output rows that are made at once.
const ROWS: usize = 8;

/// Cells of a column in that many rows.
type Column = [f32; ROWS];

/// As many columns as there are rows, or the other way around.
type Square = [Column; ROWS];

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
        let yuv = image.luma().is_some();
        match self.arch {
            #[cfg(target_arch = "x86_64")]
            Arch::V3(simd) => pulp::Simd::vectorize(simd, self.fill(plan, sources, yuv, simd)),
            _ => self.fill(plan, sources, yuv, Plain).call(),
        }
        &self.tensor
    }

    fn fill<'p, 'i, T: Transpose>(
        &'p mut self,
        plan: usize,
        sources: [Source<'i>; 3],
        yuv: bool,
        by: T,
    ) -> Fill<'p, 'i, T> {
        Fill {
            preprocessor: self,
            plan,
            sources,
            yuv,
            by,
        }
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
            (
                Axis::new(height as usize, self.height),
                EvenAxis::new(width as usize, self.width),
            )
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
struct Fill<'p, 'i, T> {
    preprocessor: &'p mut Preprocessor,
    plan: usize,
    sources: [Source<'i>; 3],
    /// The sources are brightness and chroma.
    yuv: bool,
    by: T,
}

impl<T: Transpose> NullaryFnOnce for Fill<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (pre, by) = (self.preprocessor, self.by);
        let plan = &pre.plans[self.plan];
        for top in (0..pre.height).step_by(ROWS) {
            let mut summed = None;
            for (at, (plane, columns, step, channel)) in self.sources.into_iter().enumerate() {
                let small = step < 3 && at > 0;
                let (vertical, horizontal) = if small { &plan.chroma } else { &plan.full };
                // Interleaved channels share their sums.
                if summed != Some((plane.as_ptr(), step)) {
                    let stride = columns * step;
                    let bottom = (top + ROWS).min(pre.height);
                    let under = vertical.span(top..bottom);
                    fetch(&plane[under.start * stride..under.end * stride]);
                    pre.sums.resize(ROWS * stride, 0.0);
                    for (row, sums) in pre.sums.chunks_exact_mut(stride).enumerate() {
                        // The last rows are made with others that nobody looks at.
                        let y = (top + row).min(pre.height - 1);
                        sum_rows(plane, stride, vertical.taps(y), sums);
                    }
                    by_columns(by, &pre.sums, stride, &mut pre.columns);
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
                let rows = ROWS.min(pre.height - top);
                let out = &mut plane[top * pre.width..][..rows * pre.width];
                by_rows(by, cells, out, |value| value * gain + offset);
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

/// Bytes that come from memory at once.
const LINE: usize = 64;

/// Brings bytes near. A frame is in no cache any more when its turn comes; sums ask for little of it at a
/// time, and wait for each.
#[inline(always)]
fn fetch(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        std::hint::black_box(line[0]);
    }
}

/// Input rows that are summed at once.
const SUMMED: usize = 8;

/// The weighted sum of the rows under an output row.
#[inline(always)]
fn sum_rows(plane: &[u8], stride: usize, taps: (usize, &[f32]), sums: &mut [f32]) {
    let (first, weights) = taps;
    let rows = plane[first * stride..].chunks(SUMMED * stride);
    for (at, (rows, weights)) in rows.zip(weights.chunks(SUMMED)).enumerate() {
        let more = at > 0;
        match weights.len() {
            1 => sum_some::<1>(rows, weights, more, sums),
            2 => sum_some::<2>(rows, weights, more, sums),
            3 => sum_some::<3>(rows, weights, more, sums),
            4 => sum_some::<4>(rows, weights, more, sums),
            5 => sum_some::<5>(rows, weights, more, sums),
            6 => sum_some::<6>(rows, weights, more, sums),
            7 => sum_some::<7>(rows, weights, more, sums),
            _ => sum_some::<SUMMED>(rows, weights, more, sums),
        }
    }
}

/// The sum of `N` rows; `more`: added to what is there.
#[inline(always)]
fn sum_some<const N: usize>(rows: &[u8], weights: &[f32], more: bool, sums: &mut [f32]) {
    let rows: [&[u8]; N] = std::array::from_fn(|at| &rows[at * sums.len()..][..sums.len()]);
    let weights: [f32; N] = std::array::from_fn(|at| weights[at]);
    for (x, sum) in sums.iter_mut().enumerate() {
        // In a variable of its own it is stored once.
        let mut all = if more { *sum } else { 0.0 };
        for (row, weight) in rows.iter().zip(weights) {
            all += weight * f32::from(row[x]);
        }
        *sum = all;
    }
}

/// The weighted sums of the columns under each output cell; one in `STEP` columns counts.
#[inline(always)]
fn sum_columns<const STEP: usize>(columns: &[Column], axis: &EvenAxis, cells: &mut [Column]) {
    match axis.longest() {
        1 => sum_known::<STEP, 1>(columns, axis, cells),
        2 => sum_known::<STEP, 2>(columns, axis, cells),
        3 => sum_known::<STEP, 3>(columns, axis, cells),
        4 => sum_known::<STEP, 4>(columns, axis, cells),
        5 => sum_known::<STEP, 5>(columns, axis, cells),
        6 => sum_known::<STEP, 6>(columns, axis, cells),
        7 => sum_known::<STEP, 7>(columns, axis, cells),
        8 => sum_known::<STEP, 8>(columns, axis, cells),
        _ => {
            for (cell, (first, weights)) in cells.iter_mut().zip(axis.taps()) {
                *cell = sum_under::<STEP>(&columns[first * STEP..], weights);
            }
        }
    }
}

/// The same for a number of weights that the compiler knows: a third of the time.
#[inline(always)]
fn sum_known<const STEP: usize, const N: usize>(
    columns: &[Column],
    axis: &EvenAxis,
    cells: &mut [Column],
) {
    for (cell, (first, weights)) in cells.iter_mut().zip(axis.known_taps::<N>()) {
        let under = &columns[first * STEP..][..(N - 1) * STEP + 1];
        *cell = sum_under::<STEP>(under, weights);
    }
}

#[inline(always)]
fn sum_under<const STEP: usize>(columns: &[Column], weights: &[f32]) -> Column {
    // In a variable of its own it stays in registers.
    let mut sums = [0.0; ROWS];
    for (column, weight) in columns.iter().step_by(STEP).zip(weights) {
        for (sum, value) in sums.iter_mut().zip(column) {
            *sum += weight * value;
        }
    }
    sums
}

/// Rows of `stride` cells as columns.
#[inline(always)]
fn by_columns(by: impl Transpose, rows: &[f32], stride: usize, columns: &mut Vec<Column>) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[row * stride..][..stride]);
    columns.resize(stride, [0.0; ROWS]);
    let (squares, rest) = columns.as_chunks_mut();
    let mut x = 0;
    for square in squares {
        // `map` would not be compiled for these vectors.
        *square = by.transpose(std::array::from_fn(|row| {
            std::array::from_fn(|at| rows[row][x..][..ROWS][at])
        }));
        x += ROWS;
    }
    for (x, column) in (x..).zip(rest) {
        *column = std::array::from_fn(|row| rows[row][x]);
    }
}

/// Columns as rows, as many as there is room for, each cell as `finish` makes it.
#[inline(always)]
fn by_rows(by: impl Transpose, columns: &[Column], rows: &mut [f32], finish: impl Fn(f32) -> f32) {
    let (squares, rest) = columns.as_chunks();
    let whole = columns.len() - rest.len();
    for (at, square) in squares.iter().enumerate() {
        let square = by.transpose(*square);
        for (row, cells) in rows.chunks_exact_mut(columns.len()).zip(&square) {
            for (out, cell) in row[at * ROWS..][..ROWS].iter_mut().zip(cells) {
                *out = finish(*cell);
            }
        }
    }
    for (at, row) in rows.chunks_exact_mut(columns.len()).enumerate() {
        for (out, column) in row[whole..].iter_mut().zip(rest) {
            *out = finish(column[at]);
        }
    }
}

/// Who makes columns of rows. Compilers do it cell by cell.
trait Transpose: Copy {
    fn transpose(self, square: Square) -> Square;
}

/// On any processor.
#[derive(Clone, Copy)]
struct Plain;

impl Transpose for Plain {
    #[inline(always)]
    fn transpose(self, square: Square) -> Square {
        std::array::from_fn(|column| square.map(|row| row[column]))
    }
}

#[cfg(target_arch = "x86_64")]
impl Transpose for pulp::x86::V3 {
    #[inline(always)]
    fn transpose(self, square: Square) -> Square {
        let avx = self.avx;
        let [a, b, c, d, e, f, g, h] = square.map(pulp::cast);
        // Each works on the halves of a row by themselves: columns 0 to 3 and 4 to 7.
        let two = |a, b| [avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b)];
        let four = |ab: [_; 2], cd: [_; 2]| {
            [
                avx._mm256_shuffle_ps::<0b01_00_01_00>(ab[0], cd[0]),
                avx._mm256_shuffle_ps::<0b11_10_11_10>(ab[0], cd[0]),
                avx._mm256_shuffle_ps::<0b01_00_01_00>(ab[1], cd[1]),
                avx._mm256_shuffle_ps::<0b11_10_11_10>(ab[1], cd[1]),
            ]
        };
        let upper = four(two(a, b), two(c, d));
        let lower = four(two(e, f), two(g, h));
        std::array::from_fn(|column| {
            let (upper, lower) = (upper[column % 4], lower[column % 4]);
            pulp::cast(match column {
                0..4 => avx._mm256_permute2f128_ps::<0x20>(upper, lower),
                _ => avx._mm256_permute2f128_ps::<0x31>(upper, lower),
            })
        })
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
    fn any_processor_gives_the_same_bits() {
        let best = Preprocessor::new(&plain(1, 1), ColourMatrix::default()).arch;
        let sizes = [
            (1280, 720, 448, 256),
            (90, 38, 37, 21),
            (64, 32, 8, 8),
            (10, 6, 29, 17),
        ];
        for (width, height, to_width, to_height) in sizes {
            for encoding in [
                PixelEncoding::Yuv420p,
                PixelEncoding::Nv12,
                PixelEncoding::Rgb8,
            ] {
                let info = ImageInfo::new(width, height, encoding);
                let data: Vec<u8> = (0..info.byte_len())
                    .map(|at| ((at * at) >> 5) as u8)
                    .collect();
                let image = Image::new(info, &data).unwrap();
                let [plainly, vectors] = [Arch::Scalar, best].map(|arch| {
                    let input = plain(to_width, to_height);
                    let mut preprocessor = Preprocessor::new(&input, ColourMatrix::default());
                    preprocessor.arch = arch;
                    preprocessor.run(&image).to_vec()
                });
                assert!(plainly == vectors, "{encoding:?} {width}x{height}");
            }
        }
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
