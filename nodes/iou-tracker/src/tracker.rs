//! The objects of one stream: who is who from frame to frame.
//!
//! Detections are matched to predicted boxes in two passes as in ByteTrack (Zhang et al., 2022):
//! first the certain ones, then the uncertain ones for tracks still without a match; only certain
//! ones begin new tracks. A track is published once it has been seen often enough, then until it
//! has been missing for too long.
//!
//! Where a detector gives the pixels of each object ([`Shapes::Masks`]), its last mask, moved as its
//! box is expected to, is compared instead of the box: boxes of an object and of what is behind it,
//! or of a part and the whole, overlap much, and their masks do not.

use tracklens_schemas::{BBox, Mask, Track, TrackId, TrackState};

use crate::association::associate;
use crate::column_runs::moved;
use crate::detector::{Shapes, SourceDetection};
use crate::kalman::BoxFilter;

/// Overlap that the second pass asks for.
const SECOND_PASS_IOU: f32 = 0.3;
/// Share of the least area down to which a known object is still followed.
pub(crate) const FOLLOWED_AREA: f32 = 0.4;
/// Share of an unseen object's box that may lie outside the frame before it counts as gone.
const OUTSIDE: f32 = 0.6;

/// How tracks begin and end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackerSettings {
    /// Detections from this score on are certain.
    pub score: f32,
    /// Objects begin with at least this many pixels of the source frame.
    pub min_area: u32,
    /// Overlap of a predicted box with a detection below which they are not the same object.
    pub min_iou: f32,
    /// Frames in a row in which an object must be seen before it is published.
    pub confirm_frames: u32,
    /// Frames without sight after which an occluded object is lost.
    pub occluded_frames: u32,
    /// Frames without sight after which an object is forgotten.
    pub lost_frames: u32,
    /// Most objects of a stream.
    pub max_objects: usize,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self {
            score: 0.3,
            min_area: 1000,
            min_iou: 0.2,
            confirm_frames: 3,
            occluded_frames: 8,
            lost_frames: 25,
            max_objects: 50,
        }
    }
}

#[derive(Debug)]
struct Object {
    /// Given when the object is confirmed.
    id: Option<TrackId>,
    filter: BoxFilter,
    predicted: BBox,
    /// The last mask and its box; kept where objects are told apart by their masks.
    last: Option<(Mask, BBox)>,
    /// The last mask where it is expected now.
    expected: Option<Mask>,
    seen: u32,
    missed: u32,
    age: u32,
    score: f32,
}

/// The tracks of one stream.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    shapes: Shapes,
    next_id: u32,
    objects: Vec<Object>,
}

impl Tracker {
    /// A tracker of a detector's `shapes` whose first track gets the id `first_id`; ids grow from
    /// there and are never used again.
    #[must_use]
    pub fn new(settings: TrackerSettings, shapes: Shapes, first_id: u32) -> Self {
        Self {
            settings,
            shapes,
            next_id: first_id,
            objects: Vec::new(),
        }
    }

    /// Forgets all objects (the stream was opened anew); ids go on.
    pub fn forget(&mut self) {
        self.objects.clear();
    }

    /// Where known, published objects are expected in the next frame, in pixels of the source
    /// frame.
    pub fn expected(&self) -> impl Iterator<Item = BBox> + '_ {
        self.objects
            .iter()
            .filter(|object| object.id.is_some())
            .map(|object| {
                let mut filter = object.filter.clone();
                filter.predict();
                filter.bbox()
            })
    }

    /// Takes in the detections of the next frame, a source frame of `width` times `height`, and
    /// tells all published objects, ordered by id. Unseen ones have an empty mask and the predicted
    /// box.
    pub fn update(
        &mut self,
        width: u32,
        height: u32,
        detections: Vec<SourceDetection>,
    ) -> Vec<Track> {
        for object in &mut self.objects {
            object.filter.predict();
            object.predicted = object.filter.bbox();
            object.expected = object.expected_mask();
            object.age = object.age.saturating_add(1);
        }
        let mut detections: Vec<Option<SourceDetection>> = detections
            .into_iter()
            .filter(|d| d.area as f32 >= FOLLOWED_AREA * self.settings.min_area as f32)
            .map(Some)
            .collect();
        let mut matched: Vec<Option<SourceDetection>> = Vec::new();
        matched.resize_with(self.objects.len(), || None);
        // Published objects choose first; what has just appeared gets what they leave.
        for (certain, published) in [(true, true), (true, false), (false, true)] {
            self.pass(certain, published, &mut detections, &mut matched);
        }
        let mut tracks = Vec::new();
        for (object, detection) in self.objects.iter_mut().zip(matched) {
            let track = match detection {
                Some(detection) => {
                    object.keep(&detection, self.shapes);
                    object.saw(detection, &self.settings, &mut self.next_id)
                }
                None => object.missed(width, height, &self.settings),
            };
            tracks.extend(track);
        }
        let lost_frames = self.settings.lost_frames;
        self.objects.retain(|object| {
            let patience = if object.id.is_some() { lost_frames } else { 0 };
            object.missed <= patience && !object.gone(width, height)
        });
        self.begin(detections);
        tracks.sort_unstable_by_key(|track| track.track_id);
        tracks
    }

    fn pass(
        &self,
        certain: bool,
        published: bool,
        detections: &mut [Option<SourceDetection>],
        matched: &mut [Option<SourceDetection>],
    ) {
        let rows: Vec<usize> = (0..self.objects.len())
            .filter(|&i| matched[i].is_none() && self.objects[i].id.is_some() == published)
            .collect();
        let columns: Vec<usize> = (0..detections.len())
            .filter(|&i| {
                detections[i]
                    .as_ref()
                    .is_some_and(|d| (d.score >= self.settings.score) == certain)
            })
            .collect();
        let min_iou = if certain {
            self.settings.min_iou
        } else {
            SECOND_PASS_IOU
        };
        let overlap = |row: usize, column: usize| {
            let detection = detections[columns[column]].as_ref();
            detection.map_or(0.0, |d| self.objects[rows[row]].overlap(d))
        };
        for (row, column) in associate(rows.len(), columns.len(), min_iou, overlap) {
            matched[rows[row]] = detections[columns[column]].take();
        }
    }

    fn begin(&mut self, detections: Vec<Option<SourceDetection>>) {
        let mut fresh: Vec<SourceDetection> = detections
            .into_iter()
            .flatten()
            .filter(|d| d.score >= self.settings.score && d.area >= self.settings.min_area)
            .collect();
        fresh.sort_by(|a, b| b.score.total_cmp(&a.score));
        let room = self.settings.max_objects.saturating_sub(self.objects.len());
        self.objects
            .extend(fresh.into_iter().take(room).map(|detection| {
                let mut object = Object::new(&detection);
                object.keep(&detection, self.shapes);
                object
            }));
    }
}

impl Object {
    fn new(detection: &SourceDetection) -> Self {
        Self {
            id: None,
            filter: BoxFilter::new(&detection.bbox),
            predicted: detection.bbox,
            last: None,
            expected: None,
            seen: 1,
            missed: 0,
            age: 0,
            score: detection.score,
        }
    }

    /// How much a detection lies where the object is expected.
    fn overlap(&self, detection: &SourceDetection) -> f32 {
        match &self.expected {
            Some(mask) => mask.iou(&detection.mask),
            None => self.predicted.iou(&detection.bbox),
        }
    }

    /// The last mask, moved as the box is expected to move.
    fn expected_mask(&self) -> Option<Mask> {
        let (mask, bbox) = self.last.as_ref()?;
        let (from, to) = (bbox.center(), self.predicted.center());
        let by = (to.0 - from.0, to.1 - from.1);
        Some(moved(mask, (by.0.round() as i64, by.1.round() as i64)))
    }

    fn keep(&mut self, detection: &SourceDetection, shapes: Shapes) {
        if shapes == Shapes::Masks {
            self.last = Some((detection.mask.clone(), detection.bbox));
        }
    }

    fn saw(
        &mut self,
        detection: SourceDetection,
        settings: &TrackerSettings,
        next_id: &mut u32,
    ) -> Option<Track> {
        self.filter.update(&detection.bbox);
        self.seen = self.seen.saturating_add(1);
        self.missed = 0;
        self.score = detection.score;
        let mut state = TrackState::Tracked;
        if self.id.is_none() && self.seen >= settings.confirm_frames {
            self.id = Some(TrackId(*next_id));
            *next_id = next_id.saturating_add(1);
            state = TrackState::New;
        }
        Some(Track {
            track_id: self.id?,
            bbox: detection.bbox,
            area: detection.area,
            mask: detection.mask,
            score: detection.score,
            visible: true,
            state,
            age: self.age,
        })
    }

    fn missed(&mut self, width: u32, height: u32, settings: &TrackerSettings) -> Option<Track> {
        self.missed = self.missed.saturating_add(1);
        self.filter.coast();
        let bbox = self.predicted.clamp(width, height);
        if self.missed > settings.lost_frames || self.gone(width, height) || !bbox.is_valid() {
            return None;
        }
        let occluded = self.missed <= settings.occluded_frames;
        Some(Track {
            track_id: self.id?,
            bbox,
            mask: Mask::empty(width, height),
            area: 0,
            score: self.score,
            visible: false,
            state: if occluded {
                TrackState::Occluded
            } else {
                TrackState::Lost
            },
            age: self.age,
        })
    }

    /// Whether an unseen object has left the frame.
    fn gone(&self, width: u32, height: u32) -> bool {
        let inside = self.predicted.clamp(width, height).area();
        self.missed > 0 && inside <= (1.0 - OUTSIDE) * self.predicted.area()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::box_mask;

    const SIZE: (u32, u32) = (640, 360);

    fn person(x: f32, score: f32) -> SourceDetection {
        let bbox = BBox::new(x, 100.0, x + 30.0, 180.0);
        let mask = box_mask(&bbox, SIZE.0, SIZE.1);
        SourceDetection {
            bbox,
            area: mask.area() as u32,
            score,
            class: None,
            mask,
        }
    }

    fn tracker() -> Tracker {
        Tracker::new(TrackerSettings::default(), Shapes::Boxes, 1 << 20)
    }

    fn step(tracker: &mut Tracker, detections: Vec<SourceDetection>) -> Vec<(u32, TrackState)> {
        let tracks = tracker.update(SIZE.0, SIZE.1, detections);
        tracks
            .iter()
            .map(|t| (t.track_id.0 - (1 << 20), t.state))
            .collect()
    }

    #[test]
    fn publishes_only_what_is_seen_three_times() {
        let mut tracker = tracker();
        assert_eq!(step(&mut tracker, vec![person(50.0, 0.9)]), []);
        assert_eq!(
            step(&mut tracker, vec![person(53.0, 0.9), person(400.0, 0.9)]),
            []
        );
        assert_eq!(
            step(&mut tracker, vec![person(56.0, 0.9)]),
            [(0, TrackState::New)]
        );
        assert_eq!(
            step(&mut tracker, vec![person(59.0, 0.9)]),
            [(0, TrackState::Tracked)]
        );
    }

    #[test]
    fn keeps_the_id_through_an_occlusion_and_forgets_in_the_end() {
        let mut tracker = tracker();
        for i in 0..10 {
            step(&mut tracker, vec![person(50.0 + 4.0 * i as f32, 0.9)]);
        }
        for _ in 0..5 {
            assert_eq!(step(&mut tracker, vec![]), [(0, TrackState::Occluded)]);
        }
        assert_eq!(
            step(&mut tracker, vec![person(108.0, 0.9)]),
            [(0, TrackState::Tracked)]
        );
        let mut last = Vec::new();
        for _ in 0..25 {
            last = step(&mut tracker, vec![]);
        }
        assert_eq!(last, [(0, TrackState::Lost)]);
        assert_eq!(step(&mut tracker, vec![]), []);
        // The same place again is somebody else.
        for _ in 0..3 {
            last = step(&mut tracker, vec![person(108.0, 0.9)]);
        }
        assert_eq!(last, [(1, TrackState::New)]);
    }

    #[test]
    fn uncertain_detections_keep_tracks_alive_but_begin_none() {
        let mut tracker = tracker();
        for _ in 0..3 {
            step(&mut tracker, vec![person(50.0, 0.9)]);
        }
        for _ in 0..10 {
            let tracks = step(&mut tracker, vec![person(50.0, 0.1), person(300.0, 0.1)]);
            assert_eq!(tracks, [(0, TrackState::Tracked)]);
        }
    }

    #[test]
    fn an_object_that_walks_out_is_not_waited_for() {
        let mut tracker = tracker();
        for i in 0..20 {
            step(&mut tracker, vec![person(540.0 + 5.0 * i as f32, 0.9)]);
        }
        let mut frames = 0;
        while !step(&mut tracker, vec![]).is_empty() {
            frames += 1;
        }
        assert!(frames < 10, "{frames}");
    }

    #[test]
    fn respects_the_limit_and_forgets_on_request() {
        let settings = TrackerSettings {
            max_objects: 1,
            ..TrackerSettings::default()
        };
        let mut tracker = Tracker::new(settings, Shapes::Boxes, 1 << 20);
        for _ in 0..4 {
            step(&mut tracker, vec![person(50.0, 0.8), person(300.0, 0.9)]);
        }
        let tracks = tracker.update(SIZE.0, SIZE.1, vec![person(300.0, 0.9)]);
        assert_eq!(tracks.len(), 1);
        assert_eq!(tracks[0].bbox, person(300.0, 0.9).bbox);
        tracker.forget();
        assert_eq!(step(&mut tracker, vec![]), []);
    }

    /// A frame of 40 pixels, and the square inside it: nearly the same box, no common pixel.
    fn frame_and_square(left: f32) -> [SourceDetection; 2] {
        let outer = BBox::new(left, 100.0, left + 40.0, 140.0);
        let inner = BBox::new(left + 4.0, 104.0, left + 36.0, 136.0);
        let bitmap = |bbox| box_mask(&bbox, SIZE.0, SIZE.1).to_bitmap();
        let (mut frame, square) = (bitmap(outer), bitmap(inner));
        let inside = frame.iter_mut().zip(&square);
        inside.for_each(|(frame, square)| *frame &= 1 - square);
        [(outer, frame), (inner, square)].map(|(bbox, bitmap)| {
            let mask = Mask::from_bitmap(&bitmap, SIZE.0, SIZE.1);
            SourceDetection {
                bbox,
                area: mask.area() as u32,
                score: 0.9,
                class: None,
                mask,
            }
        })
    }

    #[test]
    fn masks_tell_apart_what_boxes_do_not() {
        let ids = |shapes: Shapes| {
            let settings = TrackerSettings {
                min_area: 100,
                ..TrackerSettings::default()
            };
            let mut tracker = Tracker::new(settings, shapes, 1 << 20);
            let mut ids = Vec::new();
            for step in 0..12 {
                let [frame, square] = frame_and_square(50.0 + 5.0 * step as f32);
                // One goes, the other comes.
                let found = if step < 6 { frame } else { square };
                let tracks = tracker.update(SIZE.0, SIZE.1, vec![found]);
                let seen = tracks.iter().filter(|track| track.visible);
                ids.extend(seen.map(|track| track.track_id.0 - (1 << 20)));
            }
            ids
        };
        assert_eq!(ids(Shapes::Boxes), [0; 10]);
        assert_eq!(ids(Shapes::Masks), [0, 0, 0, 0, 1, 1, 1, 1]);
    }
}
