#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn bitmap() -> impl Strategy<Value = (Vec<u8>, u32, u32)> {
    (1u32..90, 1u32..40).prop_flat_map(|(w, h)| {
        let pixels = prop::collection::vec(0u8..2, (w * h) as usize);
        (pixels, Just(w), Just(h))
    })
}

proptest! {
    #[test]
    fn bitmaps_round_trip((bitmap, w, h) in bitmap()) {
        let mask = Mask::from_bitmap(&bitmap, w, h);
        prop_assert_eq!(mask.to_bitmap(), bitmap.clone());
        prop_assert_eq!(Mask::decode(&mask.encode(), w, h), Ok(mask.clone()));
        let area = bitmap.iter().filter(|pixel| **pixel != 0).count() as u64;
        prop_assert_eq!(mask.area(), area);
        prop_assert_eq!(mask.scale(w, h), mask);
    }

    #[test]
    fn intersections_are_those_of_the_bitmaps((a, w, h) in bitmap(), seed: u64) {
        let b: Vec<u8> = (0..a.len() as u64)
            .map(|i| (seed.wrapping_mul(i + 1).rotate_left(17) & 1) as u8)
            .collect();
        let (first, second) = (Mask::from_bitmap(&a, w, h), Mask::from_bitmap(&b, w, h));
        let both = a.iter().zip(&b).filter(|(x, y)| **x != 0 && **y != 0).count() as u64;
        prop_assert_eq!(first.intersection(&second), both);
    }

    #[test]
    fn scaling_takes_the_nearest_pixel(
        (bitmap, w, h) in bitmap(), to_w in 1u32..120, to_h in 1u32..120,
    ) {
        let expected: Vec<u8> = (0..to_h)
            .flat_map(|y| (0..to_w).map(move |x| (x * w / to_w, y * h / to_h)))
            .map(|(x, y)| bitmap[(y * w + x) as usize])
            .collect();
        let scaled = Mask::from_bitmap(&bitmap, w, h).scale(to_w, to_h);
        prop_assert_eq!(scaled, Mask::from_bitmap(&expected, to_w, to_h));
    }

    #[test]
    fn hostile_text_never_panics(
        text in prop::collection::vec(any::<u8>(), 0..64), w: u32, h: u32,
    ) {
        let _whatever = Mask::decode(&text, w, h);
        let printable: Vec<u8> = text.iter().map(|byte| 48 + byte % 64).collect();
        let _whatever = Mask::decode(&printable, w % 100, h % 100);
    }
}

#[test]
fn agrees_with_pycocotools() {
    let fixtures: serde_json::Value =
        serde_json::from_str(include_str!("../../fixtures/coco_rle.json")).unwrap();
    let cases = fixtures["cases"].as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let [h, w] = [0, 1].map(|i| case["size"][i].as_u64().unwrap() as u32);
        let counts = case["counts"].as_str().unwrap();
        let mask = Mask::decode(counts.as_bytes(), w, h).unwrap();
        assert_eq!(mask.area(), case["area"].as_u64().unwrap());
        assert_eq!(String::from_utf8(mask.encode()).unwrap(), counts);
        if let Some(bbox) = mask.bbox() {
            let expected: Vec<f32> = (0..4)
                .map(|i| case["bbox"][i].as_f64().unwrap() as f32)
                .collect();
            assert_eq!(
                [bbox.x0, bbox.y0, bbox.width(), bbox.height()][..],
                expected
            );
        }
        let again = Mask::from_bitmap(&mask.to_bitmap(), w, h);
        assert_eq!(String::from_utf8(again.encode()).unwrap(), counts);
    }
}

#[test]
fn an_empty_mask_has_no_box() {
    let mask = Mask::empty(4, 3);
    assert_eq!((mask.area(), mask.bbox()), (0, None));
    assert_eq!(mask.iou(&mask), 0.0);
}
