//! Objects that come back: who a newcomer is, and whether an object is still itself after a cut.
//!
//! An object that is out of sight, or has been given up not long ago, is known again by what it looks
//! like ([`tracklens_sam2::appearance`]) together with where and how large it was. Of all pairs of a
//! newcomer and a missed object that agree, the most alike are joined first.

use serde::{Deserialize, Serialize};
use tracklens_sam2::appearance::Appearance;
use tracklens_schemas::{BBox, TrackId};

use crate::object::Object;

/// How far an object may have got, in sides of its box: at once, and more with every frame.
const DISTANCE: f32 = 1.0;
const DISTANCE_PER_FRAME: f32 = 0.2;
/// Times by which its area may have grown or shrunk.
const GROWTH: f32 = 3.0;
/// Most objects of a stream that were given up and are still known.
const MOST_DEPARTED: usize = 64;

/// What is kept of an object that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Departed {
    /// Its name, which it gets back.
    pub id: TrackId,
    /// What it looked like.
    pub appearance: Appearance,
    /// Where it was last seen, source pixels.
    pub bbox: BBox,
    /// Its usual area, source pixels.
    pub area: f32,
    /// The step on which it was last seen.
    pub seen: u64,
}

impl Departed {
    /// What is kept of an object that is given up on this step; `None` where it cannot be known again.
    #[must_use]
    pub fn of(object: &Object, step: u64) -> Option<Self> {
        Some(Self {
            id: object.id,
            appearance: object.appearance.clone()?,
            bbox: object.bbox,
            area: object.usual_area,
            seen: step.saturating_sub(u64::from(object.missed)),
        })
    }
}

/// Whoever is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Missed<'a> {
    /// Its name.
    pub id: TrackId,
    /// What it looked like.
    pub appearance: &'a Appearance,
    /// Where it was last seen.
    pub bbox: BBox,
    /// Its usual area.
    pub area: f32,
    /// Frames since then.
    pub frames: u64,
}

/// Whoever has been found.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// What it looks like; `None` where its mask is empty.
    pub appearance: Option<Appearance>,
    /// Where it is, source pixels.
    pub bbox: BBox,
    /// Its area, source pixels.
    pub area: f32,
}

impl Missed<'_> {
    /// Whether a newcomer is where, and as large as, the missed object can be.
    fn agrees(&self, newcomer: &Newcomer) -> bool {
        let (before, now) = (&self.bbox, &newcomer.bbox);
        let side = before.area().max(now.area()).sqrt();
        let ((x0, y0), (x1, y1)) = (before.center(), now.center());
        let reach = side * (DISTANCE + DISTANCE_PER_FRAME * self.frames as f32);
        let (small, large) = (self.area.min(newcomer.area), self.area.max(newcomer.area));
        (x1 - x0).hypot(y1 - y0) <= reach && large <= small * GROWTH
    }
}

/// Who the newcomers are: of each, the missed object that it is, if it is one.
#[must_use]
pub fn recognise(
    similarity: f32,
    missed: &[Missed<'_>],
    newcomers: &[Newcomer],
) -> Vec<Option<TrackId>> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for (at, newcomer) in newcomers.iter().enumerate() {
        let Some(appearance) = &newcomer.appearance else {
            continue;
        };
        for (who, object) in missed.iter().enumerate() {
            let alike = object.appearance.similarity(appearance);
            if alike >= similarity && object.agrees(newcomer) {
                pairs.push((alike, at, who));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut names = vec![None; newcomers.len()];
    let mut known = vec![false; missed.len()];
    for (_, at, who) in pairs {
        if names[at].is_none() && !known[who] {
            names[at] = Some(missed[who].id);
            known[who] = true;
        }
    }
    names
}

/// Adds an object that was given up, and forgets those that have been for too long.
pub fn depart(departed: &mut Vec<Departed>, gone: Departed, step: u64, frames: u64) {
    departed.push(gone);
    departed.retain(|other| step.saturating_sub(other.seen) <= frames);
    let too_many = departed.len().saturating_sub(MOST_DEPARTED);
    departed.drain(..too_many);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_sam2::appearance::Scene;

    /// One of two opposite appearances.
    fn appearance(first: bool) -> Appearance {
        let mask = if first { [1.0, -1.0] } else { [-1.0, 1.0] };
        Scene::new(&[1.0, 0.0], [1, 1, 2])
            .appearance(&mask, [1, 2])
            .unwrap()
    }

    fn newcomer(first: bool, x: f32, side: f32) -> Newcomer {
        Newcomer {
            appearance: Some(appearance(first)),
            bbox: BBox::new(x, 0.0, x + side, side),
            area: side * side,
        }
    }

    fn missed(id: u32, appearance: &Appearance, x: f32, frames: u64) -> Missed<'_> {
        Missed {
            id: TrackId(id),
            appearance,
            bbox: BBox::new(x, 0.0, x + 10.0, 10.0),
            area: 100.0,
            frames,
        }
    }

    fn names(missed: &[Missed<'_>], newcomers: &[Newcomer]) -> Vec<Option<u32>> {
        let names = recognise(0.75, missed, newcomers).into_iter();
        names.map(|name| name.map(|id| id.0)).collect()
    }

    #[test]
    fn an_object_is_known_by_its_looks_its_place_and_its_size() {
        let looks = appearance(true);
        let known = [missed(4, &looks, 0.0, 5)];
        assert_eq!(names(&known, &[newcomer(true, 15.0, 10.0)]), [Some(4)]);
        assert_eq!(names(&known, &[newcomer(false, 15.0, 10.0)]), [None]);
        assert_eq!(
            names(&known, &[newcomer(true, 45.0, 10.0)]),
            [None],
            "too far"
        );
        assert_eq!(
            names(&known, &[newcomer(true, 0.0, 20.0)]),
            [None],
            "too large"
        );
    }

    #[test]
    fn with_time_an_object_may_have_got_farther() {
        let looks = appearance(true);
        assert_eq!(
            names(&[missed(4, &looks, 0.0, 25)], &[newcomer(true, 45.0, 10.0)]),
            [Some(4)]
        );
    }

    #[test]
    fn nobody_is_two_newcomers_and_no_newcomer_is_two() {
        let looks = appearance(true);
        let twins = [newcomer(true, 0.0, 10.0), newcomer(true, 5.0, 10.0)];
        assert_eq!(names(&[missed(4, &looks, 0.0, 5)], &twins), [Some(4), None]);
        let two = [missed(4, &looks, 0.0, 5), missed(5, &looks, 0.0, 5)];
        assert_eq!(names(&two, &twins[..1]), [Some(4)]);
    }

    #[test]
    fn the_departed_are_few_and_not_for_ever() {
        let gone = |id: u32, seen: u64| Departed {
            id: TrackId(id),
            appearance: appearance(true),
            bbox: BBox::default(),
            area: 1.0,
            seen,
        };
        let mut departed = Vec::new();
        depart(&mut departed, gone(1, 0), 0, 10);
        depart(&mut departed, gone(2, 10), 11, 10);
        assert_eq!(departed.len(), 1, "the first was seen too long ago");
        for id in 3..100 {
            depart(&mut departed, gone(id, 11), 11, 10);
        }
        assert_eq!(
            (departed.len(), departed[0].id),
            (MOST_DEPARTED, TrackId(36))
        );
    }
}
