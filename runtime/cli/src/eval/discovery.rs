//! How many of the annotated objects an unprompted run finds.

use std::collections::BTreeMap;

use super::dataset::Sequence;
use super::davis;
use super::follow::fitted;
use super::masks::StreamMasks;

/// Mean overlap from which an object counts as found.
const FOUND: f64 = 0.5;

/// The track that follows an object best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Best {
    pub(crate) track: Option<u32>,
    /// Intersection over union, averaged over the annotated frames from the track's first to its last
    /// on which the object or the track is seen.
    pub(crate) overlap: f64,
    /// The frame from which on the track is there.
    pub(crate) from: u64,
    /// The part of the frames with the object on which the track overlaps it by at least a half.
    pub(crate) share: f64,
}

impl Best {
    pub(crate) fn found(&self) -> bool {
        self.overlap >= FOUND
    }
}

/// The best track for an object; one that never touches it is none.
pub(crate) fn best(sequence: &Sequence, object: u8, tracks: &StreamMasks) -> Best {
    let mut lives: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for frame in tracks.frames() {
        for (track, _) in tracks.on(frame) {
            lives.entry(track).or_insert((frame, frame)).1 = frame;
        }
    }
    let lives = lives.into_iter();
    let rated = lives.map(|(track, life)| rate(sequence, object, tracks, track, life));
    let best = rated.max_by(|a, b| {
        a.overlap
            .total_cmp(&b.overlap)
            .then(a.share.total_cmp(&b.share))
    });
    best.filter(|best| best.overlap > 0.0).unwrap_or_default()
}

fn rate(
    sequence: &Sequence,
    object: u8,
    tracks: &StreamMasks,
    track: u32,
    (first, last): (u64, u64),
) -> Best {
    let (mut sum, mut counted, mut covered, mut seen) = (0.0, 0_u32, 0_u32, 0_u32);
    for (frame, truth) in sequence.masks(object) {
        seen += u32::from(truth.area() > 0);
        if !(first..=last).contains(&frame) {
            continue;
        }
        let overlap = match tracks.mask(frame, track) {
            Some(mask) => davis::region(&fitted(mask, &truth), &truth),
            None if truth.area() == 0 => continue,
            None => 0.0,
        };
        sum += overlap;
        counted += 1;
        covered += u32::from(overlap >= FOUND && truth.area() > 0);
    }
    Best {
        track: Some(track),
        overlap: sum / f64::from(counted.max(1)),
        from: first,
        share: f64::from(covered) / f64::from(seen.max(1)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tracklens_schemas::Mask;

    use super::super::annotation::Annotation;
    use super::*;

    /// A 10x2 mask of the columns from `left` on, five of them.
    fn mask(left: usize) -> Mask {
        let bitmap: Vec<u8> = (0..20)
            .map(|at| u8::from((left..left + 5).contains(&(at % 10))))
            .collect();
        Mask::from_bitmap(&bitmap, 10, 2)
    }

    /// Ten frames of an object that does not move; it is hidden on the last two.
    fn sequence() -> Sequence {
        let truth = (0..10).map(|frame| {
            let seen = (frame < 8).then(|| (255, mask(0)));
            (frame, Annotation::of(10, 2, seen.into_iter().collect()))
        });
        Sequence {
            id: "a".parse().unwrap(),
            source: String::new(),
            truth: truth.collect(),
        }
    }

    #[test]
    fn the_best_track_counts_over_its_own_life() {
        let mut tracks = StreamMasks::default();
        for frame in 0..8 {
            tracks.add(frame, 1, mask(3));
        }
        for frame in 4..8 {
            tracks.add(frame, 2, mask(0));
        }
        let best = best(&sequence(), 255, &tracks);
        let expected = Best {
            track: Some(2),
            overlap: 1.0,
            from: 4,
            share: 0.5,
        };
        assert_eq!(best, expected);
        assert!(best.found());
    }

    #[test]
    fn lingering_where_nothing_is_counts_against_a_track() {
        let mut tracks = StreamMasks::default();
        for frame in [7, 8, 9] {
            tracks.add(frame, 1, mask(0));
        }
        assert!(!best(&sequence(), 255, &tracks).found());
        assert_eq!(
            best(&sequence(), 255, &StreamMasks::default()),
            Best::default()
        );
    }
}
