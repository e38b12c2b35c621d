//! Two people who pass each other are one blob for a while; where both were known before, their
//! pixels are told apart.
//!
//! A detection without a class that covers the expected boxes of several tracks is cut: each pixel
//! goes to the expected box whose centre is nearest, measured in halves of that box. Detectors that
//! know classes keep neighbours apart by themselves.

use tracklens_schemas::{BBox, Mask};

use crate::column_runs::ColumnRuns;
use crate::detector::SourceDetection;

/// Share of an expected box that must lie in a detection to have a part in it.
const COVERED: f32 = 0.6;
/// Parts of less than this share of the expected box are not worth cutting off.
const LEAST_PART: f32 = 0.15;

/// The parts of a detection: itself, or one for each of the expected boxes that it covers. Boxes
/// in pixels of the source frame.
#[must_use]
pub fn split(detection: SourceDetection, expected: &[BBox]) -> Vec<SourceDetection> {
    let covered: Vec<BBox> = expected
        .iter()
        .filter(|bbox| {
            detection.class.is_none()
                && detection.bbox.intersect(bbox).area() > COVERED * bbox.area()
        })
        .copied()
        .collect();
    if covered.len() < 2 {
        return vec![detection];
    }
    let (width, height) = (detection.mask.width(), detection.mask.height());
    let mut parts = vec![ColumnRuns::default(); covered.len()];
    for (x, y0, y1) in detection.mask.spans() {
        let mut from = y0;
        let mut owner = nearest(&covered, x, y0);
        for y in y0 + 1..=y1 {
            let next = if y < y1 {
                nearest(&covered, x, y)
            } else {
                usize::MAX
            };
            if next != owner {
                parts[owner].span(x * height + from, y - from);
                (from, owner) = (y, next);
            }
        }
    }
    let found: Vec<SourceDetection> = parts
        .into_iter()
        .zip(&covered)
        .filter_map(|(part, bbox)| {
            let mask = Mask::from_runs(part.finish(width * height), width, height).ok()?;
            let area = u32::try_from(mask.area()).unwrap_or(u32::MAX);
            let worth = area as f32 > LEAST_PART * bbox.area();
            let bbox = mask.bbox().filter(|_| worth)?;
            Some(SourceDetection {
                bbox,
                area,
                score: detection.score,
                class: None,
                mask,
            })
        })
        .collect();
    if found.len() < 2 {
        vec![detection]
    } else {
        found
    }
}

/// The box that a pixel is nearest to.
fn nearest(boxes: &[BBox], x: u32, y: u32) -> usize {
    let distance = |bbox: &BBox| {
        let (center_x, center_y) = bbox.center();
        let across = (x as f32 + 0.5 - center_x) / bbox.width().max(1.0);
        let down = (y as f32 + 0.5 - center_y) / bbox.height().max(1.0);
        across * across + down * down
    };
    let distances = boxes.iter().map(distance).enumerate();
    distances
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::box_mask;

    fn detection(bbox: BBox) -> SourceDetection {
        let mask = box_mask(&bbox, 100, 50);
        SourceDetection {
            bbox,
            area: mask.area() as u32,
            score: 0.9,
            class: None,
            mask,
        }
    }

    #[test]
    fn cuts_a_blob_between_the_boxes_it_covers() {
        let both = detection(BBox::new(10.0, 0.0, 50.0, 50.0));
        let expected = [
            BBox::new(10.0, 0.0, 30.0, 50.0),
            BBox::new(30.0, 0.0, 50.0, 50.0),
        ];
        let parts = split(both.clone(), &expected);
        assert_eq!(
            parts.iter().map(|part| part.bbox).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(parts[0].mask.intersection(&parts[1].mask), 0);
        assert_eq!(parts[0].area + parts[1].area, both.area);
    }

    #[test]
    fn leaves_a_single_object_whole() {
        let one = detection(BBox::new(10.0, 5.0, 30.0, 45.0));
        let beside = BBox::new(25.0, 5.0, 45.0, 45.0);
        assert_eq!(
            split(one.clone(), &[one.bbox, beside]),
            std::slice::from_ref(&one)
        );
        let named = SourceDetection {
            class: Some("person"),
            ..one.clone()
        };
        assert_eq!(split(named.clone(), &[one.bbox, one.bbox]), [named]);
    }
}
