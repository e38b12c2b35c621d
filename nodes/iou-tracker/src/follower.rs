//! Detector and trackers put together: frames of many streams in, published tracks out.

use std::collections::HashMap;

use tracklens_schemas::{Epoch, FrameId, Image, StreamId, Track};

use crate::detector::{Detector, DetectorError, StreamFrame};
use crate::motion::blob_split::split;
use crate::tracker::{Tracker, TrackerSettings};

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
    pub fn follow(
        &mut self,
        frames: &[(&FrameId, Image<'_>)],
    ) -> Result<Vec<Vec<Track>>, DetectorError> {
        for (id, _) in frames {
            let fresh = || (id.epoch, Tracker::new(self.settings, self.first_id));
            let (epoch, tracker) = self.streams.entry(id.stream.clone()).or_insert_with(fresh);
            if *epoch != id.epoch {
                *epoch = id.epoch;
                tracker.forget();
                self.detector.release(&id.stream);
            }
        }
        let seen: Vec<StreamFrame<'_>> = frames
            .iter()
            .map(|(id, image)| StreamFrame {
                stream: &id.stream,
                image: *image,
            })
            .collect();
        let found = self.detector.detect(&seen)?;
        let tracks = frames.iter().zip(found).map(|((id, image), found)| {
            let info = &image.info;
            let (width, height) = (info.source_width, info.source_height);
            let found = found.into_iter().filter_map(|d| d.into_source(info));
            let Some((_, tracker)) = self.streams.get_mut(&id.stream) else {
                return Vec::new();
            };
            let expected: Vec<_> = tracker.expected().collect();
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
