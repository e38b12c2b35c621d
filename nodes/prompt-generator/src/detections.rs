//! `detector`: the boxes that another node finds become prompts.
//!
//! What comes on the input `detections` are our own `tracks` (of an iou-tracker, say), or the boxes
//! of a detector of dora's hub. In a lossless graph, and from a node that takes part in credit, a
//! look waits for the detections of its own frame; otherwise it takes the newest that have come.

use std::collections::VecDeque;

use tracklens_schemas::arrow::array::{Array, AsArray};
use tracklens_schemas::{
    BBox, FrameIndex, Mask, Metadata, SchemaError, TracksInfo, boxes2d, tracks,
};

use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Proposal};

/// Name of the strategy.
const NAME: &str = "detector";

/// The strategy: on a look, whatever has been detected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detected;

impl Strategy for Detected {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        match frame.look {
            true => Proposal::Detections,
            false => Proposal::Nothing,
        }
    }
}

/// How another node's detections are taken into account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectionsUse {
    /// The newest that have come, once; nothing waits (live, or a sender without credit).
    #[default]
    Newest,
    /// A look at a frame waits for the detections of that frame (lossless).
    Exact,
}

/// What is known of a frame's detections.
#[derive(Debug, PartialEq)]
pub(crate) enum Known {
    NotYet,
    Never,
    Found(Vec<Candidate>),
}

/// The detections of one stream that may still be of use.
#[derive(Debug, Default)]
pub struct Detections {
    how: DetectionsUse,
    /// By frame, oldest first; `None` where the message could not be read.
    known: VecDeque<(FrameIndex, Option<Vec<Candidate>>)>,
}

impl Detections {
    pub(crate) fn new(how: DetectionsUse) -> Self {
        Self {
            how,
            known: VecDeque::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// Keeps a frame's detections; `next` is the frame that is answered next. Tells whether they are
    /// to be acknowledged with their frame's prompts: a restarted node then gets them once more.
    pub(crate) fn add(
        &mut self,
        frame: FrameIndex,
        found: Option<Vec<Candidate>>,
        next: FrameIndex,
    ) -> bool {
        match self.how {
            DetectionsUse::Newest => self.known.clear(),
            DetectionsUse::Exact => self.known.retain(|(known, _)| *known >= next),
        }
        self.known.push_back((frame, found));
        self.how == DetectionsUse::Exact
    }

    /// The detections for a look at this frame.
    pub(crate) fn take(&mut self, frame: FrameIndex) -> Known {
        if self.how == DetectionsUse::Newest {
            let newest = self.known.pop_back().and_then(|(_, found)| found);
            return newest.map_or(Known::Never, Known::Found);
        }
        while let Some((known, _)) = self.known.front()
            && *known < frame
        {
            self.known.pop_front();
        }
        match self.known.front() {
            None => Known::NotYet,
            Some((known, _)) if *known > frame => Known::Never,
            Some(_) => {
                let found = self.known.pop_front().and_then(|(_, found)| found);
                found.map_or(Known::Never, Known::Found)
            }
        }
    }
}

/// The places that a message of the input `detections` shows.
///
/// # Errors
/// Where it is neither `tracks` nor a hub detector's boxes, or malformed.
pub fn candidates(array: &dyn Array, metadata: &Metadata) -> Result<Vec<Candidate>, SchemaError> {
    let columns = array.as_struct_opt();
    if columns.is_some_and(|rows| rows.column_by_name("track_id").is_some()) {
        let info = TracksInfo::read(metadata)?;
        let rows = tracks::decode(array, info.width, info.height)?;
        let seen = rows.into_iter().filter(|track| track.visible);
        return Ok(seen
            .map(|track| candidate(track.bbox, point_on(&track.mask, &track.bbox), track.score))
            .collect());
    }
    let boxes = boxes2d::decode(array, metadata)?.into_iter();
    Ok(boxes
        .map(|found| candidate(found.bbox, found.bbox.center(), found.score))
        .collect())
}

fn candidate(bbox: BBox, point: (f32, f32), score: f32) -> Candidate {
    Candidate {
        point: [point.0, point.1],
        bbox: Some(bbox),
        score: score.clamp(0.0, 1.0),
        strategy: NAME,
    }
}

/// The centre of the box, moved to the nearest of the object's pixels.
fn point_on(mask: &Mask, bbox: &BBox) -> (f32, f32) {
    let centre = bbox.center();
    let nearest = mask.spans().map(|(x, y0, y1)| {
        let point = (
            x as f32 + 0.5,
            centre.1.clamp(y0 as f32 + 0.5, y1 as f32 - 0.5),
        );
        let distance = (point.0 - centre.0).hypot(point.1 - centre.1);
        (distance, point)
    });
    nearest
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(centre, |(_, point)| point)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tracklens_schemas::{Track, TrackId, TrackState, TracksStatus};

    use super::*;

    const FRAME: FrameIndex = FrameIndex(5);

    fn found(x: f32) -> Vec<Candidate> {
        let bbox = BBox::new(x, 0.0, x + 10.0, 10.0);
        vec![candidate(bbox, bbox.center(), 0.5)]
    }

    fn exact(frames: &[u64]) -> Detections {
        let mut detections = Detections::new(DetectionsUse::Exact);
        for &frame in frames {
            assert!(detections.add(FrameIndex(frame), Some(found(frame as f32)), FrameIndex(0)));
        }
        detections
    }

    #[test]
    fn a_lossless_look_takes_its_own_frames_detections() {
        assert_eq!(exact(&[4, 5, 6]).take(FRAME), Known::Found(found(5.0)));
        assert_eq!(exact(&[3, 4]).take(FRAME), Known::NotYet);
        assert_eq!(exact(&[]).take(FRAME), Known::NotYet);
    }

    #[test]
    fn what_was_lost_or_cannot_be_read_is_not_waited_for() {
        assert_eq!(exact(&[4, 6]).take(FRAME), Known::Never);
        let mut detections = exact(&[4]);
        detections.add(FRAME, None, FRAME);
        assert_eq!(detections.take(FRAME), Known::Never);
    }

    #[test]
    fn a_live_look_takes_the_newest_once() {
        let mut detections = Detections::new(DetectionsUse::Newest);
        assert_eq!(detections.take(FRAME), Known::Never);
        for frame in [1, 2] {
            assert!(!detections.add(FrameIndex(frame), Some(found(frame as f32)), FRAME));
        }
        assert_eq!(detections.take(FRAME), Known::Found(found(2.0)));
        assert_eq!(detections.take(FRAME), Known::Never);
    }

    #[test]
    fn the_point_of_a_track_lies_on_it_and_hidden_ones_are_none() {
        let ring: Vec<u8> = (0..100)
            .map(|at| u8::from(!((2..8).contains(&(at % 10)) && (2..8).contains(&(at / 10)))))
            .collect();
        let track = |id: u32, visible: bool| Track {
            track_id: TrackId(id),
            bbox: BBox::new(0.0, 0.0, 10.0, 10.0),
            mask: Mask::from_bitmap(&ring, 10, 10),
            area: 64,
            score: 0.9,
            visible,
            state: TrackState::Tracked,
            age: 1,
        };
        let info = TracksInfo {
            status: TracksStatus::Ok,
            processing_ms: 1.0,
            model: "motion".into(),
            width: 10,
            height: 10,
        };
        let mut metadata = Metadata::default();
        info.write(&mut metadata);
        let rows = tracks::encode(&[track(1, true), track(2, false)]);
        let found = candidates(&rows, &metadata).unwrap();
        assert_eq!(found.len(), 1);
        let [x, y] = found[0].point.map(|edge| edge as usize);
        assert_eq!(ring[y * 10 + x], 1, "{x} {y}");
        assert!(candidates(&rows, &Metadata::default()).is_err());
    }
}
