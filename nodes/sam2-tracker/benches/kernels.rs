//! What is done to every frame besides inference, each by itself: `cargo bench --bench kernels`.
#![allow(missing_docs)]

use divan::{Bencher, black_box};
use tracklens_sam2::mask::MaskPainter;
use tracklens_sam2::model_folder::Input;
use tracklens_sam2::preprocess::{ColourMatrix, Preprocessor};
use tracklens_schemas::{
    Image, ImageInfo, Mask, PixelEncoding, Track, TrackId, TrackState, tracks,
};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
/// Height and width of nano's masks.
const CELLS: [usize; 2] = [64, 112];
const OBJECTS: [usize; 3] = [1, 8, 50];

fn main() {
    divan::main();
}

/// A frame of 720 lines becomes nano's input.
#[divan::bench]
fn preprocess(bencher: Bencher<'_, '_>) {
    let info = ImageInfo::new(WIDTH, HEIGHT, PixelEncoding::Yuv420p);
    let pixels: Vec<u8> = (0..info.byte_len()).map(|at| (at * 7) as u8).collect();
    let input = Input {
        width: 448,
        height: 256,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    let mut preprocessor = Preprocessor::new(&input, ColourMatrix::default());
    let image = Image {
        info,
        data: &pixels,
    };
    bencher.bench_local(|| black_box(preprocessor.run(black_box(&image))).len());
}

/// Discs of different places and sizes, as logits.
fn discs(count: usize) -> Vec<Vec<f32>> {
    let [rows, columns] = CELLS;
    let disc = |number: usize| {
        let (y0, x0) = ((number * 17 % rows) as f32, (number * 29 % columns) as f32);
        let radius = 4.0 + (number % 9) as f32;
        let cell = |at: usize| {
            let (y, x) = ((at / columns) as f32, (at % columns) as f32);
            radius - ((y - y0).powi(2) + (x - x0).powi(2)).sqrt()
        };
        (0..rows * columns).map(cell).collect()
    };
    (0..count).map(disc).collect()
}

fn masks(count: usize) -> Vec<Mask> {
    let discs = discs(count);
    let logits: Vec<&[f32]> = discs.iter().map(Vec::as_slice).collect();
    MaskPainter::default().paint(&logits, CELLS, (WIDTH, HEIGHT), true)
}

/// Logits become masks of the source frame.
#[divan::bench(args = OBJECTS)]
fn paint_masks(bencher: Bencher<'_, '_>, objects: usize) {
    let discs = discs(objects);
    let logits: Vec<&[f32]> = discs.iter().map(Vec::as_slice).collect();
    let mut painter = MaskPainter::default();
    bencher.bench_local(|| painter.paint(black_box(&logits), CELLS, (WIDTH, HEIGHT), true));
}

/// Masks become COCO's compressed runs.
#[divan::bench(args = OBJECTS)]
fn encode_runs(bencher: Bencher<'_, '_>, objects: usize) {
    let masks = masks(objects);
    bencher.bench_local(|| masks.iter().map(|mask| mask.encode().len()).sum::<usize>());
}

fn rows(objects: usize) -> Vec<Track> {
    let masks = masks(objects).into_iter().enumerate();
    masks
        .map(|(at, mask)| Track {
            track_id: TrackId(at as u32 + 1),
            bbox: mask.bbox().unwrap_or_default(),
            area: mask.area() as u32,
            mask,
            score: 0.9,
            visible: true,
            state: TrackState::Tracked,
            age: 7,
        })
        .collect()
}

/// Rows become an Arrow array.
#[divan::bench(args = OBJECTS)]
fn encode_tracks(bencher: Bencher<'_, '_>, objects: usize) {
    let rows = rows(objects);
    bencher.bench_local(|| tracks::encode(black_box(&rows)));
}

/// An Arrow array becomes rows, its masks checked.
#[divan::bench(args = OBJECTS)]
fn decode_tracks(bencher: Bencher<'_, '_>, objects: usize) {
    let array = tracks::encode(&rows(objects));
    bencher
        .bench_local(|| tracks::decode(black_box(&*array), WIDTH, HEIGHT).map(|rows| rows.len()));
}
