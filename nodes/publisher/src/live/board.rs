//! What a person at the live page sees of the streams: how each goes, and the lives of its tracks.
//!
//! Plain data, told what happens and asked for what has changed since. Everything is bounded: closed
//! streams, tracks per stream and stretches per track make room for newer ones.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use tracklens_schemas::{
    Epoch, FrameIndex, Header, Identification, StreamId, Track, TracksInfo, wall_clock_ns,
};

use crate::SourceInfo;

/// Closed streams that stay on the board.
const CLOSED: usize = 16;
/// Tracks of a stream that stay on the board, those seen last.
const TRACKS: usize = 400;
/// Stretches of time in which a track was seen; beyond, the oldest two become one.
const STRETCHES: usize = 32;
/// Time over which frames per second are counted.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// How a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamLife {
    /// Frames come.
    #[default]
    Open,
    /// No frames for a while.
    Stale,
    /// No frames will come.
    Closed,
}

/// A stream as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamLine {
    /// Its id.
    pub id: String,
    /// How it is.
    pub state: StreamLife,
    /// Its epoch.
    pub epoch: u32,
    /// The last frame with tracks.
    pub frame: u64,
    /// Milliseconds of stream time at that frame, over all epochs.
    pub time_ms: i64,
    /// Frames with tracks so far.
    pub frames: u64,
    /// Frames that were left out: gaps in the numbers.
    pub dropped: u64,
    /// Frames with tracks per second, lately.
    pub fps: f64,
    /// The source's frames per second.
    pub source_fps: Option<f64>,
    /// Width of the source frames in pixels.
    pub width: u32,
    /// Height of the source frames in pixels.
    pub height: u32,
    /// Objects seen on the last frame.
    pub objects: u64,
    /// Different tracks so far.
    pub tracks: u64,
    /// Whether tracking worked on the last frame.
    pub status: &'static str,
    /// The model or detector.
    pub model: String,
    /// Time that tracking took on the last frame, milliseconds.
    pub processing_ms: f64,
    /// Time from capture to here, milliseconds.
    pub latency_ms: Option<i64>,
    /// What went wrong last.
    pub error: Option<String>,
}

/// A track as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrackLine {
    /// Its id.
    pub id: u32,
    /// Stretches of stream time in which it was seen, `[from, to]` in milliseconds.
    pub seen: VecDeque<[i64; 2]>,
    /// Epoch and frame of its first sight.
    pub first: (u32, u64),
    /// Epoch and frame of its last sight.
    pub last: (u32, u64),
    /// Frames on which it was seen.
    pub frames: u64,
    /// new, tracked, occluded or lost.
    pub state: &'static str,
    /// Whether it is seen on the last frame.
    pub present: bool,
    /// Its last score.
    pub score: f32,
    /// Its last area in source pixels.
    pub area: u32,
    /// What it is, where that is known.
    pub identification: Option<IdentificationLine>,
}

/// What a track is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentificationLine {
    /// Its name.
    pub name: String,
    /// What kind of thing it is.
    pub category: String,
    /// A sentence about it.
    pub description: String,
    /// How sure that is, 0 to 1.
    pub confidence: f32,
    /// Its size, as JSON.
    pub dimensions: Option<String>,
    /// Who says so.
    pub backend: String,
    /// identified, unknown or failed.
    pub outcome: &'static str,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// How often the backend was asked.
    pub attempts: u8,
    /// Why it failed.
    pub error: Option<String>,
}

impl From<&Identification> for IdentificationLine {
    fn from(row: &Identification) -> Self {
        Self {
            name: row.name.clone(),
            category: row.category.clone(),
            description: row.description.clone(),
            confidence: row.confidence,
            dimensions: row.dimensions.clone(),
            backend: row.backend.clone(),
            outcome: row.outcome.as_str(),
            cached: row.cached,
            attempts: row.attempts,
            error: row.error.clone(),
        }
    }
}

/// All streams, and the tracks that have changed since somebody last asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changes {
    /// Ask for what comes after this next time.
    pub revision: u64,
    /// Whether the run is over.
    pub over: bool,
    /// All streams, in the order of their names.
    pub streams: Vec<StreamLine>,
    /// Changed tracks, by stream.
    pub tracks: BTreeMap<String, Vec<TrackLine>>,
}

/// The streams of a run.
#[derive(Debug, Default)]
pub struct Board {
    revision: u64,
    over: bool,
    streams: BTreeMap<StreamId, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    line: StreamLine,
    at: Option<(Epoch, FrameIndex)>,
    offset_ms: i64,
    recent: VecDeque<Instant>,
    tracks: BTreeMap<u32, Life>,
    closed_at: u64,
}

#[derive(Debug, Default)]
struct Life {
    line: TrackLine,
    revision: u64,
}

impl Board {
    fn stream(&mut self, id: &StreamId) -> &mut Stream {
        self.streams.entry(id.clone()).or_insert_with(|| Stream {
            line: StreamLine {
                id: id.to_string(),
                status: "ok",
                ..StreamLine::default()
            },
            ..Stream::default()
        })
    }

    /// The stream is there, and perhaps something is known of its source.
    pub fn opened(&mut self, id: &StreamId, source: Option<&SourceInfo>) {
        let line = &mut self.stream(id).line;
        line.state = StreamLife::Open;
        if let Some(source) = source {
            line.source_fps = source.fps.or(line.source_fps);
            line.width = source.width.unwrap_or(line.width);
            line.height = source.height.unwrap_or(line.height);
        }
    }

    /// The stream is as it says.
    pub fn state(&mut self, id: &StreamId, state: StreamLife) {
        self.revision += 1;
        let revision = self.revision;
        let stream = self.stream(id);
        stream.line.state = state;
        if state != StreamLife::Closed {
            return;
        }
        stream.closed_at = revision;
        stream.line.objects = 0;
        stream.leave_all(revision);
        let closed = |stream: &Stream| stream.line.state == StreamLife::Closed;
        if self.streams.values().filter(|s| closed(s)).count() > CLOSED {
            let oldest = self.streams.iter().filter(|(_, stream)| closed(stream));
            let oldest = oldest.min_by_key(|(_, stream)| stream.closed_at);
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.streams.remove(&id);
            }
        }
    }

    /// Something went wrong with the stream.
    pub fn error(&mut self, id: &StreamId, text: &str) {
        self.stream(id).line.error = Some(text.chars().take(400).collect());
    }

    /// All tracks of a frame. Frames that come again change nothing.
    pub fn tracks(&mut self, header: &Header, info: &TracksInfo, tracks: &[Track], now: Instant) {
        self.revision += 1;
        let revision = self.revision;
        let stream = self.stream(&header.id.stream);
        if stream.take_frame(header, now) {
            stream.take_info(info, tracks);
            stream.take_tracks(header, tracks, revision);
        }
    }

    /// What objects are.
    pub fn identified(&mut self, header: &Header, rows: &[Identification]) {
        self.revision += 1;
        let revision = self.revision;
        let stream = self.stream(&header.id.stream);
        for row in rows {
            if let Some(life) = stream.tracks.get_mut(&row.track_id.0) {
                // A later failure does not take back what is known.
                let known = life.line.identification.as_ref();
                let named = known.is_some_and(|known| known.outcome == "identified");
                if !named || row.outcome.as_str() == "identified" {
                    life.line.identification = Some(row.into());
                    life.revision = revision;
                }
            }
        }
    }

    /// The run is over.
    pub fn finish(&mut self) {
        self.over = true;
    }

    /// One track.
    #[must_use]
    pub fn track(&self, stream: &StreamId, id: u32) -> Option<&TrackLine> {
        let life = self.streams.get(stream)?.tracks.get(&id)?;
        Some(&life.line)
    }

    /// What has changed since a revision; 0 for everything.
    #[must_use]
    pub fn since(&self, revision: u64, now: Instant) -> Changes {
        let mut streams = Vec::with_capacity(self.streams.len());
        let mut tracks = BTreeMap::new();
        for (id, stream) in &self.streams {
            let mut line = stream.line.clone();
            line.fps = stream.rate(now);
            streams.push(line);
            let lives = stream.tracks.values();
            let changed: Vec<TrackLine> = lives
                .filter(|life| life.revision > revision)
                .map(|life| life.line.clone())
                .collect();
            if !changed.is_empty() {
                tracks.insert(id.to_string(), changed);
            }
        }
        Changes {
            revision: self.revision,
            over: self.over,
            streams,
            tracks,
        }
    }
}

impl Stream {
    /// Moves on to a frame; false where it has been there already.
    fn take_frame(&mut self, header: &Header, now: Instant) -> bool {
        let at = (header.id.epoch, header.id.frame);
        let pts_ms = header.pts_ns / 1_000_000;
        match self.at {
            Some(last) if at <= last => return false,
            Some((epoch, frame)) if epoch == at.0 => {
                self.line.dropped += at.1.0 - frame.0 - 1;
            }
            // Epochs begin anew: their times are strung together.
            Some(_) => self.offset_ms = self.line.time_ms + 40 - pts_ms,
            None => {}
        }
        self.at = Some(at);
        self.line.epoch = at.0.0;
        self.line.frame = at.1.0;
        self.line.frames += 1;
        self.line.time_ms = pts_ms + self.offset_ms;
        self.line.latency_ms = (header.capture_ns > 0)
            .then(|| wall_clock_ns().saturating_sub(header.capture_ns) / 1_000_000)
            .filter(|ms| (0..600_000).contains(ms));
        self.recent.push_back(now);
        let old = |at: &Instant| now.duration_since(*at) > RATE_WINDOW;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        true
    }

    fn take_info(&mut self, info: &TracksInfo, tracks: &[Track]) {
        let line = &mut self.line;
        if line.state == StreamLife::Stale {
            line.state = StreamLife::Open;
        }
        (line.width, line.height) = (info.width, info.height);
        line.status = info.status.as_str();
        line.processing_ms = info.processing_ms;
        if line.model != info.model {
            line.model.clone_from(&info.model);
        }
        line.objects = tracks.iter().filter(|track| track.visible).count() as u64;
    }

    fn take_tracks(&mut self, header: &Header, tracks: &[Track], revision: u64) {
        let (now_ms, at) = (self.line.time_ms, (header.id.epoch.0, header.id.frame.0));
        let mut before = std::mem::take(&mut self.tracks);
        for life in before.values_mut().filter(|life| life.line.present) {
            if !tracks.iter().any(|t| t.track_id.0 == life.line.id) {
                (life.line.present, life.revision) = (false, revision);
            }
        }
        self.tracks = before;
        for track in tracks {
            let id = track.track_id.0;
            let known = &mut self.line.tracks;
            let life = self.tracks.entry(id).or_insert_with(|| {
                *known += 1;
                Life {
                    line: TrackLine {
                        id,
                        first: at,
                        ..TrackLine::default()
                    },
                    revision,
                }
            });
            life.see(track, at, now_ms);
            life.revision = revision;
        }
        while self.tracks.len() > TRACKS {
            let oldest = self.tracks.iter().min_by_key(|(_, life)| life.line.last);
            let Some(id) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.tracks.remove(&id);
        }
    }

    fn leave_all(&mut self, revision: u64) {
        for life in self.tracks.values_mut().filter(|life| life.line.present) {
            (life.line.present, life.revision) = (false, revision);
        }
    }

    /// Frames per second; it falls while nothing comes.
    fn rate(&self, now: Instant) -> f64 {
        let Some(first) = self.recent.front() else {
            return 0.0;
        };
        let last = self.recent.back().unwrap_or(first);
        let period = last.duration_since(*first).as_secs_f64();
        let silence = now.saturating_duration_since(*last).as_secs_f64();
        if self.recent.len() < 2 || silence > RATE_WINDOW.as_secs_f64() {
            return 0.0;
        }
        let frames = (self.recent.len() - 1) as f64;
        // A silence of more than a second is part of the picture.
        let period = if silence > 1.0 {
            period + silence
        } else {
            period
        };
        (10.0 * frames / period.max(0.001)).round() / 10.0
    }
}

impl Life {
    fn see(&mut self, track: &Track, at: (u32, u64), now_ms: i64) {
        let line = &mut self.line;
        let went_on = line.present;
        line.state = track.state.as_str();
        line.present = track.visible;
        line.last = at;
        if !track.visible {
            return;
        }
        line.frames += 1;
        (line.score, line.area) = (track.score, track.area);
        match line.seen.back_mut() {
            Some(stretch) if went_on && stretch[1] <= now_ms => stretch[1] = now_ms,
            _ => line.seen.push_back([now_ms, now_ms]),
        }
        if line.seen.len() > STRETCHES
            && let Some([from, _]) = line.seen.pop_front()
            && let Some(next) = line.seen.front_mut()
        {
            next[0] = from;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{header, info, track};
    use proptest::prelude::*;
    use tracklens_schemas::{Outcome, TrackId};

    fn cam() -> StreamId {
        "cam".parse().unwrap()
    }

    fn show(board: &mut Board, epoch: u32, frame: u64, ids: &[u32]) {
        let tracks: Vec<Track> = ids.iter().map(|id| track(*id)).collect();
        let now = Instant::now();
        board.tracks(&header("cam", epoch, frame), &info(), &tracks, now);
    }

    #[test]
    fn gaps_are_drops_and_what_comes_again_changes_nothing() {
        let mut board = Board::default();
        for frame in [0, 1, 4, 1, 4] {
            show(&mut board, 0, frame, &[1]);
        }
        show(&mut board, 1, 2, &[1]);
        let changes = board.since(0, Instant::now());
        let line = &changes.streams[0];
        assert_eq!((line.frames, line.dropped, line.tracks), (4, 2, 1));
        assert_eq!((line.epoch, line.frame, line.time_ms), (1, 2, 200));
        assert_eq!(changes.tracks["cam"][0].frames, 4);
    }

    #[test]
    fn a_track_out_of_sight_has_a_gap_and_only_changes_are_told() {
        let mut board = Board::default();
        show(&mut board, 0, 0, &[1, 2]);
        show(&mut board, 0, 1, &[1, 2]);
        show(&mut board, 0, 2, &[2]);
        show(&mut board, 0, 3, &[1, 2]);
        let all = board.since(0, Instant::now());
        assert_eq!(all.tracks["cam"][0].seen, [[0, 40], [120, 120]]);
        assert_eq!(all.tracks["cam"][1].seen, [[0, 120]]);
        show(&mut board, 0, 4, &[1]);
        let changed = board.since(all.revision, Instant::now());
        let present: Vec<_> = changed.tracks["cam"]
            .iter()
            .map(|t| (t.id, t.present))
            .collect();
        assert_eq!(present, [(1, true), (2, false)]);
        assert!(
            board
                .since(changed.revision, Instant::now())
                .tracks
                .is_empty()
        );
    }

    #[test]
    fn a_name_is_kept_when_a_later_look_up_fails() {
        let mut board = Board::default();
        show(&mut board, 0, 0, &[1]);
        let mut row = Identification {
            track_id: TrackId(1),
            name: "mug".into(),
            category: "cup".into(),
            description: String::new(),
            confidence: 0.9,
            dimensions: None,
            backend: "gallery".into(),
            outcome: Outcome::Identified,
            cached: false,
            attempts: 1,
            error: None,
        };
        board.identified(&header("cam", 0, 0), std::slice::from_ref(&row));
        row.outcome = Outcome::Failed;
        row.name.clear();
        board.identified(&header("cam", 0, 0), &[row]);
        let line = board.track(&cam(), 1).unwrap();
        assert_eq!(line.identification.as_ref().unwrap().name, "mug");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_falls_to_nothing() {
        let mut board = Board::default();
        let start = Instant::now();
        for frame in 0..100 {
            let now = start + Duration::from_millis(40 * frame);
            board.tracks(&header("cam", 0, frame), &info(), &[], now);
        }
        let end = start + Duration::from_millis(40 * 99);
        assert_eq!(board.since(0, end).streams[0].fps, 25.0);
        let later = end + Duration::from_secs(5);
        assert_eq!(board.since(0, later).streams[0].fps, 0.0);
    }

    proptest! {
        #[test]
        fn the_board_is_bounded(streams in 1u32..40, tracks in 1u32..600) {
            let mut board = Board::default();
            for number in 0..streams {
                let id: StreamId = format!("s{number}").parse().unwrap();
                board.opened(&id, None);
                board.state(&id, StreamLife::Closed);
            }
            let ids: Vec<u32> = (0..tracks).collect();
            for (frame, ids) in ids.chunks(9).enumerate() {
                show(&mut board, 0, frame as u64, ids);
            }
            let changes = board.since(0, Instant::now());
            prop_assert!(changes.streams.len() <= CLOSED + 1);
            prop_assert!(changes.tracks["cam"].len() <= TRACKS);
            prop_assert_eq!(changes.streams[0].tracks, u64::from(tracks));
        }
    }
}
