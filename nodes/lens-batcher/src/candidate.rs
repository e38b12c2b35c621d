//! Which picture of an object is worth asking about, and when.
//!
//! Per object the best crop so far is kept: large, sharp, of a mask the tracker believes in, not cut
//! by the border of the frame. It is asked about once the object has been there for a while, and again
//! no sooner than an interval later. Time is the caller's: stream time where the same input shall ask
//! the same things, the wall clock where frames come live.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tracklens_schemas::{BBox, Crop, Header, Mask, StreamId, Track, TrackId};

use crate::Picture;

/// Objects remembered at once; the one not seen for the longest time makes room.
const OBJECTS: usize = 4096;
/// An object that was not seen for this long will not be: track ids are never used again.
const GONE: Duration = Duration::from_secs(60);
/// Side in pixels beyond which a larger picture is no better.
const LARGE: f32 = 224.0;
/// Sharpness (variance of the Laplacian) that counts half.
const SHARP: f32 = 100.0;
/// What a picture cut by the border counts.
const CUT: f32 = 0.25;

/// An object, over all streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Its stream.
    pub stream: StreamId,
    /// Its track there.
    pub track: TrackId,
}

/// What is known of an object on the frame of its crop.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Predicted IoU of the mask, 0 to 1.
    pub score: f32,
    /// Whether the object's box touches the border of the frame.
    pub at_border: bool,
    /// The mask, of the frame's size.
    pub mask: Option<Arc<Mask>>,
}

impl Sight {
    /// What a tracker says on a frame of this size in pixels.
    #[must_use]
    pub fn of(track: &Track, width: u32, height: u32) -> Self {
        let (b, margin) = (&track.bbox, 1.5);
        Self {
            score: track.score,
            at_border: b.x0 < margin
                || b.y0 < margin
                || b.x1 > width as f32 - margin
                || b.y1 > height as f32 - margin,
            mask: (track.mask.area() > 0).then(|| Arc::new(track.mask.clone())),
        }
    }

    /// Without a tracker's word.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            score: 1.0,
            at_border: false,
            mask: None,
        }
    }
}

/// How good a crop is for being recognised, 0 to 1.
#[must_use]
pub fn quality(crop: &Crop, sight: &Sight) -> f32 {
    let side = (crop.bbox.area().max(0.0).sqrt() / LARGE).min(1.0);
    let sharpness = crop.sharpness.max(0.0);
    let sharp = 0.3 + 0.7 * sharpness / (sharpness + SHARP);
    let whole = if sight.at_border { CUT } else { 1.0 };
    side * sharp * sight.score.clamp(0.0, 1.0) * whole
}

/// A question worth asking.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// About whom.
    pub object: Object,
    /// The frame on which it became due.
    pub header: Header,
    /// Its best picture.
    pub view: Arc<View>,
}

/// The best crop of an object.
#[derive(Clone, Debug)]
pub struct View {
    /// The frame it was cut from.
    pub frame: u64,
    /// The picture, with the object's mask where that is known.
    pub picture: Picture,
    /// What was cut, in source pixels.
    pub bbox: BBox,
    /// Its sharpness (variance of the Laplacian).
    pub sharpness: f32,
    /// How good it is.
    pub quality: f32,
}

/// When to ask.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Not before an object has been there for so long.
    pub after: Duration,
    /// Not again before so much later.
    pub interval: Duration,
}

#[derive(Debug)]
struct Known {
    began: i64,
    seen: i64,
    asked: Option<i64>,
    waiting: bool,
    best: Option<Arc<View>>,
}

/// All objects of all streams.
#[derive(Debug)]
pub struct Candidates {
    timing: Timing,
    objects: HashMap<Object, Known>,
}

impl Candidates {
    /// None yet.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            objects: HashMap::new(),
        }
    }

    /// An object is there at this time (nanoseconds).
    pub fn seen(&mut self, object: &Object, at: i64) {
        self.known(object, at);
    }

    /// An earlier process has asked about it at this time: it is not asked again too soon.
    pub fn asked_before(&mut self, object: &Object, at: i64) {
        self.known(object, at).asked = Some(at);
    }

    /// A crop of an object; kept if it is the best so far.
    pub fn offer(&mut self, object: &Object, at: i64, frame: u64, crop: Crop, sight: &Sight) {
        let quality = quality(&crop, sight);
        let known = self.known(object, at);
        if known
            .best
            .as_ref()
            .is_some_and(|best| best.quality >= quality)
        {
            return;
        }
        let Some(mut picture) = Picture::new(crop.width, crop.height, crop.pixels) else {
            return;
        };
        if let Some(mask) = &sight.mask {
            picture.mask = Some(cut_mask(mask, &crop.bbox, crop.width, crop.height));
        }
        known.best = Some(Arc::new(View {
            frame,
            picture,
            bbox: crop.bbox,
            sharpness: crop.sharpness,
            quality,
        }));
    }

    fn known(&mut self, object: &Object, at: i64) -> &mut Known {
        if !self.objects.contains_key(object) && self.objects.len() >= OBJECTS {
            let longest_unseen = self
                .objects
                .iter()
                .min_by_key(|(object, known)| (known.seen, *object));
            if let Some(oldest) = longest_unseen.map(|(object, _)| object.clone()) {
                self.objects.remove(&oldest);
            }
        }
        let known = self.objects.entry(object.clone()).or_insert(Known {
            began: at,
            seen: at,
            asked: None,
            waiting: false,
            best: None,
        });
        known.seen = known.seen.max(at);
        known
    }

    /// The questions of a stream that are due on this frame, in the order of their tracks. They count
    /// as asked; none is asked again before [`Self::answered`].
    pub fn due(&mut self, header: &Header, at: i64) -> Vec<Candidate> {
        let (after, interval) = (nanos(self.timing.after), nanos(self.timing.interval));
        let stream = &header.id.stream;
        self.objects.retain(|object, known| {
            object.stream != *stream
                || known.waiting
                || at.saturating_sub(known.seen) <= nanos(GONE)
        });
        let mut due: Vec<Candidate> = Vec::new();
        for (object, known) in &mut self.objects {
            let Some(best) = known.best.as_ref().filter(|_| object.stream == *stream) else {
                continue;
            };
            let ready = match known.asked {
                None => at.saturating_sub(known.began) >= after,
                Some(asked) => at.saturating_sub(asked) >= interval && known.seen > asked,
            };
            if ready && !known.waiting {
                known.asked = Some(at);
                known.waiting = true;
                due.push(Candidate {
                    object: object.clone(),
                    header: header.clone(),
                    view: best.clone(),
                });
            }
        }
        due.sort_by(|a, b| a.object.cmp(&b.object));
        due
    }

    /// The question about this object is answered, or given up.
    pub fn answered(&mut self, object: &Object) {
        if let Some(known) = self.objects.get_mut(object) {
            known.waiting = false;
        }
    }

    /// When this object was asked about last.
    #[must_use]
    pub fn asked(&self, object: &Object) -> Option<i64> {
        self.objects.get(object)?.asked
    }

    /// A stream has ended.
    pub fn forget(&mut self, stream: &StreamId) {
        self.objects.retain(|object, _| object.stream != *stream);
    }

    /// How many objects are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The part of a frame's mask that lies under a crop of it, at the crop's size.
fn cut_mask(mask: &Mask, bbox: &BBox, width: u32, height: u32) -> Vec<u8> {
    let mut cut = vec![0; width as usize * height as usize];
    let (x0, y0) = (bbox.x0 as i64, bbox.y0 as i64);
    let (wide, high) = (bbox.width().max(1.0), bbox.height().max(1.0));
    let place = |value: i64, side: f32, to: u32| {
        ((value as f32 * to as f32 / side)
            .round()
            .clamp(0.0, to as f32)) as usize
    };
    for (x, top, bottom) in mask.spans() {
        let x = i64::from(x) - x0;
        if x < 0 || x as f32 >= wide {
            continue;
        }
        let columns = place(x, wide, width)..place(x + 1, wide, width);
        let (top, bottom) = (i64::from(top) - y0, i64::from(bottom) - y0);
        for row in place(top, high, height)..place(bottom, high, height) {
            cut[row * width as usize..][columns.clone()].fill(1);
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use tracklens_schemas::{Epoch, FrameId, FrameIndex};

    const SECOND: i64 = 1_000_000_000;

    fn header(at: i64) -> Header {
        Header {
            id: FrameId {
                stream: "cam".parse().unwrap(),
                epoch: Epoch(0),
                frame: FrameIndex((at / 40_000_000) as u64),
            },
            pts_ns: at,
            capture_ns: 0,
        }
    }

    fn object(track: u32) -> Object {
        Object {
            stream: "cam".parse().unwrap(),
            track: TrackId(track),
        }
    }

    fn crop(side: u32, sharpness: f32) -> Crop {
        Crop {
            track_id: TrackId(1),
            bbox: BBox::new(10.0, 10.0, 10.0 + side as f32, 10.0 + side as f32),
            width: side,
            height: side,
            pixels: vec![7; (3 * side * side) as usize],
            sharpness,
        }
    }

    fn candidates() -> Candidates {
        Candidates::new(Timing {
            after: Duration::from_millis(1500),
            interval: Duration::from_secs(3),
        })
    }

    #[test]
    fn size_sharpness_score_and_an_uncut_box_make_a_picture_better() {
        let sight = Sight::unknown();
        let good = quality(&crop(100, 200.0), &sight);
        let weak = Sight {
            score: 0.5,
            ..Sight::unknown()
        };
        let border = Sight {
            at_border: true,
            ..Sight::unknown()
        };
        for worse in [
            quality(&crop(60, 200.0), &sight),
            quality(&crop(100, 20.0), &sight),
            quality(&crop(100, 200.0), &weak),
            quality(&crop(100, 200.0), &border),
        ] {
            assert!(worse < good);
        }
        assert!(good <= 1.0);
    }

    #[test]
    fn the_best_crop_is_asked_about_in_time_and_again_after_the_interval() {
        let mut candidates = candidates();
        let offer = |c: &mut Candidates, at: i64, side| {
            c.offer(
                &object(1),
                at,
                (at / 40_000_000) as u64,
                crop(side, 50.0),
                &Sight::unknown(),
            );
        };
        for (at, side) in [(0, 40), (SECOND, 90), (SECOND * 14 / 10, 60)] {
            offer(&mut candidates, at, side);
            assert!(candidates.due(&header(at), at).is_empty(), "{at}");
        }
        let due = candidates.due(&header(SECOND * 3 / 2), SECOND * 3 / 2);
        assert_eq!(due[0].view.picture.width, 90);
        assert_eq!((due[0].view.frame, due[0].header.id.frame.0), (25, 37));
        offer(&mut candidates, 5 * SECOND, 91);
        assert!(
            candidates.due(&header(5 * SECOND), 5 * SECOND).is_empty(),
            "no answer yet"
        );
        candidates.answered(&object(1));
        assert_eq!(
            candidates.due(&header(5 * SECOND), 5 * SECOND)[0]
                .view
                .picture
                .width,
            91
        );
        candidates.answered(&object(1));
        assert!(candidates.due(&header(7 * SECOND), 7 * SECOND).is_empty());
        let at = 9 * SECOND;
        assert!(candidates.due(&header(at), at).is_empty(), "not seen since");
        candidates.seen(&object(1), at);
        assert_eq!(candidates.due(&header(at), at).len(), 1);
    }

    #[test]
    fn what_an_earlier_process_asked_is_not_asked_again_too_soon() {
        let mut candidates = candidates();
        candidates.asked_before(&object(1), 10 * SECOND);
        candidates.offer(&object(1), 12 * SECOND, 9, crop(50, 1.0), &Sight::unknown());
        assert!(candidates.due(&header(12 * SECOND), 12 * SECOND).is_empty());
        assert_eq!(candidates.due(&header(13 * SECOND), 13 * SECOND).len(), 1);
    }

    #[test]
    fn objects_that_are_gone_and_streams_that_ended_are_forgotten() {
        let mut candidates = candidates();
        candidates.seen(&object(1), 0);
        candidates.seen(&object(2), 90 * SECOND);
        candidates.due(&header(90 * SECOND), 90 * SECOND);
        assert_eq!(candidates.len(), 1);
        candidates.forget(&"cam".parse().unwrap());
        assert!(candidates.is_empty());
        for track in 0..5000 {
            candidates.seen(&object(track), i64::from(track));
        }
        assert_eq!(candidates.len(), OBJECTS);
    }

    #[test]
    fn a_mask_is_cut_with_its_crop() {
        let mut bitmap = vec![0u8; 100 * 50];
        (10..20).for_each(|y| bitmap[y * 100 + 30..y * 100 + 50].fill(1));
        let mask = Mask::from_bitmap(&bitmap, 100, 50);
        let cut = cut_mask(&mask, &BBox::new(20.0, 5.0, 60.0, 25.0), 40, 20);
        assert_eq!(cut.iter().map(|&b| u32::from(b)).sum::<u32>(), 200);
        assert_eq!(
            (cut[5 * 40 + 10], cut[4 * 40 + 10], cut[5 * 40 + 9]),
            (1, 0, 0)
        );
        let half = cut_mask(&mask, &BBox::new(20.0, 5.0, 60.0, 25.0), 20, 10);
        assert_eq!(half.iter().map(|&b| u32::from(b)).sum::<u32>(), 50);
    }

    proptest! {
        /// Whatever comes when, no object is asked about twice within the interval.
        #[test]
        fn nobody_is_asked_about_too_often(
            steps in prop::collection::vec((0i64..2 * SECOND, 0u32..4, 1u32..30, any::<bool>()), 1..120),
        ) {
            let mut candidates = candidates();
            let mut began = HashMap::new();
            let mut asked: HashMap<Object, i64> = HashMap::new();
            let mut at = 0;
            for (gap, track, side, answer) in steps {
                at += gap / 4;
                candidates.offer(&object(track), at, 0, crop(side, 9.0), &Sight::unknown());
                began.entry(object(track)).or_insert(at);
                for candidate in candidates.due(&header(at), at) {
                    prop_assert!(at - began[&candidate.object] >= SECOND * 3 / 2);
                    if let Some(last) = asked.insert(candidate.object.clone(), at) {
                        prop_assert!(at - last >= 3 * SECOND);
                    }
                    if answer { candidates.answered(&candidate.object) }
                }
            }
        }
    }
}
