//! One object of a stream: who it is, how it is, what is remembered of it.

use tracklens_schemas::{BBox, Mask, Track, TrackId, TrackState};

use tracklens_sam2::memory_bank::MemoryBank;

use crate::memory_tree::Rival;

/// Frames without sight after which an occluded object is lost.
const OCCLUDED_FRAMES: u32 = 8;
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
    /// Where it was last seen, source pixels.
    pub bbox: BBox,
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
            bbox: BBox::default(),
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

    /// One frame more: the object has this mask (empty: it is not in sight) and is published with
    /// this predicted IoU.
    pub fn publish(&mut self, mask: Mask, score: f32) -> Track {
        let seen = mask.bbox();
        match seen {
            Some(bbox) => {
                self.bbox = bbox;
                self.missed = 0;
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
