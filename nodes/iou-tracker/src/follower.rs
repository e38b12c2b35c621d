//! Detector and trackers put together: frames of many streams in, published tracks out.

use std::collections::HashMap;

use tracklens_schemas::{Epoch, FrameId, Image, Prompt, StreamId, Track};

use crate::detector::{Detector, DetectorError, Shapes, StreamFrame};
use crate::motion::blob_split::split;
use crate::tracker::{Tracker, TrackerSettings};

/// A frame to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Which it is.
    pub id: &'a FrameId,
    /// Its pixels.
    pub image: Image<'a>,
    /// The prompts made on it, for a detector that takes them.
    pub prompts: &'a [Prompt],
}

/// Follows the objects of any number of streams.
pub struct Follower {
    detector: Box<dyn Detector>,
    settings: TrackerSettings,
    first_id: u32,
    streams: HashMap<StreamId, (Epoch, Tracker)>,
}

impl Follower {
    /// Streams get track ids from `first_id` on.
    #[must_use]
    pub fn new(detector: Box<dyn Detector>, settings: TrackerSettings, first_id: u32) -> Self {
        Self {
            detector,
            settings,
            first_id,
            streams: HashMap::new(),
        }
    }

    /// Name of the detector's model.
    #[must_use]
    pub fn model(&self) -> &str {
        self.detector.model()
    }

    /// Most frames that are worth giving in one call.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        self.detector.max_batch()
    }

    /// The published tracks of each frame, in the order of the frames, which are of different
    /// streams. A new epoch starts without objects; ids go on.
    ///
    /// # Errors
    /// Where the detector failed: the frames have no tracks, and the next ones go on from the
    /// frames before.
    pub fn follow(&mut self, frames: &[Seen<'_>]) -> Result<Vec<Vec<Track>>, DetectorError> {
        let shapes = self.detector.shapes();
        for Seen { id, .. } in frames {
            let fresh = || {
                let tracker = Tracker::new(self.settings, shapes, self.first_id);
                (id.epoch, tracker)
            };
            let (epoch, tracker) = self.streams.entry(id.stream.clone()).or_insert_with(fresh);
            if *epoch != id.epoch {
                *epoch = id.epoch;
                tracker.forget();
                self.detector.release(&id.stream);
            }
        }
        let seen: Vec<StreamFrame<'_>> = frames
            .iter()
            .map(|frame| StreamFrame {
                stream: &frame.id.stream,
                image: frame.image,
                prompts: frame.prompts,
            })
            .collect();
        let found = self.detector.detect(&seen)?;
        let tracks = frames.iter().zip(found).map(|(frame, found)| {
            let info = &frame.image.info;
            let (width, height) = (info.source_width, info.source_height);
            let found = found.into_iter().filter_map(|d| d.into_source(info));
            let Some((_, tracker)) = self.streams.get_mut(&frame.id.stream) else {
                return Vec::new();
            };
            let expected: Vec<_> = match shapes {
                Shapes::Blobs => tracker.expected().collect(),
                Shapes::Boxes | Shapes::Masks => Vec::new(),
            };
            let found = found
                .flat_map(|detection| split(detection, &expected))
                .collect();
            tracker.update(width, height, found)
        });
        Ok(tracks.collect())
    }

    /// Forgets a closed stream but for its ids.
    pub fn release(&mut self, stream: &StreamId) {
        self.detector.release(stream);
        if let Some((_, tracker)) = self.streams.get_mut(stream) {
            tracker.forget();
        }
    }
}
