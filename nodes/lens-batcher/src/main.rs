//! The lens-batcher node: crops and tracks in, identifications out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tracklens_lens_batcher::alarm::Alarm;
use tracklens_lens_batcher::journal::Journal;
use tracklens_lens_batcher::lens::{Lens, TimeSource};
use tracklens_lens_batcher::question::Question;
use tracklens_lens_batcher::secret::Secret;
use tracklens_lens_batcher::settings::{KEY, SETTINGS, Settings};
use tracklens_lens_batcher::workers::Workers;
use tracklens_lens_batcher::{LensError, cache_file};
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_schemas::{
    Header, Identification, Metadata, StreamEventKind, StreamId, TracksInfo, crops,
    identifications, tracks,
};

/// Least time between two versions of the cache file.
const SAVE: Duration = Duration::from_secs(5);

struct LensBatcher {
    lens: Lens,
    workers: Workers,
    alarm: Alarm,
    origin: Instant,
    drain: Duration,
    /// Streams that have ended and wait for answers, and until when.
    closing: BTreeMap<StreamId, Instant>,
    stop_by: Option<Instant>,
    store: Option<Store>,
    keep: Option<PathBuf>,
}

/// What is kept on disk.
struct Store {
    folder: PathBuf,
    service: String,
    run: String,
    journal: Journal,
    saved: Instant,
    failing: bool,
}

fn main() -> ExitCode {
    tracklens_node::run::<LensBatcher>()
}

impl Node for LensBatcher {
    const NAME: &'static str = "lens-batcher";
    const ABOUT: &'static str = "Asks an image-recognition service what objects are.";
    const SETTINGS: &'static [&'static str] = SETTINGS;
    type Settings = Settings;
    type Parcel = ();

    fn new(settings: Settings, ctx: &mut Context<()>) -> eyre::Result<Self> {
        let key = Secret::new(&std::env::var(KEY).unwrap_or_default());
        let service = settings.service(key)?;
        let restarted = ctx.restart_count() > 0;
        let options = settings.options(&service, restarted);
        if options.batch_size < settings.lens_batch_size {
            tracing::info!(
                most = options.batch_size,
                "the service takes fewer pictures than LENS_BATCH_SIZE"
            );
        }
        let time = match ctx.live() {
            true => TimeSource::Capture,
            false => TimeSource::Stream,
        };
        let has_tracks = ctx.has_input("tracks");
        let origin = Instant::now();
        let mut lens = Lens::new(
            service.name(),
            time,
            has_tracks,
            settings.timing(),
            options,
            origin.elapsed(),
        );
        let store = settings.lens_cache_dir.as_deref();
        let store = store
            .map(|folder| Store::open(folder, &service.fingerprint(), &ctx.run_id(), &mut lens));
        if let Some(folder) = &settings.lens_keep_dir {
            make_folder("LENS_KEEP_DIR", folder)?;
        }
        let (ring, waker) = (ctx.waker(), ctx.waker());
        let workers = Workers::start(
            settings.lens_calls_at_once,
            &service,
            &settings.chain(),
            move || waker.wake(),
        )?;
        tracing::info!(backend = service.name(), has_tracks, ?time, "ready");
        Ok(Self {
            lens,
            workers,
            alarm: Alarm::new(move || ring.wake()),
            origin,
            drain: Duration::from_secs_f64(settings.lens_drain_seconds),
            closing: BTreeMap::new(),
            stop_by: None,
            store: store.transpose()?,
            keep: settings.lens_keep_dir,
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<()>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        let (header, now) = (&message.header, self.origin.elapsed());
        match input {
            "tracks" => {
                let info = TracksInfo::read(&message.metadata)?;
                let rows = tracks::decode(&message.array, info.width, info.height)?;
                self.lens.tracks(header, &info, &rows, now);
            }
            "crops" => self.lens.crops(header, crops::decode(&message.array)?, now),
            _ => {}
        }
        // However slow the service is, tracking is not held up.
        ctx.done(input, header);
        Ok(())
    }

    fn stream(&mut self, ctx: &mut Context<()>, change: &StreamChange) -> eyre::Result<()> {
        if change.event == StreamEventKind::Closed {
            self.lens.closed(&change.stream, self.origin.elapsed());
            let deadline = Instant::now() + self.drain;
            self.closing.insert(change.stream.clone(), deadline);
            // The publisher takes nothing of a stream that is closed.
            ctx.hold(&change.stream);
        }
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<()>) -> eyre::Result<Work> {
        while let Some((call, result)) = self.workers.next() {
            self.lens.ended(call, result, self.origin.elapsed());
        }
        let stopping = ctx.stopping();
        self.make_calls(stopping || (!self.closing.is_empty() && !self.lens.has_streams()));
        let asked = self.lens.take_asked();
        self.keep(&asked);
        self.send_rows(ctx)?;
        self.close_answered(ctx)?;
        self.save(stopping);
        if stopping {
            return self.drain(ctx);
        }
        self.set_alarm();
        Ok(Work::Wait)
    }

    fn send(&mut self, _outputs: &mut Outputs, _header: &Header, (): &()) -> eyre::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _ctx: &mut Context<()>) -> eyre::Result<()> {
        self.save(true);
        let counts = self.lens.scheduler().counts();
        tracing::info!(
            answered = counts.answered,
            calls = counts.all_calls(),
            cached = counts.hits,
            duplicates = counts.twins,
            failed = counts.failed,
            dropped = counts.dropped,
            "questions"
        );
        Ok(())
    }
}

impl LensBatcher {
    fn make_calls(&mut self, hurry: bool) {
        while let Some(call) = self.lens.poll(self.origin.elapsed(), hurry) {
            self.workers.make(call);
        }
    }

    /// One message per frame on which questions were asked, as the answers come.
    fn send_rows(&mut self, ctx: &mut Context<()>) -> eyre::Result<()> {
        let mut by_frame: Vec<(Header, Vec<Identification>)> = Vec::new();
        for (header, row) in self.lens.take_rows() {
            if let Some(store) = &mut self.store {
                store.note(&header, &row, self.lens.asked_at(&header));
            }
            match by_frame.last_mut().filter(|(last, _)| last.id == header.id) {
                Some((_, rows)) => rows.push(row),
                None => by_frame.push((header, vec![row])),
            }
        }
        for (header, rows) in by_frame {
            let rows = identifications::encode(&rows);
            ctx.outputs()
                .rows("identifications", &header, Metadata::default(), rows)?;
        }
        Ok(())
    }

    /// Lets the ends of streams go on whose questions are answered, or have waited long enough.
    fn close_answered(&mut self, ctx: &mut Context<()>) -> eyre::Result<()> {
        let (lens, now) = (&mut self.lens, Instant::now());
        let late = |(stream, by): &(&StreamId, &Instant)| **by <= now && lens.is_busy(stream);
        let late: Vec<StreamId> = self
            .closing
            .iter()
            .filter(late)
            .map(|(s, _)| s.clone())
            .collect();
        for stream in &late {
            tracing::warn!(stream_id = %stream, "the stream ended before all its questions were answered");
            let own = |question: &Question| question.object.stream == *stream;
            lens.scheduler().abandon(
                own,
                "no answer before the stream's end (LENS_DRAIN_SECONDS)",
            );
        }
        self.send_rows(ctx)?;
        let answered = |stream: &&StreamId| !self.lens.is_busy(stream);
        let answered: Vec<StreamId> = self.closing.keys().filter(answered).cloned().collect();
        for stream in answered {
            self.closing.remove(&stream);
            ctx.release(&stream);
        }
        Ok(())
    }

    /// The last rounds: waits for what is on its way, for a while.
    fn drain(&mut self, ctx: &mut Context<()>) -> eyre::Result<Work> {
        let stop_by = *self
            .stop_by
            .get_or_insert_with(|| Instant::now() + self.drain);
        if self.lens.scheduler().is_idle() {
            return Ok(Work::Wait);
        }
        let left = stop_by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let count = self.lens.scheduler().open().count();
            tracing::warn!(count, "stopped before all questions were answered");
            self.lens
                .scheduler()
                .abandon(|_| true, "stopped before an answer came");
            self.send_rows(ctx)?;
            return Ok(Work::Wait);
        }
        let now = self.origin.elapsed();
        let wakes = self
            .lens
            .scheduler()
            .wakes_at(now)
            .map_or(left, |at| at.saturating_sub(now));
        let wait = wakes
            .clamp(Duration::from_millis(1), Duration::from_millis(100))
            .min(left);
        if let Some((call, result)) = self.workers.wait(wait) {
            self.lens.ended(call, result, self.origin.elapsed());
        }
        Ok(Work::Again)
    }

    fn set_alarm(&mut self) {
        let now = self.origin.elapsed();
        let call = self
            .lens
            .scheduler()
            .wakes_at(now)
            .map(|at| self.origin + at);
        let deadline = self.closing.values().min().copied();
        self.alarm.set([call, deadline].into_iter().flatten().min());
    }

    fn keep(&self, asked: &[Question]) {
        let Some(folder) = &self.keep else { return };
        for question in asked {
            let (object, picture) = (&question.object, &question.view.picture);
            let name = format!(
                "{}-{}-{}.png",
                object.stream, object.track.0, question.view.frame
            );
            if let Err(error) = picture.write_png(&folder.join(&name)) {
                tracing::warn!(%error, name, "the picture is not kept");
            }
        }
    }

    fn save(&mut self, at_once: bool) {
        if let Some(store) = &mut self.store
            && (at_once || store.saved.elapsed() >= SAVE)
            && self.lens.scheduler().cache().take_changed()
        {
            store.save(&mut self.lens);
        }
    }
}

fn make_folder(setting: &'static str, folder: &Path) -> Result<(), LensError> {
    std::fs::create_dir_all(folder).map_err(|error| LensError::Folder {
        setting,
        path: folder.into(),
        reason: error.to_string(),
    })
}

impl Store {
    fn open(folder: &Path, service: &str, run: &str, lens: &mut Lens) -> Result<Self, LensError> {
        make_folder("LENS_CACHE_DIR", folder)?;
        let unusable = |error: std::io::Error| LensError::Folder {
            setting: "LENS_CACHE_DIR",
            path: folder.into(),
            reason: error.to_string(),
        };
        let (journal, entries) = Journal::open(folder, run).map_err(unusable)?;
        lens.asked_before(entries);
        match cache_file::load(&cache_path(folder), service, lens.scheduler().cache()) {
            Ok(answers) => tracing::info!(answers, "cache"),
            Err(error) => tracing::warn!("the cache begins empty: {error}"),
        }
        Ok(Self {
            folder: folder.into(),
            service: service.into(),
            run: run.into(),
            journal,
            saved: Instant::now(),
            failing: false,
        })
    }

    fn note(&mut self, header: &Header, row: &Identification, at: i64) {
        let object = tracklens_lens_batcher::candidate::Object {
            stream: header.id.stream.clone(),
            track: row.track_id,
        };
        let noted = self.journal.note(&object, header.id.epoch, at);
        let noted = noted.and_then(|()| {
            if self.journal.is_long() {
                (self.journal, _) = Journal::open(&self.folder, &self.run)?;
            }
            Ok(())
        });
        self.told(noted.map_err(|error| error.to_string()));
    }

    fn save(&mut self, lens: &mut Lens) {
        self.saved = Instant::now();
        let path = cache_path(&self.folder);
        let saved = cache_file::save(&path, &self.service, lens.scheduler().cache());
        self.told(saved.map_err(|error| error.to_string()));
    }

    /// Says once that the folder fails, and once that it works again.
    fn told(&mut self, result: Result<(), String>) {
        match &result {
            Err(error) if !self.failing => tracing::error!("answers are not kept: {error}"),
            Ok(()) if self.failing => tracing::info!("answers are kept again"),
            _ => {}
        }
        self.failing = result.is_err();
    }
}

fn cache_path(folder: &Path) -> PathBuf {
    folder.join("answers.jsonl")
}
