//! Which track follows which object, and how well.

use std::collections::BTreeMap;

use tracklens_schemas::Mask;

use super::annotation::Objects;
use super::dataset::Sequence;
use super::davis::Score;
use super::masks::StreamMasks;

/// Which track (value) follows which object (key) that was shown on `frame`.
///
/// Where as many tracks begin on that frame as there are objects, they belong to them in order: a
/// tracker numbers them as it is prompted, and a wrong mask is then its mistake. Otherwise pairs are made on the
/// earliest frame where a track lies on an object's first mask, best overlap first.
pub(crate) fn pair(
    shown: &Objects,
    frame: u64,
    tracks: &StreamMasks,
    prompted: bool,
) -> BTreeMap<u8, u32> {
    let begun: Vec<u32> = tracks.on(frame).map(|(track, _)| track).collect();
    if prompted && begun.len() == shown.len() {
        return shown.keys().copied().zip(begun).collect();
    }
    let mut pairs = BTreeMap::new();
    let mut taken = Vec::new();
    for frame in tracks.frames().filter(|&later| later >= frame) {
        let mut overlaps: Vec<(f32, u8, u32)> = Vec::new();
        for (&object, first) in shown
            .iter()
            .filter(|(object, _)| !pairs.contains_key(*object))
        {
            for (track, mask) in tracks.on(frame).filter(|(track, _)| !taken.contains(track)) {
                let iou = fitted(mask, first).iou(first);
                if iou > 0.0 {
                    overlaps.push((iou, object, track));
                }
            }
        }
        overlaps.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, object, track) in overlaps {
            if !pairs.contains_key(&object) && !taken.contains(&track) {
                pairs.insert(object, track);
                taken.push(track);
            }
        }
        if pairs.len() == shown.len() {
            break;
        }
    }
    pairs
}

/// The scores of an object on the frames that count. `mask` gives what was found on a frame.
pub(crate) fn scores<'a>(
    sequence: &Sequence,
    object: u8,
    mask: impl Fn(u64) -> Option<&'a Mask>,
) -> Vec<Score> {
    let score = |(frame, annotation): (u64, &super::annotation::Annotation)| {
        let truth = annotation.mask(object);
        match mask(frame) {
            Some(mask) => Score::of(&fitted(mask, &truth), &truth),
            None => Score::of(&Mask::empty(truth.width(), truth.height()), &truth),
        }
    };
    sequence.scored().map(score).collect()
}

/// The mask at the size of another.
pub(crate) fn fitted(mask: &Mask, other: &Mask) -> Mask {
    mask.scale(other.width(), other.height())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 20x4 mask with these columns.
    fn columns(columns: std::ops::Range<usize>) -> Mask {
        let bitmap: Vec<u8> = (0..80)
            .map(|at| u8::from(columns.contains(&(at % 20))))
            .collect();
        Mask::from_bitmap(&bitmap, 20, 4)
    }

    fn shown() -> Objects {
        [(1, columns(0..5)), (2, columns(10..15))].into()
    }

    #[test]
    fn prompted_tracks_belong_to_the_objects_in_order() {
        let mut tracks = StreamMasks::default();
        tracks.add(0, 7, columns(9..16));
        tracks.add(0, 9, columns(0..5));
        assert_eq!(pair(&shown(), 0, &tracks, true), [(1, 7), (2, 9)].into());
        assert_eq!(pair(&shown(), 0, &tracks, false), [(1, 9), (2, 7)].into());
    }

    #[test]
    fn a_late_track_is_taken_where_it_first_lies_on_the_object() {
        let mut tracks = StreamMasks::default();
        tracks.add(3, 4, columns(16..20));
        tracks.add(4, 4, columns(12..17));
        tracks.add(4, 5, columns(3..20));
        tracks.add(6, 6, columns(0..5));
        assert_eq!(pair(&shown(), 0, &tracks, true), [(1, 5), (2, 4)].into());
        assert_eq!(pair(&shown(), 5, &tracks, true), [(1, 6)].into());
    }
}
