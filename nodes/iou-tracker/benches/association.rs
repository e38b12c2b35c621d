//! Which detection is which track: `cargo bench --bench association`.
#![allow(missing_docs)]

use divan::{Bencher, black_box};
use tracklens_iou_tracker::association::associate;
use tracklens_schemas::BBox;

fn main() {
    divan::main();
}

/// Boxes in rows of ten that overlap their neighbours, all moved by so many pixels.
fn boxes(count: usize, moved: f32) -> Vec<BBox> {
    let at = |number: usize| {
        let (x, y) = ((number % 10) as f32 * 40.0, (number / 10) as f32 * 30.0);
        BBox::new(x + moved, y + moved, x + moved + 60.0, y + moved + 50.0)
    };
    (0..count).map(at).collect()
}

/// As many detections as tracks, in another order.
#[divan::bench(args = [1, 8, 50, 200])]
fn associate_boxes(bencher: Bencher<'_, '_>, objects: usize) {
    let tracks = boxes(objects, 0.0);
    let mut detections = boxes(objects, 4.0);
    detections.rotate_left(objects / 3);
    bencher.bench_local(|| {
        associate(objects, objects, 0.3, |track, detection| {
            black_box(&tracks)[track].iou(&detections[detection])
        })
    });
}
