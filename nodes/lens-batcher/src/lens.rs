//! The whole of it without threads: tracks and crops in, calls and identifications out.
//!
//! Crops of a frame come after its tracks, by another way. Where both are connected, crops wait for
//! the tracks of their frame, and what is due is decided on crops alone, in the order of frames: so
//! the same input asks the same things however the messages meet.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tracklens_schemas::{
    Crop, Epoch, FrameId, FrameIndex, Header, Identification, Outcome, StreamId, Track, TrackId,
    TracksInfo,
};

use crate::candidate::{Candidates, Object, Sight, Timing};
use crate::journal::Entry;
use crate::perceptual_hash::Hasher;
use crate::question::{Call, CallResult, Question};
use crate::scheduler::{Options, Scheduler};

/// Frames whose tracks are kept for crops that come late.
const FRAMES: usize = 256;

/// Where the time of candidates comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The presentation time in the stream: the same input, the same questions.
    Stream,
    /// When the frame came in.
    Capture,
}

/// An identification and the frame on which it was asked.
pub type Row = (Header, Identification);

#[derive(Debug)]
struct Stream {
    epoch: Epoch,
    /// Tracks not looked at yet, and those of the last frame that was.
    tracks: VecDeque<(Header, HashMap<TrackId, Sight>)>,
    /// Crops that wait for the tracks of their frame.
    crops: VecDeque<(Header, Vec<Crop>)>,
    /// The last frame whose tracks have come.
    seen: Option<FrameIndex>,
}

/// Candidates and scheduler together.
#[derive(Debug)]
pub struct Lens {
    backend: String,
    time: TimeSource,
    /// Whether the tracks of every frame come.
    has_tracks: bool,
    candidates: Candidates,
    scheduler: Scheduler,
    hasher: Hasher,
    streams: HashMap<StreamId, Stream>,
    /// What an earlier process asked, until its stream is seen.
    earlier: Vec<Entry>,
    asked: Vec<Question>,
}

impl Lens {
    /// For a backend of this name. `has_tracks`: the tracks of every frame come, in order.
    #[must_use]
    pub fn new(
        backend: &str,
        time: TimeSource,
        has_tracks: bool,
        timing: Timing,
        options: Options,
        now: Duration,
    ) -> Self {
        Self {
            backend: backend.into(),
            time,
            has_tracks,
            candidates: Candidates::new(timing),
            scheduler: Scheduler::new(options, now),
            hasher: Hasher::default(),
            streams: HashMap::new(),
            earlier: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// The scheduler.
    pub fn scheduler(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// What an earlier process of the same run has asked.
    pub fn asked_before(&mut self, entries: Vec<Entry>) {
        self.earlier = entries;
    }

    fn at(&self, header: &Header) -> i64 {
        match self.time {
            TimeSource::Stream => header.pts_ns,
            TimeSource::Capture => header.capture_ns,
        }
    }

    /// The stream of this message; `None` where its epoch is over.
    fn stream(&mut self, id: &FrameId) -> Option<&mut Stream> {
        let known = self.streams.get(&id.stream).map(|stream| stream.epoch);
        if known.is_some_and(|known| id.epoch < known) {
            return None;
        }
        if known != Some(id.epoch) {
            // Times begin anew with an epoch.
            self.candidates.forget(&id.stream);
            let fresh = Stream {
                epoch: id.epoch,
                tracks: VecDeque::new(),
                crops: VecDeque::new(),
                seen: None,
            };
            self.streams.insert(id.stream.clone(), fresh);
            let (here, others) = std::mem::take(&mut self.earlier)
                .into_iter()
                .partition(|entry: &Entry| entry.stream == id.stream);
            self.earlier = others;
            for entry in here.iter().filter(|entry| entry.epoch == id.epoch) {
                let object = Object {
                    stream: entry.stream.clone(),
                    track: entry.track,
                };
                self.candidates.asked_before(&object, entry.at);
            }
        }
        self.streams.get_mut(&id.stream)
    }

    /// The tracks of a frame.
    pub fn tracks(&mut self, header: &Header, info: &TracksInfo, tracks: &[Track], now: Duration) {
        let Some(stream) = self.stream(&header.id) else {
            return;
        };
        stream.seen = Some(header.id.frame);
        let visible = tracks.iter().filter(|track| track.visible);
        let sights = visible
            .map(|track| (track.track_id, Sight::of(track, info.width, info.height)))
            .collect();
        stream.tracks.push_back((header.clone(), sights));
        if stream.tracks.len() > FRAMES
            && let Some((header, sights)) = stream.tracks.pop_front()
        {
            self.sighted(&header, &sights);
        }
        self.ready_crops(&header.id.stream, now);
    }

    /// The crops of a frame.
    pub fn crops(&mut self, header: &Header, crops: Vec<Crop>, now: Duration) {
        let Some(stream) = self.stream(&header.id) else {
            return;
        };
        stream.crops.push_back((header.clone(), crops));
        if stream.crops.len() > FRAMES {
            stream.crops.pop_front();
        }
        self.ready_crops(&header.id.stream, now);
    }

    fn ready_crops(&mut self, id: &StreamId, now: Duration) {
        let wait = self.has_tracks && self.time == TimeSource::Stream;
        while let Some(stream) = self.streams.get_mut(id) {
            let seen = stream.seen;
            let ready = |header: &Header| !wait || seen >= Some(header.id.frame);
            if !stream
                .crops
                .front()
                .is_some_and(|(header, _)| ready(header))
            {
                return;
            }
            let Some((header, crops)) = stream.crops.pop_front() else {
                return;
            };
            self.look(&header, crops, now);
        }
    }

    /// Takes note of all tracks up to a frame; returns what they say of that frame.
    fn sights(&mut self, header: &Header) -> HashMap<TrackId, Sight> {
        let mut sights = HashMap::new();
        loop {
            let Some(stream) = self.streams.get_mut(&header.id.stream) else {
                return sights;
            };
            let before = |(tracks, _): &(Header, _)| tracks.id.frame <= header.id.frame;
            if !stream.tracks.front().is_some_and(before) {
                return sights;
            }
            if let Some((of, found)) = stream.tracks.pop_front() {
                self.sighted(&of, &found);
                if of.id == header.id {
                    sights = found;
                }
            }
        }
    }

    fn sighted(&mut self, header: &Header, sights: &HashMap<TrackId, Sight>) {
        let at = self.at(header);
        let mut tracks: Vec<TrackId> = sights.keys().copied().collect();
        tracks.sort_unstable();
        for track in tracks {
            let stream = header.id.stream.clone();
            self.candidates.seen(&Object { stream, track }, at);
        }
    }

    fn look(&mut self, header: &Header, crops: Vec<Crop>, now: Duration) {
        let (at, sights) = (self.at(header), self.sights(header));
        for crop in crops {
            let object = Object {
                stream: header.id.stream.clone(),
                track: crop.track_id,
            };
            let unknown = Sight::unknown();
            let sight = sights.get(&crop.track_id).unwrap_or(&unknown);
            self.candidates
                .offer(&object, at, header.id.frame.0, crop, sight);
        }
        self.ask_due(header, now);
    }

    fn ask_due(&mut self, header: &Header, now: Duration) {
        let at = self.at(header);
        for candidate in self.candidates.due(header, at) {
            let question = Question {
                hash: self.hasher.hash(&candidate.view.picture),
                object: candidate.object,
                header: candidate.header,
                view: candidate.view,
            };
            self.asked.push(question.clone());
            self.scheduler.ask(question, now);
        }
    }

    /// The last frame of a stream has come: what is due is asked, and nothing after it.
    pub fn closed(&mut self, id: &StreamId, now: Duration) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let waiting = std::mem::take(&mut stream.crops);
        for (header, crops) in waiting {
            self.look(&header, crops, now);
        }
        let last = self.streams.get(id).and_then(|stream| stream.tracks.back());
        if let Some(header) = last.map(|(header, _)| header.clone()) {
            self.sights(&header);
            self.ask_due(&header, now);
        }
        self.streams.remove(id);
        self.candidates.forget(id);
    }

    /// Whether any stream is open.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether questions about this stream have no answer yet.
    #[must_use]
    pub fn is_busy(&self, id: &StreamId) -> bool {
        self.scheduler
            .open()
            .any(|question| question.object.stream == *id)
    }

    /// The next call to make now; `hurry`: nothing waits for others.
    pub fn poll(&mut self, now: Duration, hurry: bool) -> Option<Call> {
        self.scheduler.poll(now, hurry)
    }

    /// How a call ended.
    pub fn ended(&mut self, call: u64, result: CallResult, now: Duration) {
        self.scheduler.ended(call, result, now);
    }

    /// The questions asked since the last call, whoever answers them.
    pub fn take_asked(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.asked)
    }

    /// Identifications since the last call. What was dropped is not among them: it is asked again.
    pub fn take_rows(&mut self) -> Vec<Row> {
        let answered = self.scheduler.take_answered();
        let mut rows = Vec::new();
        for answered in answered {
            self.candidates.answered(&answered.question.object);
            let Some(outcome) = answered.outcome else {
                continue;
            };
            let answer = answered.answer;
            let row = Identification {
                track_id: answered.question.object.track,
                name: answer.name,
                category: answer.category,
                description: answer.description,
                confidence: answer.confidence,
                dimensions: answer.dimensions,
                backend: self.backend.clone(),
                outcome,
                cached: answered.cached,
                attempts: answered.attempts,
                error: answered.error.filter(|_| outcome == Outcome::Failed),
            };
            rows.push((answered.question.header, row));
        }
        rows
    }

    /// The time of candidates at which a row was asked.
    #[must_use]
    pub fn asked_at(&self, header: &Header) -> i64 {
        self.at(header)
    }
}

#[cfg(test)]
mod tests;
