//! Enhancers and identifiers as plug-ins: the examples of this crate, loaded.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracklens_lens_batcher::Picture;
use tracklens_lens_batcher::backend::{PlugIn, Service, Shot};
use tracklens_lens_batcher::candidate::View;
use tracklens_lens_batcher::enhance::{ChainPlan, Step};
use tracklens_schemas::{BBox, TrackId};

/// An example of this crate, where cargo puts it beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples");
    let path = folder.join(format!("lib{name}.so"));
    assert!(
        path.exists(),
        "cargo build --release --workspace --all-targets makes {}",
        path.display()
    );
    path
}

fn shot(track: u32, pixel: [u8; 3]) -> Shot {
    Shot {
        track: TrackId(track),
        view: Arc::new(View {
            frame: 0,
            picture: Picture::new(8, 4, pixel.repeat(32)).unwrap(),
            bbox: BBox::new(0.0, 0.0, 8.0, 4.0),
            sharpness: 0.0,
            quality: 0.0,
        }),
    }
}

#[test]
fn a_plug_in_identifies() {
    let plug_in = PlugIn::new(&example("by_colour"), r#"{"least": 30}"#).unwrap();
    let service = Service::PlugIn(plug_in);
    assert_eq!((service.name(), service.is_remote()), ("by-colour", false));
    let mut backend = service.open().unwrap();
    let shots = [
        shot(1, [200, 20, 20]),
        shot(2, [90, 90, 90]),
        shot(3, [0, 20, 250]),
    ];
    let answers = backend.identify(&shots).unwrap();
    let names: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.unwrap().name)
        .collect();
    assert_eq!(names, ["red thing", "", "blue thing"]);
}

#[test]
fn a_plug_in_enhances_behind_the_steps() {
    let plan = ChainPlan {
        steps: vec![Step::Dim],
        plug_in: Some((example("brighten"), r#"{"by": 50}"#.into())),
    };
    let mut shots = [shot(1, [100; 3]), shot(2, [250; 3])];
    plan.chain().unwrap().enhance(&mut shots);
    let pixels = shots.map(|shot| shot.view.picture.pixels[0]);
    assert_eq!(pixels, [150, 255]);
}

#[test]
fn a_plug_in_of_another_kind_or_none_is_refused_at_the_start() {
    let identifier = PlugIn::new(&example("brighten"), "{}")
        .unwrap_err()
        .to_string();
    assert!(
        identifier.contains("identifier") && identifier.contains("enhancer"),
        "{identifier}"
    );
    let plan = |path: PathBuf, config: &str| {
        let plan = ChainPlan {
            steps: Vec::new(),
            plug_in: Some((path, config.into())),
        };
        plan.chain().err().unwrap().to_string()
    };
    assert!(plan(example("by_colour"), "{}").contains("enhancer"));
    assert!(plan(example("brighten"), r#"{"by": 999}"#).contains("0 to 255"));
    assert!(plan("no-such.so".into(), "{}").contains("no-such.so"));
}
