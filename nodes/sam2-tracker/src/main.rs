//! The sam2-tracker node: frames and prompts in, tracks out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracklens_node::metrics::FRAME_CPU;
use tracklens_node::pairing::{Pair, Pairing};
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_onnx::{Device, SessionSettings};
use tracklens_sam2::{Engines, ModelChoice, ProposalRules};
use tracklens_sam2_tracker::memory_tree::TreeRules;
use tracklens_sam2_tracker::running_model::{LOAD, RunningModel, SwitchRules};
use tracklens_sam2_tracker::snapshot::{Snapshot, SnapshotWriter, StreamSnapshot, fingerprint};
use tracklens_sam2_tracker::{Late, Outcome, Tracker, TrackerSettings};
use tracklens_schemas::arrow::array::ArrayRef;
use tracklens_schemas::{
    Header, Image, Metadata, Prompt, PromptsInfo, StreamEventKind, StreamId, TracksInfo,
    TracksStatus, prompts, tracks,
};

/// Track ids of one run of the node: a restarted one goes on with the next million.
const IDS_PER_RUN_BITS: u32 = 20;

const INFERENCE: &str = "sam2_inference_duration_seconds";
const TRACKED: &str = "video_processor_objects_tracked_total";
const ACTIVE: &str = "video_processor_active_tracks";
const PATHS: &str = "sam2_memory_tree_branches";
const CONFIDENCE: &str = "video_processor_tracking_confidence";
const REFUSED: &str = "sam2_objects_refused_total";
const RETURNED: &str = "sam2_objects_returned_total";
const HELD: &str = "sam2_frames_without_result_total";

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    config_profile: String,
    sam2_model_size: Option<String>,
    sam2_model_dir: Option<PathBuf>,
    enable_dynamic_model_switching: bool,
    model_switch_threshold_mb: u64,
    sam2_device: String,
    sam2_threads: usize,
    sam2_max_batch: usize,
    sam2_past_frames: usize,
    sam2_max_objects_per_stream: usize,
    min_object_area: u32,
    prompt_min_iou: f32,
    prompt_min_stability: f32,
    prompt_max_overlap: f32,
    memory_tree_branches: usize,
    memory_tree_consistency_threshold: f32,
    track_lost_frames: u32,
    track_return_frames: u64,
    track_duplicate_iou: f32,
    mask_clean_cells: usize,
    max_retry_attempts: u32,
    retry_delay_ms: u64,
    snapshot_dir: Option<PathBuf>,
    snapshot_interval_seconds: f64,
    tracklens_models: Option<PathBuf>,
    ort_dylib_path: Option<PathBuf>,
}

impl Settings {
    /// Which model is meant.
    fn model(&self) -> ModelChoice<'_> {
        ModelChoice {
            profile: &self.config_profile,
            size: self.sam2_model_size.as_deref(),
            dir: self.sam2_model_dir.as_ref(),
            models: self.tracklens_models.as_ref(),
        }
    }

    fn sessions(&self) -> SessionSettings {
        SessionSettings {
            library: tracklens_onnx::library(self.ort_dylib_path.as_deref()),
            threads: self.sam2_threads,
            device: Device::named(&self.sam2_device),
        }
    }

    fn tracker(&self, live: bool, first_id: u32) -> TrackerSettings {
        TrackerSettings {
            proposals: ProposalRules {
                min_iou: self.prompt_min_iou,
                min_stability: self.prompt_min_stability,
                max_overlap: self.prompt_max_overlap,
                min_area: self.min_object_area,
                ..ProposalRules::default()
            },
            max_objects: self.sam2_max_objects_per_stream,
            tree: TreeRules {
                branches: self.memory_tree_branches,
                consistency: self.memory_tree_consistency_threshold,
            },
            lost_frames: self.track_lost_frames,
            return_frames: self.track_return_frames,
            duplicate_iou: self.track_duplicate_iou,
            clean_cells: self.mask_clean_cells,
            past_frames: if live { self.sam2_past_frames } else { 0 },
            retries: self.max_retry_attempts,
            retry_delay: Duration::from_millis(self.retry_delay_ms),
            max_batch: self.sam2_max_batch,
            first_id,
            ..TrackerSettings::default()
        }
    }
}

/// One frame's rows, and what is said about them.
struct Rows {
    info: TracksInfo,
    rows: ArrayRef,
}

/// What is known of the prompts of a frame.
#[derive(Default)]
struct Prompts {
    info: PromptsInfo,
    rows: Vec<Prompt>,
}

/// Snapshots of the state.
struct Snapshots {
    writer: SnapshotWriter,
    /// The folder, where it is for this run alone.
    of_run: Option<PathBuf>,
    interval: Duration,
    last: Instant,
    run: String,
}

struct Sam2Tracker {
    tracker: Tracker<Engines>,
    model: RunningModel,
    pairing: Pairing<Prompts>,
    /// Frames wait for their prompts.
    waits: bool,
    snapshots: Option<Snapshots>,
    /// No result on the last frame.
    failing: bool,
}

#[global_allocator]
static ALLOCATOR: tracklens_node::Allocator = tracklens_node::Allocator;

fn main() -> ExitCode {
    tracklens_node::run::<Sam2Tracker>()
}

impl Node for Sam2Tracker {
    const NAME: &'static str = "sam2-tracker";
    const ABOUT: &'static str = "Follows the masks of objects with SAM 2's memory.";
    const SETTINGS: &'static [&'static str] = &[
        "SAM2_MODEL_SIZE",
        "SAM2_MODEL_DIR",
        "ENABLE_DYNAMIC_MODEL_SWITCHING",
        "MODEL_SWITCH_THRESHOLD_MB",
        "SAM2_DEVICE",
        "SAM2_THREADS",
        "SAM2_MAX_BATCH",
        "SAM2_PAST_FRAMES",
        "SAM2_MAX_OBJECTS_PER_STREAM",
        "MIN_OBJECT_AREA",
        "PROMPT_MIN_IOU",
        "PROMPT_MIN_STABILITY",
        "PROMPT_MAX_OVERLAP",
        "MEMORY_TREE_BRANCHES",
        "MEMORY_TREE_CONSISTENCY_THRESHOLD",
        "TRACK_LOST_FRAMES",
        "TRACK_RETURN_FRAMES",
        "TRACK_DUPLICATE_IOU",
        "MASK_CLEAN_CELLS",
        "MAX_RETRY_ATTEMPTS",
        "RETRY_DELAY_MS",
        "SNAPSHOT_DIR",
        "SNAPSHOT_INTERVAL_SECONDS",
        "TRACKLENS_MODELS",
        "ORT_DYLIB_PATH",
    ];
    type Settings = Settings;
    type Parcel = Rows;

    fn new(settings: Settings, ctx: &mut Context<Rows>) -> eyre::Result<Self> {
        eyre::ensure!(
            ctx.restart_count() < 1 << (u32::BITS - IDS_PER_RUN_BITS),
            "restarted {} times: no track ids are left, start the graph anew",
            ctx.restart_count()
        );
        let start = Instant::now();
        let folders = settings.model().folders();
        let folder = settings.model().open()?;
        let sessions = settings.sessions();
        let engines = Engines::open(&folder, &sessions)?;
        let model = folder.config.model.name.clone();
        let seconds = start.elapsed().as_secs_f64();
        metrics::gauge!(LOAD, "model_size" => model.clone()).set(seconds);
        tracing::info!(model, folder = %folder.path.display(), seconds, "model ready");
        let first_id = (ctx.restart_count() << IDS_PER_RUN_BITS) + 1;
        let rules = settings.tracker(ctx.live(), first_id);
        let mut tracker = Tracker::new(engines, folder.config, rules);
        let of_run = settings.snapshot_dir.is_none().then(|| folder_of_run(ctx));
        let folder = settings.snapshot_dir.or_else(|| of_run.clone());
        let snapshots = folder.map(|folder| {
            restore(&mut tracker, &folder, &ctx.run_id());
            Snapshots {
                writer: SnapshotWriter::new(folder),
                interval: Duration::from_secs_f64(settings.snapshot_interval_seconds),
                last: Instant::now(),
                run: ctx.run_id(),
                of_run,
            }
        });
        if ctx.restart_count() > 0 {
            // What was given between the last snapshot and the restart is not given again.
            tracker.reserve_ids(first_id);
        }
        Ok(Self {
            tracker,
            model: RunningModel::new(
                model,
                settings
                    .enable_dynamic_model_switching
                    .then_some(SwitchRules {
                        least_mib: settings.model_switch_threshold_mb,
                        folders,
                        sessions,
                    }),
            ),
            pairing: Pairing::default(),
            waits: !ctx.live() && ctx.has_input("prompts"),
            snapshots,
            failing: false,
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<Rows>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        let stream = message.header.id.stream.clone();
        let result = match input {
            "frames" => self.frame(ctx, message),
            "prompts" => self.prompts(ctx, message),
            _ => Ok(()),
        };
        // While the graph stops, nothing is worked off between events.
        if !self.waits || ctx.stopping() {
            while let Some(pair) = self.pairing.next(&stream) {
                self.work_off(ctx, pair);
            }
        }
        self.let_orphans_go(ctx);
        result
    }

    fn stream(&mut self, ctx: &mut Context<Rows>, change: &StreamChange) -> eyre::Result<()> {
        match change.event {
            StreamEventKind::Closed => {
                self.drain(ctx, &change.stream);
                self.pairing.forget(&change.stream);
                self.tracker.release(&change.stream);
            }
            // Frames of an earlier epoch wait for prompts that will not come.
            StreamEventKind::Opened
                if self
                    .pairing
                    .epoch(&change.stream)
                    .is_some_and(|e| e < change.epoch) =>
            {
                self.drain(ctx, &change.stream);
            }
            _ => {}
        }
        self.let_orphans_go(ctx);
        Ok(())
    }

    /// Without a prompt-generator what is followed is followed on.
    fn input_closed(&mut self, ctx: &mut Context<Rows>, input: &str) -> eyre::Result<()> {
        if input == "prompts" && std::mem::take(&mut self.waits) {
            for stream in self.pairing.waiting() {
                self.drain(ctx, &stream);
            }
            self.let_orphans_go(ctx);
        }
        Ok(())
    }

    /// One frame at a time: what has come meanwhile is taken in before the next, so that its encoding
    /// begins.
    fn work(&mut self, ctx: &mut Context<Rows>) -> eyre::Result<Work> {
        for stream in self.pairing.waiting() {
            if let Some(pair) = self.pairing.next(&stream) {
                self.work_off(ctx, pair);
                self.let_orphans_go(ctx);
                return Ok(Work::Again);
            }
        }
        self.upkeep();
        Ok(Work::Wait)
    }

    fn send(&mut self, outputs: &mut Outputs, header: &Header, parcel: &Rows) -> eyre::Result<()> {
        let mut metadata = Metadata::default();
        parcel.info.write(&mut metadata);
        outputs.rows("tracks", header, metadata, parcel.rows.clone())
    }

    fn finish(&mut self, ctx: &mut Context<Rows>) -> eyre::Result<()> {
        for stream in self.pairing.waiting() {
            self.drain(ctx, &stream);
        }
        let snapshot = self.snapshot(true);
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.writer.finish(snapshot);
            if let Some(folder) = &snapshots.of_run {
                // What nobody will read; the system clears what cannot be removed.
                let _gone = std::fs::remove_dir_all(folder);
            }
        }
        Ok(())
    }
}

/// Where the state is kept that only a restart in the same run will want.
fn folder_of_run(ctx: &Context<Rows>) -> PathBuf {
    let name = format!("tracklens-{}-{}", ctx.run_id(), ctx.node_id());
    std::env::temp_dir().join(name)
}

/// Takes over the last snapshot, as far as it is of this run and model.
fn restore(tracker: &mut Tracker<Engines>, folder: &std::path::Path, run: &str) {
    let snapshot = match Snapshot::read(folder) {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!("{error}");
            return;
        }
    };
    let model = fingerprint(tracker.config());
    for stream in &snapshot.streams {
        let state = stream.restore(&snapshot, run, &model);
        tracing::info!(
            stream_id = %stream.stream, objects = state.objects.len(), next_id = state.next_id,
            "state taken from the snapshot"
        );
        tracker.restore(stream.stream.clone(), state);
    }
}

impl Sam2Tracker {
    fn frame(&mut self, ctx: &mut Context<Rows>, message: Message) -> Result<(), BadMessage> {
        let image = message.image()?;
        if let Some((engines, config)) = self.model.follow(image.info.quality) {
            self.tracker.switch(engines, config);
        }
        if self.waits {
            self.tracker.prepare(&message.header.id, &image);
            // What is encoded for one model is of no use to another.
            let pixels = match self.model.may_change() {
                true => image.data,
                false => &[],
            };
            self.pairing
                .frame(message.header.clone(), image.info, pixels);
            return Ok(());
        }
        let prompts = self.pairing.take(&message.header);
        self.track(ctx, &message.header, image, &prompts);
        Ok(())
    }

    /// Malformed prompts are none, and the frame is tracked all the same.
    fn prompts(&mut self, ctx: &mut Context<Rows>, message: Message) -> Result<(), BadMessage> {
        let decoded = PromptsInfo::read(&message.metadata)
            .and_then(|info| prompts::decode(&message.array).map(|rows| Prompts { info, rows }));
        let (prompts, result) = match decoded {
            Ok(prompts) => (prompts, Ok(())),
            Err(bad) => (Prompts::default(), Err(bad.into())),
        };
        if let Some(late) = self.pairing.prompts(message.header.clone(), prompts) {
            self.late(ctx, &message.header, &late);
        } else if !self.waits {
            ctx.done("prompts", &message.header);
        }
        result
    }

    fn late(&mut self, ctx: &mut Context<Rows>, header: &Header, late: &Prompts) {
        ctx.done("prompts", header);
        if late.info.scene_cut {
            self.tracker.begin_scene(&header.id.stream);
        }
        let prompts = &late.rows;
        if prompts.is_empty() {
            return;
        }
        match self.tracker.late(&header.id, prompts) {
            Ok(Late::Forgotten) => {
                bad_prompts("late", prompts.len());
                tracing::debug!(frame = %header.id, "prompts for a frame that is no longer kept");
            }
            Ok(Late::Begun {
                objects,
                returned,
                refused,
                bad_prompts: bad,
            }) => {
                metrics::counter!(TRACKED).increment(objects.len() as u64);
                metrics::counter!(RETURNED, "stream_id" => header.id.stream.to_string())
                    .increment(returned.len() as u64);
                metrics::counter!(REFUSED, "stream_id" => header.id.stream.to_string())
                    .increment(refused as u64);
                bad_prompts("useless", bad.len());
            }
            Err(error) => tracing::warn!(frame = %header.id, %error, "late prompts not applied"),
        }
    }

    fn work_off(&mut self, ctx: &mut Context<Rows>, pair: Pair<Prompts>) {
        let frame = pair.frame;
        let image = Image {
            info: frame.info,
            data: &frame.pixels,
        };
        self.track(ctx, &frame.header, image, &pair.prompts);
        self.pairing.give_back(frame);
    }

    fn drain(&mut self, ctx: &mut Context<Rows>, stream: &StreamId) {
        while let Some(pair) = self.pairing.force(stream) {
            self.work_off(ctx, pair);
        }
    }

    fn let_orphans_go(&mut self, ctx: &mut Context<Rows>) {
        for header in self.pairing.take_orphans() {
            ctx.done("prompts", &header);
        }
    }

    fn track(
        &mut self,
        ctx: &mut Context<Rows>,
        header: &Header,
        image: Image<'_>,
        prompts: &Prompts,
    ) {
        let start = Instant::now();
        if prompts.info.scene_cut {
            self.tracker.begin_scene(&header.id.stream);
        }
        let tracker = &mut self.tracker;
        let outcome = ctx.timed("track", |_| {
            tracker.track(&header.id, &image, &prompts.rows)
        });
        self.report(header, &outcome);
        let info = TracksInfo {
            status: outcome.status,
            processing_ms: start.elapsed().as_secs_f64() * 1000.0,
            model: self.model.name().to_string(),
            width: image.info.source_width,
            height: image.info.source_height,
        };
        let rows = tracks::encode(&outcome.tracks);
        ctx.queue(header.clone(), Rows { info, rows });
        self.upkeep();
    }

    fn report(&mut self, header: &Header, outcome: &Outcome) {
        for (operation, time) in outcome.stages.each() {
            if time > Duration::ZERO {
                metrics::histogram!(
                    INFERENCE, "model_size" => self.model.name().to_string(), "operation" => operation
                )
                .record(time.as_secs_f64());
            }
        }
        metrics::histogram!(FRAME_CPU, "operation" => "masks")
            .record(outcome.masks_cpu.as_secs_f64());
        let stream = header.id.stream.to_string();
        metrics::counter!(TRACKED).increment(outcome.begun.len() as u64);
        metrics::gauge!(ACTIVE, "stream_id" => stream.clone()).set(outcome.tracks.len() as f64);
        metrics::gauge!(PATHS, "stream_id" => stream.clone())
            .set(self.tracker.paths(&header.id.stream) as f64);
        for track in outcome.tracks.iter().filter(|track| track.visible) {
            metrics::histogram!(CONFIDENCE).record(f64::from(track.score));
        }
        if !outcome.returned.is_empty() {
            metrics::counter!(RETURNED, "stream_id" => stream.clone())
                .increment(outcome.returned.len() as u64);
        }
        if outcome.refused > 0 {
            metrics::counter!(REFUSED, "stream_id" => stream.clone())
                .increment(outcome.refused as u64);
        }
        bad_prompts("useless", outcome.bad_prompts.len());
        for error in &outcome.bad_prompts {
            tracing::debug!(frame = %header.id, %error, "a prompt is not used");
        }
        let failed = outcome.status != TracksStatus::Ok;
        if failed {
            metrics::counter!(HELD, "stream_id" => stream).increment(1);
        }
        // Said once, not on every frame.
        match (&outcome.error, self.failing) {
            (Some(error), false) => {
                tracing::warn!(frame = %header.id, %error, status = outcome.status.as_str(),
                    "no result for this frame");
            }
            (None, true) => tracing::info!(frame = %header.id, "tracking works again"),
            _ => {}
        }
        self.failing = failed;
    }

    fn snapshot(&self, last: bool) -> Snapshot {
        let mut streams: Vec<StreamSnapshot> = self
            .tracker
            .streams()
            .map(|(stream, state)| StreamSnapshot::of(stream, state))
            .collect();
        streams.sort_by(|a, b| a.stream.cmp(&b.stream));
        Snapshot {
            run: self
                .snapshots
                .as_ref()
                .map_or_else(String::new, |s| s.run.clone()),
            model: fingerprint(self.tracker.config()),
            last,
            streams,
        }
    }

    fn snapshot_if_due(&mut self) {
        let due = self
            .snapshots
            .as_ref()
            .is_some_and(|snapshots| snapshots.last.elapsed() >= snapshots.interval);
        if !due {
            return;
        }
        let snapshot = self.snapshot(false);
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.writer.offer(snapshot);
            snapshots.last = Instant::now();
        }
    }
}

impl Sam2Tracker {
    /// What is due from time to time, also while frames never stop coming.
    fn upkeep(&mut self) {
        self.snapshot_if_due();
        if let Some((engines, config)) = self.model.relieve_memory() {
            self.tracker.switch(engines, config);
        }
    }
}

fn bad_prompts(reason: &'static str, count: usize) {
    if count > 0 {
        metrics::counter!(
            tracklens_node::metrics::BAD_MESSAGES, "input" => "prompts", "reason" => reason
        )
        .increment(count as u64);
    }
}
