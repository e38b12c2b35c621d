//! All sinks together: everything is handed to each, and what fails in one is told once, counted,
//! and kept from the others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracklens_schemas::{
    Crop, Epoch, FrameId, Header, Identification, Image, StreamEventKind, StreamId, Track,
    TracksInfo, wall_clock_ns,
};

use crate::amqp::{Amqp, AmqpOptions};
use crate::live::{Access, Live, Offer, Pictures, Server};
use crate::{
    Coco, Feed, Jsonl, Mot, Overlay, Page, RunState, Sink, SinkError, SinkKind, SinkSummary,
    SourceInfo, SummaryFile,
};

/// Rows written (counter; `sink`).
const ROWS: &str = "video_processor_sink_rows_total";
/// Calls to a sink that failed (counter; `sink`).
const ERRORS: &str = "video_processor_sink_errors_total";
/// Time from the capture of a frame to its tracks, in live graphs (histogram; `stream_id`).
const LATENCY: &str = "video_processor_latency_seconds";
/// Frames with tracks per second (gauge; `stream_id`).
const FPS: &str = "video_processor_fps";
/// Time over which they are counted.
const RATE_WINDOW: Duration = Duration::from_secs(2);
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
    /// Bytes after which `tracks.jsonl` is begun anew; 0: never.
    pub jsonl_bytes: u64,
    /// For the sink amqp.
    pub amqp: Option<AmqpOptions>,
    /// For the sinks page and websocket.
    pub live: Option<LiveOptions>,
}

/// Where the live page and the feed are, and for whom.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Address and port.
    pub bind: SocketAddr,
    /// Who may look.
    pub access: Access,
    /// Most pictures a second of a stream.
    pub fps: f64,
    /// Whether frames come to be shown.
    pub with_frames: bool,
}

/// Writes tracks and frames to all sinks.
pub struct Publisher {
    sinks: Vec<Guarded>,
    /// Files of a killed process.
    earlier: Vec<SinkSummary>,
    summary: SummaryFile,
    summary_error: Option<String>,
    live: bool,
    /// Frames since the rate was last told.
    frames: BTreeMap<StreamId, u64>,
    rated: Instant,
    /// What serves the live page and the feed.
    server: Option<(Server, Arc<Live>)>,
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
        let Options { folder, resume, .. } = options;
        std::fs::create_dir_all(folder).map_err(|source| SinkError::Folder {
            path: folder.clone(),
            source,
        })?;
        let mut summary = SummaryFile::open(folder, *resume, options.lossless);
        let has = |kind| options.sinks.contains(&kind);
        let offer = Offer {
            page: has(SinkKind::Page),
            feed: has(SinkKind::Websocket),
        };
        let server = options.live.clone().filter(|_| offer != Offer::default());
        let server = server.map(|own| {
            let live = Live::new(Pictures::new(own.fps, own.with_frames));
            let server = Server::start(Arc::clone(&live), own.access, own.bind, offer);
            (server, live)
        });
        let live = server.as_ref().map(|(_, live)| live);
        let mut guarded = Vec::new();
        for kind in &options.sinks {
            let sink = open(*kind, options, &mut summary, live)?;
            guarded.extend(sink.map(|sink| Guarded {
                sink,
                error: None,
                failures: 0,
                last_failure: None,
            }));
        }
        let mut earlier = summary.summary().sinks.clone();
        earlier.retain(|file| file.path.is_some());
        earlier
            .iter_mut()
            .for_each(|file| (file.frames, file.error) = (None, None));
        // Also the proof that the folder can be written, before the first frame.
        let mut publisher = Self {
            sinks: guarded,
            earlier,
            summary,
            summary_error: None,
            live: !options.lossless,
            frames: BTreeMap::new(),
            rated: Instant::now(),
            server,
        };
        let list = publisher.list();
        publisher.summary.write(RunState::Running, list)?;
        Ok(publisher)
    }

    /// Whether any sink has use for frames.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.sinks.iter().any(|guarded| guarded.sink.wants_frames())
    }

    /// Whether any sink has use for crops.
    #[must_use]
    pub fn wants_crops(&self) -> bool {
        self.sinks.iter().any(|guarded| guarded.sink.wants_crops())
    }

    /// Objects cut out of a frame.
    pub fn crops(&mut self, header: &Header, crops: &[Crop]) {
        for guarded in &mut self.sinks {
            guarded.sink.crops(header, crops);
        }
    }

    /// What objects are.
    pub fn identifications(&mut self, header: &Header, rows: &[Identification]) {
        for guarded in &mut self.sinks {
            let result = guarded.sink.identifications(header, rows);
            if let Some(rows) = guarded.settle(&header.id.stream, result) {
                metrics::counter!(ROWS, "sink" => guarded.sink.name()).increment(rows);
            }
        }
    }

    /// Anything that is said of a stream; `opened`, `error` and `closed` are told besides.
    pub fn stream_event(
        &mut self,
        stream: &StreamId,
        epoch: Epoch,
        event: StreamEventKind,
        detail: &str,
    ) {
        for guarded in &mut self.sinks {
            guarded.sink.stream_event(stream, epoch, event, detail);
        }
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
        if let Some(latency) = self.latency(header) {
            let stream_id = header.id.stream.to_string();
            metrics::histogram!(LATENCY, "stream_id" => stream_id).record(latency.as_secs_f64());
            self.summary.latency(&header.id.stream, latency);
        }
        *self.frames.entry(header.id.stream.clone()).or_default() += 1;
        self.tick();
    }

    /// Time since the capture of a live frame.
    fn latency(&self, header: &Header) -> Option<Duration> {
        let known = self.live && header.capture_ns > 0;
        let passed = known.then(|| wall_clock_ns().saturating_sub(header.capture_ns))?;
        u64::try_from(passed).ok().map(Duration::from_nanos)
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
        if self.frames.remove(stream).is_some() {
            metrics::gauge!(FPS, "stream_id" => stream.to_string()).set(0.0);
        }
        self.tick();
    }

    /// Writes the summary, and tells rates, where it is time to.
    pub fn tick(&mut self) {
        let elapsed = self.rated.elapsed();
        if elapsed >= RATE_WINDOW {
            self.rated = Instant::now();
            for (stream, frames) in &mut self.frames {
                let rate = std::mem::take(frames) as f64 / elapsed.as_secs_f64();
                metrics::gauge!(FPS, "stream_id" => stream.to_string()).set(rate);
            }
        }
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
        // After the sinks: what they said last is still to be heard.
        if let Some((server, live)) = &mut self.server {
            server.finish(live);
        }
        self.write_summary(state);
    }

    /// The files of all sinks; of those of an earlier process, the ones that are not continued.
    fn list(&self) -> Vec<SinkSummary> {
        let address = self.server.as_ref().map(|(server, _)| server.address());
        let now: Vec<SinkSummary> = self
            .sinks
            .iter()
            .flat_map(|guarded| guarded.describe(address.as_ref()))
            .collect();
        let continued = |file: &&SinkSummary| now.iter().any(|now| now.path == file.path);
        let earlier = self.earlier.iter().filter(|file| !continued(file));
        earlier.cloned().chain(now.iter().cloned()).collect()
    }

    fn write_summary(&mut self, state: RunState) {
        let list = self.list();
        match self.summary.write(state, list) {
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
                // On a disk that is nearly full, a small write may work between two that do not.
                let steady = self.last_failure.is_some_and(|at| at.elapsed() >= STEADY);
                if self.error.is_some() && steady && self.sink.recovers() {
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

    /// One entry for each file, or one for the sink.
    fn describe(&self, server: Option<&Result<SocketAddr, String>>) -> Vec<SinkSummary> {
        let served = match self.sink.name() {
            "page" => server.map(|address| (address, "http", "/")),
            "websocket" => server.map(|address| (address, "ws", "/feed")),
            _ => None,
        };
        let address = match served {
            Some((address, scheme, path)) => {
                let address = address.as_ref().ok();
                address.map(|address| format!("{scheme}://{address}{path}"))
            }
            None => self.sink.address(),
        };
        let trouble = served
            .and_then(|(address, ..)| address.as_ref().err().cloned())
            .or_else(|| self.sink.trouble());
        let entry = |path, rows, frames| SinkSummary {
            name: self.sink.name().into(),
            path,
            rows,
            frames,
            failures: self.failures,
            address: address.clone(),
            error: self.error.clone().or_else(|| trouble.clone()),
        };
        let files = self.sink.files();
        if files.is_empty() {
            return vec![entry(None, None, None)];
        }
        let files = files.into_iter().map(|file| {
            let name = file.path.file_name().map(PathBuf::from);
            entry(name, file.rows, file.frames)
        });
        files.collect()
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

/// A sink; `None` where nothing is to be done.
fn open(
    kind: SinkKind,
    options: &Options,
    summary: &mut SummaryFile,
    live: Option<&Arc<Live>>,
) -> Result<Option<Box<dyn Sink>>, SinkError> {
    let Options { folder, resume, .. } = options;
    Ok(Some(match kind {
        SinkKind::Jsonl => Box::new(Jsonl::open(
            folder,
            *resume,
            options.jsonl_bytes,
            |id, track| summary.recover(id, track.0),
        )?),
        SinkKind::Mot => Box::new(Mot::new(folder, *resume)),
        SinkKind::Coco => Box::new(Coco::new(folder, *resume)),
        SinkKind::Overlay => {
            let mut streams = summary.summary().streams.iter();
            let first = streams.find(|stream| stream.frames > 0);
            let first = first.and_then(|stream| stream.id.parse().ok());
            Box::new(Overlay::new(folder, options.waiting, *resume, first))
        }
        SinkKind::Amqp => match options.amqp.clone() {
            Some(amqp) => Box::new(Amqp::start(folder, *resume, amqp)?),
            None => return Ok(None),
        },
        SinkKind::Page | SinkKind::Websocket => match live {
            Some(live) if kind == SinkKind::Page => Box::new(Page::new(Arc::clone(live))),
            Some(live) => Box::new(Feed::new(Arc::clone(live))),
            None => return Ok(None),
        },
        #[cfg(feature = "rerun")]
        SinkKind::Rerun => Box::new(crate::Rrd::new(folder, *resume)),
        #[cfg(not(feature = "rerun"))]
        SinkKind::Rerun => return Err(SinkError::NoRerun),
        SinkKind::None => return Ok(None),
    }))
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
            jsonl_bytes: 0,
            amqp: None,
            live: None,
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

    #[cfg(not(feature = "rerun"))]
    #[test]
    fn a_sink_that_is_not_built_in_is_refused_with_how_to_build_it() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Publisher::new(&options(folder.path(), &[SinkKind::Rerun]));
        let text = refused.err().unwrap().to_string();
        assert!(
            text.contains("--features tracklens-publisher/rerun"),
            "{text}"
        );
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
