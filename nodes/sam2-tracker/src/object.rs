//! One object of a stream: who it is, how it is, what is remembered of it.

use tracklens_schemas::{BBox, Mask, Track, TrackId, TrackState};

use tracklens_sam2::appearance::Appearance;
use tracklens_sam2::memory_bank::MemoryBank;

use crate::memory_tree::Rival;

/// Frames without sight after which an occluded object is lost.
const OCCLUDED_FRAMES: u32 = 8;
/// Weight of a frame in an object's velocity.
const VELOCITY_WEIGHT: f32 = 0.2;
/// Weight of a frame in an object's usual area.
const AREA_WEIGHT: f32 = 0.05;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its name in the stream.
    pub id: TrackId,
    /// What is remembered of it.
    pub bank: MemoryBank,
    /// Where else it could be.
    pub rivals: Vec<Rival>,
    /// Frames since it was first seen.
    pub age: u32,
    /// Frames without sight.
    pub missed: u32,
    /// Whether it has been published.
    pub published: bool,
    /// What it looks like, where the model makes that out.
    pub appearance: Option<Appearance>,
    /// Whether it is where it was last seen, as far as it has moved since: not before a late prompt's
    /// object is first published, nor in a new scene.
    pub placed: bool,
    /// Whether it has been seen in this scene: until then, only what looks like it is it.
    pub proven: bool,
    /// Where it was last seen, source pixels.
    pub bbox: BBox,
    /// How it moves, source pixels a frame (x, y), averaged over the last frames in sight.
    pub velocity: [f32; 2],
    /// Its area when in sight, pixels of the source, averaged over the last frames.
    pub usual_area: f32,
    /// Frames in a row in which it was the same as an older object.
    pub doubled: u32,
}

impl Object {
    /// An object seen for the first time.
    #[must_use]
    pub fn new(id: TrackId, bank: MemoryBank) -> Self {
        Self {
            id,
            bank,
            rivals: Vec::new(),
            age: 0,
            missed: 0,
            published: false,
            appearance: None,
            placed: false,
            proven: true,
            bbox: BBox::default(),
            velocity: [0.0; 2],
            usual_area: 0.0,
            doubled: 0,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> TrackState {
        match self.missed {
            0 if !self.published => TrackState::New,
            0 => TrackState::Tracked,
            1..=OCCLUDED_FRAMES => TrackState::Occluded,
            _ => TrackState::Lost,
        }
    }

    /// A scene begins, in which it may not be.
    pub fn doubt(&mut self) {
        self.placed = false;
        self.proven = false;
        self.rivals.clear();
    }

    /// It has been found again by a late prompt, which left these memories; where it has got to since
    /// is not known.
    pub fn come_back(&mut self, bank: MemoryBank) {
        self.bank = bank;
        self.rivals.clear();
        self.placed = false;
        self.proven = true;
    }

    /// It has just been seen to look like this.
    pub fn looks_like(&mut self, now: Appearance) {
        match &mut self.appearance {
            Some(known) => known.follow(&now),
            None => self.appearance = Some(now),
        }
    }

    /// One frame more: the object has this mask (empty: it is not in sight) and is published with
    /// this predicted IoU.
    pub fn publish(&mut self, mask: Mask, score: f32) -> Track {
        let seen = mask.bbox();
        match seen {
            Some(bbox) => {
                if self.published && self.placed && self.missed == 0 {
                    let ((x0, y0), (x1, y1)) = (self.bbox.center(), bbox.center());
                    for (mean, now) in self.velocity.iter_mut().zip([x1 - x0, y1 - y0]) {
                        *mean += VELOCITY_WEIGHT * (now - *mean);
                    }
                }
                self.bbox = bbox;
                self.missed = 0;
                self.placed = true;
                self.proven = true;
                let area = mask.area() as f32;
                match self.published {
                    true => self.usual_area += AREA_WEIGHT * (area - self.usual_area),
                    false => self.usual_area = area,
                }
            }
            None => self.missed = self.missed.saturating_add(1),
        }
        let state = self.state();
        self.published = true;
        Track {
            track_id: self.id,
            bbox: self.bbox,
            area: u32::try_from(mask.area()).unwrap_or(u32::MAX),
            mask,
            score: match seen {
                Some(_) => score.clamp(0.0, 1.0),
                None => 0.0,
            },
            visible: seen.is_some(),
            state,
            age: self.age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_new_then_tracked_then_occluded_then_lost_and_back() {
        let mut object = Object::new(TrackId(3), MemoryBank::default());
        let seen = Mask::from_bitmap(&[0, 1, 0, 0], 2, 2);
        let none = Mask::empty(2, 2);
        let mut states = Vec::new();
        for mask in [&seen, &seen, &none]
            .into_iter()
            .chain([&none; 8])
            .chain([&seen])
        {
            states.push(object.publish(mask.clone(), 2.0).state);
        }
        assert_eq!(
            states[..3],
            [TrackState::New, TrackState::Tracked, TrackState::Occluded]
        );
        assert_eq!(
            states[9..],
            [TrackState::Occluded, TrackState::Lost, TrackState::Tracked]
        );
    }

    #[test]
    fn a_hidden_object_keeps_its_last_box_and_has_no_score() {
        let mut object = Object::new(TrackId(1), MemoryBank::default());
        let seen = object.publish(Mask::from_bitmap(&[0, 1, 0, 0], 2, 2), 1.5);
        assert_eq!((seen.score, seen.area, seen.visible), (1.0, 1, true));
        let hidden = object.publish(Mask::empty(2, 2), 0.9);
        assert_eq!(hidden.bbox, seen.bbox);
        assert_eq!((hidden.score, hidden.area, hidden.visible), (0.0, 0, false));
    }
}
