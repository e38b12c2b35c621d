//! The iou-tracker node: frames in, tracks out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Deserialize;
use tracklens_iou_tracker::{
    Detector, Follower, MotionDetector, TrackerSettings, YoloxDetector, YoloxSettings,
};
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_schemas::arrow::array::ArrayRef;
use tracklens_schemas::{
    FrameId, Header, Image, ImageInfo, Metadata, StreamEventKind, TracksInfo, TracksStatus, tracks,
};

/// Track ids of one run of the node: a restarted one goes on with the next million.
const IDS_PER_RUN_BITS: u32 = 20;

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    detector: String,
    detector_model: Option<PathBuf>,
    detector_classes: Option<Vec<String>>,
    detector_score_threshold: f32,
    detector_threads: usize,
    min_object_area: u32,
    sam2_max_objects_per_stream: usize,
    track_min_iou: f32,
    track_confirm_frames: u32,
    track_lost_frames: u32,
    tracklens_models: Option<PathBuf>,
    ort_dylib_path: Option<PathBuf>,
}

impl Settings {
    fn detector(&self) -> eyre::Result<Box<dyn Detector>> {
        if self.detector == "motion" {
            return Ok(Box::<MotionDetector>::default());
        }
        let model = self.detector_model.clone().or_else(|| {
            let folder = self.tracklens_models.as_ref()?;
            Some(folder.join("yolox-nano/yolox_nano.onnx"))
        });
        Ok(Box::new(YoloxDetector::new(&YoloxSettings {
            library: self
                .ort_dylib_path
                .clone()
                .unwrap_or_else(|| "libonnxruntime.so".into()),
            model: model.ok_or_else(|| {
                eyre::eyre!(
                    "DETECTOR=yolox needs a model: set DETECTOR_MODEL to a YOLOX .onnx file, or \
                     TRACKLENS_MODELS to the folder with yolox-nano/yolox_nano.onnx"
                )
            })?,
            classes: self.detector_classes.clone().unwrap_or_default(),
            score: self.detector_score_threshold,
            threads: self.detector_threads,
        })?))
    }

    fn tracker(&self) -> TrackerSettings {
        TrackerSettings {
            score: self.detector_score_threshold,
            min_area: self.min_object_area,
            min_iou: self.track_min_iou,
            confirm_frames: self.track_confirm_frames,
            lost_frames: self.track_lost_frames,
            max_objects: self.sam2_max_objects_per_stream,
            ..TrackerSettings::default()
        }
    }
}

/// A frame that waits for others to be looked at together.
struct Waiting {
    header: Header,
    info: ImageInfo,
    pixels: Vec<u8>,
}

/// One frame's rows, and what is said about them.
struct Rows {
    info: TracksInfo,
    rows: ArrayRef,
}

struct IouTracker {
    follower: Follower,
    waiting: Vec<Waiting>,
}

fn main() -> ExitCode {
    tracklens_node::run::<IouTracker>()
}

impl Node for IouTracker {
    const NAME: &'static str = "iou-tracker";
    const ABOUT: &'static str = "Finds objects frame by frame (motion or YOLOX) and follows them.";
    const SETTINGS: &'static [&'static str] = &[
        "DETECTOR",
        "DETECTOR_MODEL",
        "DETECTOR_CLASSES",
        "DETECTOR_SCORE_THRESHOLD",
        "DETECTOR_THREADS",
        "MIN_OBJECT_AREA",
        "SAM2_MAX_OBJECTS_PER_STREAM",
        "TRACK_MIN_IOU",
        "TRACK_CONFIRM_FRAMES",
        "TRACK_LOST_FRAMES",
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
        let first_id = (ctx.restart_count() << IDS_PER_RUN_BITS) + 1;
        let follower = Follower::new(settings.detector()?, settings.tracker(), first_id);
        tracing::info!(
            model = follower.model(),
            batch = follower.max_batch(),
            "detector ready"
        );
        Ok(Self {
            follower,
            waiting: Vec::new(),
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<Rows>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        if input != "frames" {
            // Prompts, where it stands in for a tracker that takes them.
            ctx.done(input, &message.header);
            return Ok(());
        }
        let image = message.image()?;
        if self.follower.max_batch() == 1 {
            // Nothing to wait for: look at the pixels where they are.
            let frame = [(&message.header, image)];
            follow(&mut self.follower, ctx, &frame);
            return Ok(());
        }
        self.waiting.push(Waiting {
            info: image.info,
            pixels: image.data.to_vec(),
            header: message.header,
        });
        if self.batch().len() == self.follower.max_batch() {
            self.look(ctx);
        }
        Ok(())
    }

    fn stream(&mut self, ctx: &mut Context<Rows>, change: &StreamChange) -> eyre::Result<()> {
        if change.event == StreamEventKind::Closed {
            while self
                .waiting
                .iter()
                .any(|frame| frame.header.id.stream == change.stream)
            {
                self.look(ctx);
            }
            self.follower.release(&change.stream);
        }
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Rows>) -> eyre::Result<Work> {
        self.look(ctx);
        Ok(if self.waiting.is_empty() {
            Work::Wait
        } else {
            Work::Again
        })
    }

    fn send(&mut self, outputs: &mut Outputs, header: &Header, parcel: &Rows) -> eyre::Result<()> {
        let mut metadata = Metadata::default();
        parcel.info.write(&mut metadata);
        outputs.rows("tracks", header, metadata, parcel.rows.clone())
    }

    fn finish(&mut self, ctx: &mut Context<Rows>) -> eyre::Result<()> {
        while !self.waiting.is_empty() {
            self.look(ctx);
        }
        Ok(())
    }
}

impl IouTracker {
    /// Places of the next frames to look at: the first of each stream.
    fn batch(&self) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::new();
        for (place, frame) in self.waiting.iter().enumerate() {
            let stream = &frame.header.id.stream;
            let taken = places
                .iter()
                .any(|&p| self.waiting[p].header.id.stream == *stream);
            if !taken && places.len() < self.follower.max_batch() {
                places.push(place);
            }
        }
        places
    }

    fn look(&mut self, ctx: &mut Context<Rows>) {
        let mut batch = Vec::new();
        for place in self.batch().into_iter().rev() {
            batch.push(self.waiting.remove(place));
        }
        batch.reverse();
        let frames: Vec<(&Header, Image<'_>)> = batch
            .iter()
            .map(|frame| {
                (
                    &frame.header,
                    Image {
                        info: frame.info,
                        data: &frame.pixels,
                    },
                )
            })
            .collect();
        follow(&mut self.follower, ctx, &frames);
    }
}

/// Looks at frames of different streams and queues their tracks: one message each, always.
fn follow(follower: &mut Follower, ctx: &mut Context<Rows>, frames: &[(&Header, Image<'_>)]) {
    if frames.is_empty() {
        return;
    }
    let start = Instant::now();
    let seen: Vec<(&FrameId, Image<'_>)> = frames
        .iter()
        .map(|(header, image)| (&header.id, *image))
        .collect();
    let result = ctx.timed("track", |_| follower.follow(&seen));
    let processing_ms = start.elapsed().as_secs_f64() * 1000.0 / frames.len() as f64;
    let (status, found) = match result {
        Ok(found) => (TracksStatus::Ok, found),
        Err(error) => {
            for (header, _) in frames {
                tracing::warn!(frame = %header.id, %error, "no tracks for this frame");
            }
            (TracksStatus::Failed, vec![Vec::new(); frames.len()])
        }
    };
    for ((header, image), rows) in frames.iter().zip(found) {
        let info = TracksInfo {
            status,
            processing_ms,
            model: follower.model().to_owned(),
            width: image.info.source_width,
            height: image.info.source_height,
        };
        ctx.queue(
            (*header).clone(),
            Rows {
                info,
                rows: tracks::encode(&rows),
            },
        );
    }
}
