//! The iou-tracker node: frames in (with prompts, where its detector takes them), tracks out.

mod settings;

use std::process::ExitCode;
use std::time::Instant;

use settings::Settings;
use tracklens_iou_tracker::{Follower, Seen};
use tracklens_node::pairing::{Pair, Pairing};
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_schemas::arrow::array::ArrayRef;
use tracklens_schemas::{
    Header, Image, ImageInfo, Metadata, Prompt, StreamEventKind, StreamId, TracksInfo,
    TracksStatus, prompts, tracks,
};

/// Objects on the last frame of a stream (gauge; `stream_id`).
const ACTIVE: &str = "video_processor_active_tracks";
/// Track ids of one run of the node: a restarted one goes on with the next million.
const IDS_PER_RUN_BITS: u32 = 20;

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
    /// Frames that wait for their prompts, where the detector takes them.
    pairing: Option<Pairing>,
}

#[global_allocator]
static ALLOCATOR: tracklens_node::Allocator = tracklens_node::Allocator;

fn main() -> ExitCode {
    tracklens_node::run::<IouTracker>()
}

impl Node for IouTracker {
    const NAME: &'static str = "iou-tracker";
    const ABOUT: &'static str =
        "Finds objects frame by frame (motion, YOLOX or SAM 2 without memory) and follows them.";
    const SETTINGS: &'static [&'static str] = settings::NAMES;
    type Settings = Settings;
    type Parcel = Rows;

    fn new(settings: Settings, ctx: &mut Context<Rows>) -> eyre::Result<Self> {
        eyre::ensure!(
            ctx.restart_count() < 1 << (u32::BITS - IDS_PER_RUN_BITS),
            "restarted {} times: no track ids are left, start the graph anew",
            ctx.restart_count()
        );
        eyre::ensure!(
            !settings.takes_prompts() || ctx.has_input("prompts"),
            "DETECTOR=sam2 is told where to look: connect the input `prompts` to a \
             prompt-generator, as graphs/legacy-sam2.yml does"
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
            pairing: settings.takes_prompts().then(Pairing::default),
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<Rows>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        if self.pairing.is_some() {
            return self.paired(ctx, input, message);
        }
        if input != "frames" {
            // Prompts, where it stands in for a tracker that takes them.
            ctx.done(input, &message.header);
            return Ok(());
        }
        let image = message.image()?;
        if self.follower.max_batch() == 1 {
            // Nothing to wait for: look at the pixels where they are.
            follow(&mut self.follower, ctx, &[(&message.header, image, &[])]);
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
        let newer = |epoch| epoch < change.epoch;
        match (change.event, &mut self.pairing) {
            (StreamEventKind::Closed, Some(_)) => {
                self.drain(ctx, &change.stream);
                if let Some(pairing) = &mut self.pairing {
                    pairing.forget(&change.stream);
                }
            }
            // Frames of an earlier epoch wait for prompts that will not come.
            (StreamEventKind::Opened, Some(pairing))
                if pairing.epoch(&change.stream).is_some_and(newer) =>
            {
                self.drain(ctx, &change.stream);
            }
            _ => {}
        }
        self.let_orphans_go(ctx);
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

    /// Without a prompt-generator frames are looked at without prompts.
    fn input_closed(&mut self, ctx: &mut Context<Rows>, input: &str) -> eyre::Result<()> {
        if input == "prompts" {
            self.drain_all(ctx);
            self.pairing = None;
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
        self.drain_all(ctx);
        while !self.waiting.is_empty() {
            self.look(ctx);
        }
        Ok(())
    }
}

impl IouTracker {
    /// A frame is looked at once its prompts are there, in live graphs too: without a memory, prompts
    /// that come late are of no use.
    fn paired(
        &mut self,
        ctx: &mut Context<Rows>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        let Some(pairing) = &mut self.pairing else {
            return Ok(());
        };
        let stream = message.header.id.stream.clone();
        let mut result = Ok(());
        match input {
            "frames" => {
                let image = message.image()?;
                match pairing.at_hand(&message.header) {
                    Some(prompts) => {
                        let frame = (&message.header, image, prompts.as_slice());
                        follow(&mut self.follower, ctx, &[frame]);
                    }
                    None => pairing.frame(message.header.clone(), image.info, image.data),
                }
            }
            "prompts" => {
                // Malformed prompts are none, and the frame is looked at all the same.
                let decoded = prompts::decode(&message.array).map_err(BadMessage::from);
                let prompts = decoded.unwrap_or_else(|bad| {
                    result = Err(bad);
                    Vec::new()
                });
                if pairing.prompts(message.header.clone(), prompts).is_some() {
                    ctx.done(input, &message.header);
                }
            }
            _ => ctx.done(input, &message.header),
        }
        while let Some(pair) = self.pairing.as_mut().and_then(|p| p.next(&stream)) {
            self.work_off(ctx, pair);
        }
        self.let_orphans_go(ctx);
        result
    }

    fn work_off(&mut self, ctx: &mut Context<Rows>, pair: Pair) {
        let frame = pair.frame;
        let image = Image {
            info: frame.info,
            data: &frame.pixels,
        };
        let seen = (&frame.header, image, pair.prompts.as_slice());
        follow(&mut self.follower, ctx, &[seen]);
        if let Some(pairing) = &mut self.pairing {
            pairing.give_back(frame);
        }
    }

    /// Looks at what waits of a stream, with whatever prompts there are.
    fn drain(&mut self, ctx: &mut Context<Rows>, stream: &StreamId) {
        while let Some(pair) = self.pairing.as_mut().and_then(|p| p.force(stream)) {
            self.work_off(ctx, pair);
        }
    }

    fn drain_all(&mut self, ctx: &mut Context<Rows>) {
        let waiting = self.pairing.as_ref().map(Pairing::waiting);
        for stream in waiting.unwrap_or_default() {
            self.drain(ctx, &stream);
        }
        self.let_orphans_go(ctx);
    }

    fn let_orphans_go(&mut self, ctx: &mut Context<Rows>) {
        let orphans = self.pairing.as_mut().map(Pairing::take_orphans);
        for header in orphans.unwrap_or_default() {
            ctx.done("prompts", &header);
        }
    }

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
        let frames: Vec<Frame<'_>> = batch
            .iter()
            .map(|frame| {
                let image = Image {
                    info: frame.info,
                    data: &frame.pixels,
                };
                (&frame.header, image, [].as_slice())
            })
            .collect();
        follow(&mut self.follower, ctx, &frames);
    }
}

/// A frame with its prompts.
type Frame<'a> = (&'a Header, Image<'a>, &'a [Prompt]);

/// Looks at frames of different streams and queues their tracks: one message each, always.
fn follow(follower: &mut Follower, ctx: &mut Context<Rows>, frames: &[Frame<'_>]) {
    if frames.is_empty() {
        return;
    }
    let start = Instant::now();
    let seen: Vec<Seen<'_>> = frames
        .iter()
        .map(|(header, image, prompts)| Seen {
            id: &header.id,
            image: *image,
            prompts,
        })
        .collect();
    let result = ctx.timed("track", |_| follower.follow(&seen));
    let processing_ms = start.elapsed().as_secs_f64() * 1000.0 / frames.len() as f64;
    let (status, found) = match result {
        Ok(found) => (TracksStatus::Ok, found),
        Err(error) => {
            for (header, ..) in frames {
                tracing::warn!(frame = %header.id, %error, "no tracks for this frame");
            }
            (TracksStatus::Failed, vec![Vec::new(); frames.len()])
        }
    };
    for ((header, image, _), rows) in frames.iter().zip(found) {
        let stream = header.id.stream.to_string();
        metrics::gauge!(ACTIVE, "stream_id" => stream).set(rows.len() as f64);
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
