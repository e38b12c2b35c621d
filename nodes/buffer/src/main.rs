//! The buffer node: frames in, frames at the processing resolution and crops out.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracklens_buffer::{AdaptiveQuality, Pacer, Rates, Resizer, Ring, crop, target_size};
use tracklens_node::{
    BadMessage, Context, Load, Message, Node, Outputs, Policy, StreamChange, Work, metrics as names,
};
use tracklens_schemas::{
    Epoch, Header, ImageInfo, Metadata, StreamEventKind, StreamId, TrackId, TracksInfo, crops,
    tracks,
};

/// Steps below full quality (gauge).
const QUALITY: &str = "video_processor_quality_steps_below";
/// Steps taken (counter; `direction`).
const QUALITY_STEPS: &str = "video_processor_quality_changes_total";
/// Frames of more bytes are never kept where they came in: the sender's shared memory, which holds a
/// window of them then, could run dry, the sooner as a buffer that is killed gives none back.
const SHARED: usize = 4 << 20;
/// Time over which rates are measured.
const MEASURED: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    flow_window: usize,
    target_fps: f64,
    adaptive_quality: bool,
    processing_resolution: u32,
    video_buffer_size: usize,
    crop_padding: f32,
    crop_max_side: u32,
    crop_interval_frames: u64,
}

struct Stream {
    ring: Ring,
    pacer: Pacer,
    /// Frame of the last crop of each object.
    cropped: HashMap<TrackId, u64>,
}

struct Buffer {
    settings: Settings,
    streams: HashMap<StreamId, Stream>,
    /// Streams that are over, whose last frames have yet to be taken.
    leaving: Vec<(StreamId, Epoch)>,
    resizer: Resizer,
    quality: AdaptiveQuality,
    /// When rates were last measured, and what had been done until then.
    measured: (Instant, Load),
}

#[global_allocator]
static ALLOCATOR: tracklens_node::Allocator = tracklens_node::Allocator;

fn main() -> ExitCode {
    tracklens_node::run::<Buffer>()
}

impl Node for Buffer {
    const NAME: &'static str = "buffer";
    const ABOUT: &'static str = "Keeps the last frames, resizes them for the tracker, cuts crops.";
    const LIVE_POLICY: Policy = Policy::Newest;
    const SETTINGS: &'static [&'static str] = &[
        "FLOW_WINDOW",
        "TARGET_FPS",
        "ADAPTIVE_QUALITY",
        "PROCESSING_RESOLUTION",
        "VIDEO_BUFFER_SIZE",
        "CROP_PADDING",
        "CROP_MAX_SIDE",
        "CROP_INTERVAL_FRAMES",
    ];
    type Settings = Settings;
    /// The frame as it came in, where it is not in the ring.
    type Parcel = Option<Message>;

    fn new(settings: Settings, _: &mut Context<Self::Parcel>) -> eyre::Result<Self> {
        Ok(Self {
            settings,
            streams: HashMap::new(),
            leaving: Vec::new(),
            resizer: Resizer::default(),
            quality: AdaptiveQuality::default(),
            measured: (Instant::now(), Load::default()),
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<Self::Parcel>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        match input {
            "frames" => self.frame(ctx, message),
            "tracks" => self.cut(ctx, &message),
            _ => Ok(()),
        }
    }

    fn stream(&mut self, _: &mut Context<Self::Parcel>, change: &StreamChange) -> eyre::Result<()> {
        match change.event {
            StreamEventKind::Closed => self.leaving.push((change.stream.clone(), change.epoch)),
            StreamEventKind::Opened => self.leaving.retain(|(stream, _)| *stream != change.stream),
            _ => {}
        }
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Self::Parcel>) -> eyre::Result<Work> {
        if ctx.live() && self.settings.adaptive_quality {
            self.adapt(ctx);
        }
        let streams = &mut self.streams;
        self.leaving.retain(|(stream, epoch)| {
            let left = ctx.is_clear(stream, *epoch);
            if left {
                streams.remove(stream);
            }
            !left
        });
        Ok(Work::Wait)
    }

    fn send(
        &mut self,
        outputs: &mut Outputs,
        header: &Header,
        held: &Self::Parcel,
    ) -> eyre::Result<()> {
        let image = match held {
            Some(message) => message.image().ok(),
            None => self
                .streams
                .get(&header.id.stream)
                .and_then(|stream| stream.ring.get(&header.id)),
        };
        let Some(image) = image else {
            tracing::warn!(frame = %header.id, "no longer there to be sent: VIDEO_BUFFER_SIZE is too small");
            return Ok(());
        };
        let quality = self.quality.quality();
        let most = quality.processing_height(self.settings.processing_resolution);
        let (width, height) = target_size(&image.info, most);
        let info = ImageInfo {
            width,
            height,
            quality,
            ..image.info
        };
        let mut resized = Ok(());
        outputs.frame("frames", header, &info, |out| {
            if (width, height) == (image.info.width, image.info.height) {
                out.copy_from_slice(image.data);
            } else {
                resized = self.resizer.resize(&image, &info, out);
            }
        })?;
        Ok(resized?)
    }

    fn finish(&mut self, _: &mut Context<Self::Parcel>) -> eyre::Result<()> {
        Ok(())
    }
}

impl Buffer {
    /// Measures how the tracker keeps up, once a second, and takes the step that follows.
    fn adapt(&mut self, ctx: &Context<Option<Message>>) {
        let (then, before) = self.measured;
        let elapsed = then.elapsed();
        if elapsed < MEASURED {
            return;
        }
        let load = ctx.load();
        self.measured = (Instant::now(), load);
        let (new, seconds) = (load.since(before), elapsed.as_secs_f64());
        let rates = Rates {
            offered: new.offered as f64 / seconds,
            taken: new.offered.saturating_sub(new.dropped) as f64 / seconds,
            busy: new.busy.as_secs_f64() / seconds,
        };
        let Some(step) = self.quality.observe(elapsed, rates) else {
            return;
        };
        let down = step.to > step.from;
        let (what, changed, direction) = match down {
            true => ("less is spent on a frame", step.to, "down"),
            false => ("more is spent on a frame again, without", step.from, "up"),
        };
        tracing::info!(
            from = step.from.steps(),
            to = step.to.steps(),
            "the tracker takes {:.1} of {:.1} frames a second and is busy {:.0} % of the time: {what}: {}",
            rates.taken,
            rates.offered,
            100.0 * rates.busy,
            changed.saving()
        );
        metrics::gauge!(QUALITY).set(step.to.steps());
        metrics::counter!(QUALITY_STEPS, "direction" => direction).increment(1);
    }

    fn frame(
        &mut self,
        ctx: &mut Context<Option<Message>>,
        message: Message,
    ) -> Result<(), BadMessage> {
        let image = message.image()?;
        let header = message.header.clone();
        // The ring is for crops, and for live frames, which are acknowledged at once.
        let held = !ctx.live() && !ctx.outputs().wanted("crops") && image.data.len() <= SHARED;
        // What is unacknowledged must still be there to be sent again.
        let capacity = self
            .settings
            .video_buffer_size
            .max(self.settings.flow_window + 1);
        let fps = self.settings.target_fps;
        let stream = self
            .streams
            .entry(header.id.stream.clone())
            .or_insert_with(|| Stream {
                ring: Ring::new(capacity),
                pacer: Pacer::new(fps),
                cropped: HashMap::new(),
            });
        if !held {
            stream.ring.push(&header.id, &image);
        }
        if ctx.live() && !stream.pacer.admits(header.pts_ns) {
            metrics::counter!(
                names::FRAMES_DROPPED,
                "stream_id" => header.id.stream.to_string(), "reason" => "target_fps"
            )
            .increment(1);
            ctx.done("frames", &header);
        } else {
            ctx.queue(header.clone(), held.then_some(message));
            if ctx.live() {
                // It is in the ring; a slow tracker must not hold up the decoder, whose other
                // consumers and senders would wait with it.
                ctx.done("frames", &header);
            }
        }
        Ok(())
    }

    fn cut(
        &mut self,
        ctx: &mut Context<Option<Message>>,
        message: &Message,
    ) -> Result<(), BadMessage> {
        if !ctx.outputs().wanted("crops") {
            return Ok(());
        }
        let info = TracksInfo::read(&message.metadata)?;
        let rows = tracks::decode(&message.array, info.width, info.height)?;
        let header = &message.header;
        let Some(stream) = self.streams.get_mut(&header.id.stream) else {
            return Ok(());
        };
        let Some(image) = stream.ring.get(&header.id) else {
            return Ok(());
        };
        let frame = header.id.frame.0;
        let mut cut = Vec::new();
        for track in rows.iter().filter(|track| track.visible) {
            let last = stream.cropped.get(&track.track_id);
            if last.is_some_and(|last| frame < last + self.settings.crop_interval_frames) {
                continue;
            }
            stream.cropped.insert(track.track_id, frame);
            let (padding, max_side) = (self.settings.crop_padding, self.settings.crop_max_side);
            match crop(&image, track.track_id, &track.bbox, padding, max_side) {
                Ok(crop) => cut.extend(crop),
                Err(error) => return Err(BadMessage::new("crop", error.to_string())),
            }
        }
        let kept = 10 * self.settings.crop_interval_frames;
        stream.cropped.retain(|_, last| frame < *last + kept);
        if !cut.is_empty() {
            let sent =
                ctx.outputs()
                    .rows("crops", header, Metadata::default(), crops::encode(&cut));
            sent.map_err(|error| BadMessage::new("send", error.to_string()))?;
        }
        Ok(())
    }
}
