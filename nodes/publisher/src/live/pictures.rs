//! Pictures for the live page: a few frames a second, shrunk, each joined to its tracks.
//!
//! Only streams that somebody looks at are worked on. A frame comes before its tracks; it waits,
//! shrunk, and those whose tracks do not come are let go. JPEG is coded when a picture is sent.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracklens_schemas::jsonl::write_track_row;
use tracklens_schemas::{Header, Image, StreamId, Track, TracksInfo};
use tracklens_video::{JpegEncoder, Shrinker, Still, VideoError};

use crate::pairing::Position;

/// Shrunk frames of a stream that may wait for their tracks.
const WAITING: usize = 16;
/// Frames' tracks that are kept in case the frame comes later.
const EARLY: usize = 8;

/// A picture to be shown.
#[derive(Debug)]
pub struct Picture {
    /// Grows from picture to picture, over all streams.
    pub number: u64,
    /// JSON: whose frame this is, and the rows of its tracks.
    pub head: Vec<u8>,
    still: Option<Still>,
    jpeg: OnceLock<Vec<u8>>,
}

impl Picture {
    /// The JPEG file; empty where there are no frames. Coded once, for the first who asks.
    pub fn jpeg(&self, encoder: &mut JpegEncoder) -> &[u8] {
        self.jpeg.get_or_init(|| match &self.still {
            Some(still) => encoder.encode(still).unwrap_or_else(|error| {
                tracing::warn!(%error, "live page: no picture");
                Vec::new()
            }),
            None => Vec::new(),
        })
    }
}

/// The pictures of all streams.
#[derive(Default)]
pub struct Pictures {
    interval: Duration,
    /// Whether frames come at all; without, tracks are shown on nothing.
    with_frames: bool,
    number: u64,
    shrinker: Shrinker,
    streams: BTreeMap<StreamId, StreamPictures>,
}

#[derive(Default)]
struct StreamPictures {
    taken: Option<Instant>,
    waiting: VecDeque<(Position, Still)>,
    early: VecDeque<(Header, TracksInfo, Vec<Track>)>,
    newest: Option<Arc<Picture>>,
}

impl StreamPictures {
    /// Whether it is time for a picture; takes note where it is. Half of a fast source's frame
    /// period is forgiven, so that 25 frames a second give 12.5 pictures and not 8.3.
    fn due(&mut self, interval: Duration, now: Instant) -> bool {
        let early = interval / 8;
        let due = self
            .taken
            .is_none_or(|at| now.duration_since(at) + early >= interval);
        if due {
            self.taken = Some(now);
        }
        due
    }
}

impl Pictures {
    /// At most so many pictures a second of each stream.
    #[must_use]
    pub fn new(per_second: f64, with_frames: bool) -> Self {
        Self {
            interval: Duration::from_secs_f64(1.0 / per_second.clamp(0.1, 120.0)),
            with_frames,
            ..Self::default()
        }
    }

    /// A frame; `width` is the widest picture that somebody wants of this stream.
    ///
    /// # Errors
    /// Where it cannot be shrunk.
    pub fn frame(
        &mut self,
        header: &Header,
        image: &Image<'_>,
        width: u32,
        now: Instant,
    ) -> Result<bool, VideoError> {
        let stream = self.streams.entry(header.id.stream.clone()).or_default();
        let at = (header.id.epoch, header.id.frame);
        let again = stream.waiting.back().is_some_and(|(last, _)| at <= *last);
        if again || stream.waiting.len() >= WAITING || !stream.due(self.interval, now) {
            return Ok(false);
        }
        let still = self.shrinker.still(image, width)?;
        let own = stream
            .early
            .iter()
            .position(|(header, ..)| (header.id.epoch, header.id.frame) == at);
        match own.and_then(|index| stream.early.remove(index)) {
            Some((header, info, tracks)) => {
                self.show(&header, &info, &tracks, Some(still));
                Ok(true)
            }
            None => {
                stream.waiting.push_back((at, still));
                Ok(false)
            }
        }
    }

    /// The tracks of a frame. Says whether there is a new picture.
    pub fn tracks(
        &mut self,
        header: &Header,
        info: &TracksInfo,
        tracks: &[Track],
        now: Instant,
    ) -> bool {
        let (interval, with_frames) = (self.interval, self.with_frames);
        let stream = self.streams.entry(header.id.stream.clone()).or_default();
        if !with_frames {
            let due = stream.due(interval, now);
            if due {
                self.show(header, info, tracks, None);
            }
            return due;
        }
        let at = (header.id.epoch, header.id.frame);
        while stream.waiting.front().is_some_and(|(frame, _)| *frame < at) {
            stream.waiting.pop_front();
        }
        if stream
            .waiting
            .front()
            .is_some_and(|(frame, _)| *frame == at)
        {
            let still = stream.waiting.pop_front().map(|(_, still)| still);
            self.show(header, info, tracks, still);
            return true;
        }
        if stream.waiting.is_empty() {
            let entry = (header.clone(), info.clone(), tracks.to_vec());
            stream.early.push_back(entry);
            if stream.early.len() > EARLY {
                stream.early.pop_front();
            }
        }
        false
    }

    fn show(&mut self, header: &Header, info: &TracksInfo, tracks: &[Track], still: Option<Still>) {
        self.number += 1;
        let picture = Picture {
            number: self.number,
            head: head(header, info, tracks),
            still,
            jpeg: OnceLock::new(),
        };
        let stream = self.streams.entry(header.id.stream.clone()).or_default();
        stream.newest = Some(Arc::new(picture));
    }

    /// The newest picture of each stream that is newer than `number`, oldest first.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<(&StreamId, Arc<Picture>)> {
        let newest = self
            .streams
            .iter()
            .filter_map(|(id, stream)| stream.newest.clone().map(|picture| (id, picture)));
        let mut new: Vec<_> = newest
            .filter(|(_, picture)| picture.number > number)
            .collect();
        new.sort_by_key(|(_, picture)| picture.number);
        new
    }

    /// The stream is closed: its last picture stays, what waits is let go.
    pub fn close(&mut self, stream: &StreamId) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.waiting.clear();
            stream.early.clear();
        }
    }

    /// Nobody looks: what waits is let go.
    pub fn rest(&mut self) {
        for stream in self.streams.values_mut() {
            stream.waiting.clear();
            stream.early.clear();
        }
    }
}

fn head(header: &Header, info: &TracksInfo, tracks: &[Track]) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    let id = &header.id;
    // Writing to memory cannot fail.
    let _infallible = write!(
        head,
        "{{\"kind\":\"picture\",\"stream_id\":\"{}\",\"epoch\":{},\"frame\":{},\"pts_ns\":{},\
         \"width\":{},\"height\":{},\"rows\":[",
        id.stream, id.epoch.0, id.frame.0, header.pts_ns, info.width, info.height
    );
    write_rows(&mut head, header, tracks);
    head.extend_from_slice(b"]}");
    head
}

/// The rows of a frame as the elements of a JSON list.
pub(crate) fn write_rows(out: &mut Vec<u8>, header: &Header, tracks: &[Track]) {
    for (index, track) in tracks.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_track_row(out, header, track);
        if out.last() == Some(&b'\n') {
            out.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{header, info, track};
    use tracklens_schemas::{ImageInfo, PixelEncoding};

    fn frame(pictures: &mut Pictures, number: u64, now: Instant) -> bool {
        let info = ImageInfo::new(64, 48, PixelEncoding::Yuv420p);
        let pixels = vec![128; info.byte_len()];
        let image = Image::new(info, &pixels).unwrap();
        pictures
            .frame(&header("cam", 0, number), &image, 32, now)
            .unwrap()
    }

    fn tracks(pictures: &mut Pictures, number: u64, now: Instant) -> bool {
        pictures.tracks(&header("cam", 0, number), &info(), &[track(3)], now)
    }

    #[test]
    fn a_frame_is_shown_with_its_own_tracks_whichever_comes_first() {
        let mut pictures = Pictures::new(25.0, true);
        let start = Instant::now();
        let at = |frame: u64| start + Duration::from_millis(40 * frame);
        for number in 0..3 {
            assert!(!frame(&mut pictures, number, at(number)));
        }
        assert!(tracks(&mut pictures, 1, at(3)));
        assert!(!tracks(&mut pictures, 3, at(3)));
        assert!(frame(&mut pictures, 3, at(4)));
        let new = pictures.after(1);
        assert_eq!(new.len(), 1);
        let head: serde_json::Value = serde_json::from_slice(&new[0].1.head).unwrap();
        assert_eq!(
            (&head["frame"], &head["rows"][0]["track_id"]),
            (&3.into(), &3.into())
        );
        let jpeg = new[0].1.jpeg(&mut JpegEncoder::default());
        assert_eq!(jpeg[..2], [0xff, 0xd8]);
        assert!(pictures.after(2).is_empty());
    }

    #[test]
    fn no_more_pictures_are_taken_than_are_wanted_and_what_waits_is_bounded() {
        let mut pictures = Pictures::new(10.0, true);
        let start = Instant::now();
        for number in 0..1000 {
            let now = start + Duration::from_millis(10 * number);
            frame(&mut pictures, number, now);
        }
        let stream = pictures.streams.values().next().unwrap();
        assert_eq!(stream.waiting.len(), WAITING);
        let steps: Vec<u64> = stream.waiting.iter().map(|((_, at), _)| at.0).collect();
        assert!(
            steps.windows(2).all(|pair| pair[1] - pair[0] >= 9),
            "{steps:?}"
        );
    }

    #[test]
    fn without_frames_tracks_are_shown_alone() {
        let mut pictures = Pictures::new(10.0, false);
        assert!(tracks(&mut pictures, 0, Instant::now()));
        let new = pictures.after(0);
        assert!(new[0].1.jpeg(&mut JpegEncoder::default()).is_empty());
    }
}
