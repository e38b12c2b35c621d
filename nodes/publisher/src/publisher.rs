//! All sinks together: everything is handed to each, and what fails in one is told once, counted,
//! and kept from the others.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracklens_schemas::{FrameId, Header, Image, StreamId, Track, TracksInfo};

use crate::{
    Jsonl, Mot, Overlay, RunState, Sink, SinkError, SinkKind, SinkSummary, SourceInfo, SummaryFile,
};

/// Rows written (counter; `sink`).
const ROWS: &str = "video_processor_sink_rows_total";
/// Calls to a sink that failed (counter; `sink`).
const ERRORS: &str = "video_processor_sink_errors_total";
/// A sink that has not failed for this long works again.
const STEADY: Duration = Duration::from_secs(2);

/// What a publisher is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where files are made; the folder is made too.
    pub folder: PathBuf,
    /// The sinks.
    pub sinks: Vec<SinkKind>,
    /// Go on where an earlier process stopped, instead of replacing its files.
    pub resume: bool,
    /// Frames come without gaps.
    pub lossless: bool,
    /// Frames of a stream that may wait for their tracks.
    pub waiting: usize,
}

/// Writes tracks and frames to all sinks.
pub struct Publisher {
    sinks: Vec<Guarded>,
    /// Files of a killed process.
    earlier: Vec<SinkSummary>,
    summary: SummaryFile,
    summary_error: Option<String>,
}

/// A sink, and why it does not work at the moment.
struct Guarded {
    sink: Box<dyn Sink>,
    error: Option<String>,
    failures: u64,
    last_failure: Option<Instant>,
}

impl Publisher {
    /// Makes the folder and opens the sinks.
    ///
    /// # Errors
    /// Where the folder, or a file that is needed from the start, cannot be made.
    pub fn new(options: &Options) -> Result<Self, SinkError> {
        let Options {
            folder,
            sinks,
            resume,
            lossless,
            waiting,
        } = options;
        std::fs::create_dir_all(folder).map_err(|source| SinkError::Folder {
            path: folder.clone(),
            source,
        })?;
        let mut summary = SummaryFile::open(folder, *resume, *lossless);
        let first = summary
            .summary()
            .streams
            .iter()
            .find(|stream| stream.frames > 0);
        let first = first.and_then(|stream| stream.id.parse().ok());
        let mut guarded = Vec::new();
        for kind in sinks {
            let sink: Box<dyn Sink> = match kind {
                SinkKind::Jsonl => Box::new(Jsonl::open(folder, *resume, |id, track| {
                    summary.recover(id, track.0);
                })?),
                SinkKind::Mot => Box::new(Mot::new(folder, *resume)),
                SinkKind::Overlay => {
                    Box::new(Overlay::new(folder, *waiting, *resume, first.clone()))
                }
                SinkKind::None => continue,
            };
            guarded.push(Guarded {
                sink,
                error: None,
                failures: 0,
                last_failure: None,
            });
        }
        let mut earlier = summary.summary().sinks.clone();
        earlier.retain(|file| file.path.is_some());
        earlier
            .iter_mut()
            .for_each(|file| (file.frames, file.error) = (None, None));
        // Also the proof that the folder can be written, before the first frame.
        summary.write(RunState::Running, list(&earlier, &guarded))?;
        Ok(Self {
            sinks: guarded,
            earlier,
            summary,
            summary_error: None,
        })
    }

    /// Whether any sink has use for frames.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.sinks.iter().any(|guarded| guarded.sink.wants_frames())
    }

    /// A stream has been opened. `detail` is JSON about its source, or empty.
    pub fn opened(&mut self, stream: &StreamId, epoch: u32, detail: &str) {
        let source: Option<SourceInfo> = serde_json::from_str(detail).ok();
        self.summary.opened(stream, epoch, source.as_ref());
        if let Some(source) = source {
            for guarded in &mut self.sinks {
                let result = guarded.sink.stream_opened(stream, &source);
                guarded.settle(stream, result);
            }
        }
    }

    /// All tracks of a frame.
    pub fn tracks(&mut self, header: &Header, info: &TracksInfo, tracks: &[Track]) {
        for guarded in &mut self.sinks {
            let result = guarded.sink.tracks(header, info, tracks);
            if let Some(rows) = guarded.settle(&header.id.stream, result) {
                metrics::counter!(ROWS, "sink" => guarded.sink.name()).increment(rows);
            }
        }
        self.summary
            .tracks(&header.id, (info.width, info.height), tracks);
        self.tick();
    }

    /// A frame; the pixels are copied where they are needed longer.
    pub fn frame(&mut self, header: &Header, image: &Image<'_>) {
        for guarded in self
            .sinks
            .iter_mut()
            .filter(|guarded| guarded.sink.wants_frames())
        {
            let result = guarded.sink.frame(header, image);
            guarded.settle(&header.id.stream, result);
        }
        self.tick();
    }

    /// Something is wrong with a stream.
    pub fn error(&mut self, stream: &StreamId, text: &str) {
        self.summary.error(stream, text);
    }

    /// A message of this frame cannot be used.
    pub fn bad_message(&mut self, id: &FrameId, text: &str) {
        self.summary
            .error(&id.stream, &format!("frame {}: {text}", id.frame.0));
    }

    /// The last of so many frames of a stream's epoch has come.
    pub fn closed(&mut self, stream: &StreamId, frames: u64) {
        for guarded in &mut self.sinks {
            let result = guarded.sink.stream_closed(stream);
            guarded.settle(stream, result);
        }
        self.summary.closed(stream, frames);
        self.tick();
    }

    /// Writes the summary where it is time to.
    pub fn tick(&mut self) {
        if self.summary.is_due() {
            self.write_summary(RunState::Running);
        }
    }

    /// Finishes all files and writes the last summary.
    pub fn finish(&mut self, state: RunState) {
        for guarded in &mut self.sinks {
            if let Err(error) = guarded.sink.finish() {
                guarded.fail(None, &error);
            }
        }
        self.write_summary(state);
    }

    fn write_summary(&mut self, state: RunState) {
        match self.summary.write(state, list(&self.earlier, &self.sinks)) {
            Ok(()) => self.summary_error = None,
            Err(error) => {
                let text = error.to_string();
                if self.summary_error.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                }
                self.summary_error = Some(text);
            }
        }
    }
}

impl Guarded {
    /// Tells once that the sink fails, and once that it works again.
    fn settle<T>(&mut self, stream: &StreamId, result: Result<T, SinkError>) -> Option<T> {
        match result {
            Ok(value) => {
                // A video that failed takes frames without writing them: it has not recovered. On a
                // disk that is nearly full, a small write may work between two that do not.
                let steady = self.last_failure.is_some_and(|at| at.elapsed() >= STEADY);
                if self.error.is_some() && steady && !self.sink.wants_frames() {
                    self.error = None;
                    tracing::info!(sink = self.sink.name(), stream_id = %stream, "sink works again");
                }
                Some(value)
            }
            Err(error) => {
                self.fail(Some(stream), &error);
                None
            }
        }
    }

    fn fail(&mut self, stream: Option<&StreamId>, error: &SinkError) {
        let name = self.sink.name();
        metrics::counter!(ERRORS, "sink" => name).increment(1);
        self.failures += 1;
        self.last_failure = Some(Instant::now());
        let text = error.to_string();
        if self.error.as_ref() != Some(&text) {
            let stream_id = stream.map(StreamId::as_str);
            tracing::error!(
                sink = name,
                stream_id,
                "sink fails, the others go on: {text}"
            );
        }
        self.error = Some(text);
    }
}

/// The files of all sinks; of those of an earlier process, the ones that are not continued.
fn list(earlier: &[SinkSummary], sinks: &[Guarded]) -> Vec<SinkSummary> {
    let mut list = Vec::new();
    for Guarded {
        sink,
        error,
        failures,
        ..
    } in sinks
    {
        let entry = |path, rows, frames| SinkSummary {
            name: sink.name().into(),
            path,
            rows,
            frames,
            failures: *failures,
            error: error.clone(),
        };
        let files = sink.files();
        if files.is_empty() {
            list.push(entry(None, None, None));
        }
        list.extend(files.into_iter().map(|file| {
            let name = file.path.file_name().map(PathBuf::from);
            entry(name, file.rows, file.frames)
        }));
    }
    let continued = |file: &&SinkSummary| list.iter().any(|now| now.path == file.path);
    let mut all: Vec<_> = earlier
        .iter()
        .filter(|file| !continued(file))
        .cloned()
        .collect();
    all.extend(list);
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{header, info, track};
    use crate::{StreamState, Summary};
    use std::path::Path;

    fn options(folder: &Path, sinks: &[SinkKind]) -> Options {
        Options {
            folder: folder.into(),
            sinks: sinks.into(),
            resume: false,
            lossless: true,
            waiting: 8,
        }
    }

    fn summary(folder: &Path) -> Summary {
        serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
    }

    #[test]
    fn a_failing_sink_leaves_the_others_alone_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // The file that the MOT sink wants to make is a folder.
        std::fs::create_dir(folder.path().join("mot-cam.txt")).unwrap();
        let kinds = [SinkKind::Jsonl, SinkKind::Mot];
        let mut publisher = Publisher::new(&options(folder.path(), &kinds)).unwrap();
        let cam = "cam".parse().unwrap();
        publisher.opened(&cam, 0, r#"{"width":8,"height":6,"expected_frames":2}"#);
        publisher.tracks(&header("cam", 0, 0), &info(), &[track(1)]);
        std::fs::remove_dir(folder.path().join("mot-cam.txt")).unwrap();
        publisher.tracks(&header("cam", 0, 1), &info(), &[track(1)]);
        publisher.closed(&cam, 2);
        publisher.finish(RunState::Finished);
        let summary = summary(folder.path());
        assert_eq!(summary.state, RunState::Finished);
        assert_eq!(summary.streams[0].state, StreamState::Closed);
        assert_eq!((summary.streams[0].frames, summary.rows), (2, 2));
        let sinks = summary.sinks.iter();
        let rows: Vec<_> = sinks.map(|sink| (sink.rows, sink.failures)).collect();
        assert_eq!(rows, [(Some(2), 0), (Some(1), 1)]);
    }

    #[test]
    fn files_of_a_killed_process_are_still_listed() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path(), &[SinkKind::Jsonl, SinkKind::Mot]);
        let mut publisher = Publisher::new(&options).unwrap();
        publisher.tracks(&header("cam", 0, 0), &info(), &[track(1)]);
        publisher.write_summary(RunState::Running);
        options.resume = true;
        let mut publisher = Publisher::new(&options).unwrap();
        publisher.finish(RunState::Finished);
        let files: Vec<_> = summary(folder.path())
            .sinks
            .into_iter()
            .filter_map(|s| s.path)
            .collect();
        assert_eq!(files, [Path::new("mot-cam.txt"), Path::new("tracks.jsonl")]);
    }

    #[test]
    fn without_sinks_frames_and_rows_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("a/b");
        let mut publisher = Publisher::new(&options(&made, &[SinkKind::None])).unwrap();
        assert!(!publisher.wants_frames());
        publisher.tracks(&header("cam", 0, 0), &info(), &[track(1), track(2)]);
        publisher.finish(RunState::Stopped);
        let summary = summary(&made);
        assert_eq!((summary.rows, summary.sinks.len()), (2, 0));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Publisher::new(&options(&file.join("out"), &[]))
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("set OUT_DIR to a folder"),
            "{error}"
        );
    }
}
