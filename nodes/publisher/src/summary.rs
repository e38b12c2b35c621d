//! `summary.json`: how the run goes, for progress bars and for whoever comes after.
//!
//! The file is replaced as a whole, by a rename, so that a reader never sees half of it. A process
//! that takes over from a killed one goes on counting from it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracklens_schemas::{FrameId, StreamId, Track};

use crate::track_count::TrackCount;
use crate::{Latency, LatencySummary, SinkError};

/// Time between two versions of the file.
const INTERVAL: Duration = Duration::from_millis(500);
/// Errors listed per stream.
const ERRORS: usize = 16;
/// Closed streams listed; the oldest make room.
const CLOSED: usize = 256;

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    #[default]
    Running,
    /// All streams came to their ends.
    Finished,
    /// It was stopped before that.
    Stopped,
}

/// Whether frames of a stream may still come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// They may.
    #[default]
    Open,
    /// They will not.
    Closed,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whether the run goes on.
    pub state: RunState,
    /// Seconds since the publisher was first started.
    pub elapsed_s: f64,
    /// In the order in which they were opened.
    pub streams: Vec<StreamSummary>,
    /// One for each file, and one for each sink without any.
    pub sinks: Vec<SinkSummary>,
    /// Rows of tracks.
    pub rows: u64,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamSummary {
    /// Its id.
    pub id: String,
    /// Whether frames may still come.
    pub state: StreamState,
    /// Its latest epoch.
    pub epoch: u32,
    /// Frames of this epoch whose tracks have come.
    pub frames: u64,
    /// Frames that the source is expected to have.
    pub expected_frames: Option<u64>,
    /// The source's frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Different tracks so far, over all epochs.
    pub tracks: u64,
    /// Objects seen on the last frame.
    pub objects: u64,
    /// What went wrong; the first few.
    pub errors: Vec<String>,
    /// Width of the frames in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height of the frames in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Number of the last frame.
    pub last_frame: Option<u64>,
    /// Greatest track id.
    pub last_track: Option<u32>,
    /// Milliseconds from capture to tracks, in live graphs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<LatencySummary>,
}

/// One output file, or one sink without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkSummary {
    /// The sink.
    pub name: String,
    /// The file, as seen from the folder of the summary.
    pub path: Option<PathBuf>,
    /// Rows in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Frames in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// How often the sink failed: frames that may be missing in its files.
    #[serde(default)]
    pub failures: u64,
    /// Where others find what the sink offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why the sink does not work at the moment.
    pub error: Option<String>,
}

/// What `opened` tells of a stream's source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SourceInfo {
    /// Width of the frames in pixels.
    pub width: Option<u32>,
    /// Height of the frames in pixels.
    pub height: Option<u32>,
    /// Frames per second.
    pub fps: Option<f64>,
    /// Frames there will be.
    pub expected_frames: Option<u64>,
}

/// Keeps the file up to date.
#[derive(Debug)]
pub struct SummaryFile {
    path: PathBuf,
    lossless: bool,
    started: Instant,
    elapsed_before: f64,
    written: Option<Instant>,
    summary: Summary,
    counts: Vec<Counting>,
}

/// What is counted of a stream beside its summary.
#[derive(Debug, Default)]
struct Counting {
    tracks: TrackCount,
    latency: Latency,
    /// No frame has come since an earlier process was killed.
    resumed: bool,
    /// The tracks of earlier processes are counted from their rows.
    read_back: bool,
}

impl SummaryFile {
    /// The file's name.
    pub const FILE: &'static str = "summary.json";

    /// The summary in this folder; with `resume` it goes on from the one that is there. `lossless`:
    /// frames come without gaps, so those that an earlier process saw after it last wrote the
    /// summary can be told from the numbers of the next.
    #[must_use]
    pub fn open(folder: &Path, resume: bool, lossless: bool) -> Self {
        let path = folder.join(Self::FILE);
        // Without a readable one the count begins anew: it is no reason not to publish.
        let text = if resume {
            std::fs::read(&path).ok()
        } else {
            None
        };
        let before = text.and_then(|text| serde_json::from_slice::<Summary>(&text).ok());
        let mut summary = before.unwrap_or_default();
        summary.state = RunState::Running;
        let counts = summary
            .streams
            .iter()
            .map(|stream| Counting {
                tracks: TrackCount::resume(stream.tracks, stream.last_track),
                latency: Latency::default(),
                resumed: true,
                read_back: false,
            })
            .collect();
        Self {
            path,
            lossless,
            started: Instant::now(),
            elapsed_before: summary.elapsed_s,
            written: None,
            summary,
            counts,
        }
    }

    /// The summary as it stands.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// A stream is open, and perhaps something is known of its source.
    pub fn opened(&mut self, id: &StreamId, epoch: u32, source: Option<&SourceInfo>) {
        let (stream, _) = self.stream(id);
        if epoch > stream.epoch {
            (stream.epoch, stream.frames, stream.last_frame) = (epoch, 0, None);
        }
        stream.state = StreamState::Open;
        if let Some(source) = source {
            stream.expected_frames = source.expected_frames;
            stream.fps = source.fps;
            stream.width = source.width.or(stream.width);
            stream.height = source.height.or(stream.height);
        }
    }

    /// The tracks of a frame have come.
    pub fn tracks(&mut self, id: &FrameId, size: (u32, u32), tracks: &[Track]) {
        let lossless = self.lossless;
        let (stream, counting) = self.stream(&id.stream);
        let (epoch, frame) = (id.epoch.0, id.frame.0);
        if epoch > stream.epoch {
            (stream.epoch, stream.frames, stream.last_frame) = (epoch, 0, None);
        }
        let last = stream.last_frame;
        if epoch < stream.epoch || last.is_some_and(|last| frame <= last) {
            return;
        }
        let unseen = lossless && std::mem::take(&mut counting.resumed);
        stream.frames += match last {
            Some(last) if unseen => frame - last,
            None if unseen => frame + 1,
            _ => 1,
        };
        stream.last_frame = Some(frame);
        (stream.width, stream.height) = (Some(size.0), Some(size.1));
        stream.objects = tracks.iter().filter(|track| track.visible).count() as u64;
        tracks
            .iter()
            .for_each(|track| counting.tracks.add(track.track_id.0));
        stream.tracks = counting.tracks.count();
        stream.last_track = counting.tracks.greatest();
        self.summary.rows += tracks.len() as u64;
    }

    /// The tracks of a live stream's frame have come so long after its capture.
    pub fn latency(&mut self, stream: &StreamId, latency: Duration) {
        let (stream, counting) = self.stream(stream);
        counting.latency.add(latency);
        stream.latency_ms = counting.latency.summary();
    }

    /// Something is wrong with a stream.
    pub fn error(&mut self, id: &StreamId, text: &str) {
        let (stream, _) = self.stream(id);
        if stream.errors.len() < ERRORS && !stream.errors.iter().any(|error| error == text) {
            stream.errors.push(text.into());
        }
    }

    /// A row of an earlier process was read back. The rows know better than the earlier summary
    /// how many tracks there were.
    pub fn recover(&mut self, id: &FrameId, track: u32) {
        let (stream, counting) = self.stream(&id.stream);
        if !std::mem::replace(&mut counting.read_back, true) {
            (counting.tracks, counting.resumed) = (TrackCount::default(), true);
        }
        counting.tracks.add(track);
        stream.tracks = counting.tracks.count();
        stream.last_track = counting.tracks.greatest();
    }

    /// A stream is closed, after so many frames in its epoch.
    pub fn closed(&mut self, id: &StreamId, frames: u64) {
        let lossless = self.lossless;
        let (stream, counting) = self.stream(id);
        if lossless && counting.resumed {
            stream.frames = stream.frames.max(frames);
        }
        (stream.state, stream.objects) = (StreamState::Closed, 0);
        let is_closed = |stream: &StreamSummary| stream.state == StreamState::Closed;
        if self
            .summary
            .streams
            .iter()
            .filter(|stream| is_closed(stream))
            .count()
            > CLOSED
            && let Some(oldest) = self.summary.streams.iter().position(is_closed)
        {
            self.summary.streams.remove(oldest);
            self.counts.remove(oldest);
        }
    }

    fn stream(&mut self, id: &StreamId) -> (&mut StreamSummary, &mut Counting) {
        let streams = &mut self.summary.streams;
        let index = streams.iter().position(|stream| stream.id == id.as_str());
        let index = index.unwrap_or_else(|| {
            streams.push(StreamSummary {
                id: id.to_string(),
                ..StreamSummary::default()
            });
            self.counts.push(Counting::default());
            streams.len() - 1
        });
        (&mut streams[index], &mut self.counts[index])
    }

    /// Whether it is time to write the file.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.written.is_none_or(|at| at.elapsed() >= INTERVAL)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, state: RunState, sinks: Vec<SinkSummary>) -> Result<(), SinkError> {
        self.written = Some(Instant::now());
        let elapsed = self.elapsed_before + self.started.elapsed().as_secs_f64();
        self.summary.elapsed_s = (elapsed * 1000.0).round() / 1000.0;
        self.summary.state = state;
        // A file has every row once; the count begins with what an earlier summary happened to say.
        let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
        for sink in &sinks {
            if let Some(in_file) = sink.rows {
                *rows.entry(&sink.name).or_default() += in_file;
            }
        }
        if let Some(most) = rows.into_values().max() {
            self.summary.rows = most;
        }
        self.summary.sinks = sinks;
        self.replace().map_err(SinkError::write(&self.path))
    }

    fn replace(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.summary)?;
        text.push(b'\n');
        let new = self.path.with_extension("json.new");
        let replaced = std::fs::write(&new, &text).and_then(|()| std::fs::rename(&new, &self.path));
        replaced.or_else(|error| {
            // A full disk still has the old file's own room. Half a file for a moment is better
            // than one that says `running` for ever.
            let _may_not_be_there = std::fs::remove_file(&new);
            let file = OpenOptions::new().write(true).open(&self.path);
            let mut file = file.map_err(|_| error)?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{header, track};

    fn read(folder: &Path) -> Summary {
        serde_json::from_slice(&std::fs::read(folder.join(SummaryFile::FILE)).unwrap()).unwrap()
    }

    #[test]
    fn the_file_tells_what_happened() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SummaryFile::open(folder.path(), false, true);
        let cam: StreamId = "cam".parse().unwrap();
        let text = r#"{"url":"x.mp4","width":8,"height":6,"fps":25.0,"expected_frames":9}"#;
        let source: SourceInfo = serde_json::from_str(text).unwrap();
        file.opened(&cam, 0, Some(&source));
        let mut hidden = track(4);
        hidden.visible = false;
        file.tracks(&header("cam", 0, 0).id, (8, 6), &[track(1), hidden]);
        file.error(&cam, "broken packet");
        file.error(&cam, "broken packet");
        file.write(RunState::Running, Vec::new()).unwrap();
        let summary = read(folder.path());
        let stream = &summary.streams[0];
        assert_eq!((stream.frames, stream.expected_frames), (1, Some(9)));
        assert_eq!((stream.tracks, stream.objects), (2, 1));
        assert_eq!(stream.errors, ["broken packet"]);
        assert_eq!((summary.state, summary.rows), (RunState::Running, 2));
        let text = std::fs::read_to_string(folder.path().join(SummaryFile::FILE)).unwrap();
        assert!(text.contains(r#""state": "running""#), "{text}");
    }

    #[test]
    fn frames_seen_after_the_last_summary_of_a_killed_process_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SummaryFile::open(folder.path(), false, true);
        for frame in 0..3 {
            file.tracks(&header("cam", 1, frame).id, (8, 6), &[track(1)]);
        }
        file.write(RunState::Running, Vec::new()).unwrap();
        let mut file = SummaryFile::open(folder.path(), true, true);
        file.opened(&"cam".parse().unwrap(), 1, None);
        for frame in [2, 7, 8] {
            file.tracks(&header("cam", 1, frame).id, (8, 6), &[track(1), track(2)]);
        }
        let stream = &file.summary().streams[0];
        assert_eq!((stream.frames, stream.tracks), (9, 2));
    }

    #[test]
    fn rows_read_back_and_the_end_complete_the_count_of_a_killed_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SummaryFile::open(folder.path(), false, true);
        file.tracks(&header("cam", 0, 0).id, (8, 6), &[track(7)]);
        file.write(RunState::Running, Vec::new()).unwrap();
        let mut file = SummaryFile::open(folder.path(), true, true);
        for (frame, id) in [(0, 7), (1, 3), (1, 7)] {
            file.recover(&header("cam", 0, frame).id, id);
        }
        file.closed(&"cam".parse().unwrap(), 2);
        let stream = &file.summary().streams[0];
        assert_eq!((stream.frames, stream.tracks), (2, 2));
    }

    #[test]
    fn without_room_for_a_new_file_the_old_one_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SummaryFile::open(folder.path(), false, true);
        file.error(&"cam".parse().unwrap(), &"a long text ".repeat(9));
        file.write(RunState::Running, Vec::new()).unwrap();
        std::fs::create_dir(folder.path().join("summary.json.new")).unwrap();
        file.summary.streams.clear();
        file.write(RunState::Stopped, Vec::new()).unwrap();
        assert_eq!(read(folder.path()).state, RunState::Stopped);
    }

    #[test]
    fn frames_sent_again_are_not_counted_again_and_epochs_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SummaryFile::open(folder.path(), false, true);
        for (epoch, frame) in [(0, 0), (0, 1), (0, 1), (1, 0), (0, 2)] {
            file.tracks(&header("cam", epoch, frame).id, (8, 6), &[]);
        }
        let stream = &file.summary().streams[0];
        assert_eq!((stream.epoch, stream.frames), (1, 1));
    }
}
