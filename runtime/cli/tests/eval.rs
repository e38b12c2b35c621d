//! `tracklens eval` without a graph: the dataset, the table and the refusals.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use png::{BitDepth, ColorType};
use support::Tracklens;

/// An annotation of 40x30 pixels with an object of 10x10 at this column.
fn annotate(folder: &Path, sequence: &str, frame: u32, left: Option<usize>) {
    let folder = folder.join("Annotations").join(sequence);
    fs::create_dir_all(&folder).unwrap();
    let inside = |at: usize| {
        let (x, y) = (at % 40, at / 40);
        left.is_some_and(|left| (left..left + 10).contains(&x) && (10..20).contains(&y))
    };
    let pixels: Vec<u8> = (0..1200)
        .map(|at| if inside(at) { 255 } else { 0 })
        .collect();
    let file = fs::File::create(folder.join(format!("{frame:05}.png"))).unwrap();
    let mut encoder = png::Encoder::new(file, 40, 30);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&pixels)
        .unwrap();
}

fn picture(folder: &Path, sequence: &str) {
    let folder = folder.join("JPEGImages").join(sequence);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("00000.jpg"), "").unwrap();
}

#[test]
fn the_unmoved_mask_is_scored_and_the_mean_comes_last() {
    let tracklens = Tracklens::new();
    let folder = tracklens.home.path();
    for frame in 0..4 {
        annotate(folder, "still", frame, Some(5));
        annotate(folder, "away", frame, Some(5 + 5 * usize::from(frame > 0)));
    }
    picture(folder, "still");
    picture(folder, "away");
    let said = tracklens.run(&[
        "eval",
        "--dataset",
        ".",
        "--tracker",
        "static",
        "--json",
        "out.json",
    ]);
    said.well(&["tracker static"]);
    let rows: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[2][..3], ["away", "2", "33.3"]);
    assert_eq!(rows[3], ["still", "2", "100.0", "100.0", "100.0"]);
    assert_eq!(rows.last().unwrap()[..3], ["mean", "4", "66.7"]);
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("out.json")).unwrap()).unwrap();
    assert_eq!(json["sequences"][1]["j_and_f"], 100.0);
    assert_eq!(json["mean"]["j"], 66.67);

    let one = tracklens.run(&[
        "eval",
        "--dataset",
        ".",
        "--tracker",
        "static",
        "--sequences",
        "still",
    ]);
    let last: Vec<&str> = one.out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last[..3], ["mean", "2", "100.0"]);
}

#[test]
fn mistakes_name_sequence_and_file() {
    let tracklens = Tracklens::new();
    let folder = tracklens.home.path();
    let eval = |more: &[&str]| {
        tracklens.run(&[&["eval", "--dataset", ".", "--tracker", "static"], more].concat())
    };
    eval(&[]).refused(&["is no dataset", "Annotations/<sequence>/00000.png"]);
    annotate(folder, "a", 0, None);
    picture(folder, "a");
    annotate(folder, "b", 0, Some(3));
    eval(&[]).refused(&["sequence b: there is neither", "b.mp4"]);
    eval(&["--sequences", "a"]).refused(&["sequence a: annotation 00000.png shows no object"]);
    eval(&["--sequences", "a,c"]).refused(&["no sequence c; there are a, b"]);
    eval(&["--discover"]).refused(&["--discover needs a tracker"]);
}

/// The open sequences; their unmoved first masks are known to give a mean J of 33.7.
#[test]
fn the_open_sequences_give_the_known_baseline() {
    let Some(data) = std::env::var_os("TRACKLENS_DATA") else {
        eprintln!("skipped: TRACKLENS_DATA not set, no dataset to measure");
        return;
    };
    let dataset = Path::new(&data).join("davis16");
    let tracklens = Tracklens::new();
    let said = tracklens.run(&[
        "eval",
        "--dataset",
        dataset.to_str().unwrap(),
        "--tracker",
        "static",
    ]);
    said.well(&[]);
    let last: Vec<&str> = said
        .out
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(last, ["mean", "357", "33.7", "27.8", "30.8"]);
}
