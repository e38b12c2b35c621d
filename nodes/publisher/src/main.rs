//! The publisher node: tracks, frames, crops and identifications in; files, rows and the live page
//! out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use eyre::{OptionExt, ensure, eyre};
use serde::Deserialize;
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_publisher::amqp::{AmqpOptions, BrokerUrl};
use tracklens_publisher::live::Access;
use tracklens_publisher::{LiveOptions, Options, Publisher, RunState, SinkKind};
use tracklens_schemas::{Header, StreamEventKind, TracksInfo, crops, identifications, tracks};

/// Fewest frames of a stream that may wait for their tracks: live trackers can be slow.
const WAITING: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    out_dir: PathBuf,
    sinks: Vec<SinkKind>,
    resume: bool,
    flow_window: usize,
    jsonl_max_mb: u64,
    amqp_sink_url: Option<String>,
    amqp_sink_exchange: String,
    amqp_sink_queue: Option<String>,
    amqp_sink_outbox_mb: u64,
    amqp_sink_flush_seconds: f64,
    live_page_bind: String,
    live_page_token: Option<String>,
    live_page_fps: f64,
}

impl Settings {
    fn amqp(&self, run: String) -> eyre::Result<Option<AmqpOptions>> {
        if !self.sinks.contains(&SinkKind::Amqp) {
            return Ok(None);
        }
        let url = self.amqp_sink_url.as_deref().ok_or_eyre(
            "SINKS has `amqp`, which needs a broker: set AMQP_SINK_URL in the environment, or take \
             `amqp` out of SINKS",
        )?;
        Ok(Some(AmqpOptions {
            url: BrokerUrl::parse(url)?,
            exchange: self.amqp_sink_exchange.clone(),
            queue: self.amqp_sink_queue.clone(),
            outbox_bytes: self.amqp_sink_outbox_mb << 20,
            flush: Duration::from_secs_f64(self.amqp_sink_flush_seconds),
            run,
        }))
    }

    fn live(&self, with_frames: bool) -> eyre::Result<Option<LiveOptions>> {
        let served = [SinkKind::Page, SinkKind::Websocket];
        if !served.iter().any(|kind| self.sinks.contains(kind)) {
            return Ok(None);
        }
        let bind: SocketAddr = self.live_page_bind.parse().map_err(|_| {
            let found = &self.live_page_bind;
            eyre!("LIVE_PAGE_BIND={found}: expected address and port, such as 127.0.0.1:8080")
        })?;
        Ok(Some(LiveOptions {
            bind,
            access: Access::new(bind, self.live_page_token.clone())?,
            fps: self.live_page_fps,
            with_frames,
        }))
    }
}

struct PublisherNode(Publisher);

impl Node for PublisherNode {
    const NAME: &'static str = "publisher";
    const ABOUT: &'static str =
        "Publishes tracks: files, overlay video, a broker, a feed, and the live page.";
    const SINK: bool = true;
    const SETTINGS: &'static [&'static str] = &[
        "OUT_DIR",
        "SINKS",
        "RESUME",
        "FLOW_WINDOW",
        "JSONL_MAX_MB",
        "AMQP_SINK_URL",
        "AMQP_SINK_EXCHANGE",
        "AMQP_SINK_QUEUE",
        "AMQP_SINK_OUTBOX_MB",
        "AMQP_SINK_FLUSH_SECONDS",
        "LIVE_PAGE_BIND",
        "LIVE_PAGE_TOKEN",
        "LIVE_PAGE_FPS",
    ];
    type Settings = Settings;
    type Parcel = ();

    fn new(settings: Settings, ctx: &mut Context<()>) -> eyre::Result<Self> {
        let with_frames = ctx.has_input("frames");
        ensure!(
            with_frames || !settings.sinks.contains(&SinkKind::Overlay),
            "SINKS has `overlay`, which needs frames: give the publisher an input \
             `frames: decoder/frames`, or take `overlay` out of SINKS"
        );
        let publisher = Publisher::new(&Options {
            amqp: settings.amqp(ctx.run_id())?,
            live: settings.live(with_frames)?,
            folder: settings.out_dir,
            sinks: settings.sinks,
            resume: settings.resume || ctx.restart_count() > 0,
            lossless: !ctx.live(),
            waiting: WAITING.max(settings.flow_window),
            jsonl_bytes: settings.jsonl_max_mb << 20,
        })?;
        Ok(Self(publisher))
    }

    fn input(
        &mut self,
        ctx: &mut Context<()>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        let header = &message.header;
        if input.starts_with("tracks") {
            let info = TracksInfo::read(&message.metadata)?;
            let rows = tracks::decode(&message.array, info.width, info.height)
                .inspect_err(|error| self.0.bad_message(&header.id, &error.to_string()))?;
            self.0.tracks(header, &info, &rows);
        } else if input.starts_with("identifications") {
            let rows = identifications::decode(&message.array)?;
            self.0.identifications(header, &rows);
        } else if input.starts_with("crops") {
            if self.0.wants_crops() {
                self.0.crops(header, &crops::decode(&message.array)?);
            }
        } else if self.0.wants_frames() {
            self.0.frame(header, &message.image()?);
        }
        // A frame that waits for its tracks is a copy: the decoder need not keep it, and the
        // tracks' own acknowledgements bound how many wait.
        ctx.done(input, header);
        Ok(())
    }

    fn stream(&mut self, _ctx: &mut Context<()>, change: &StreamChange) -> eyre::Result<()> {
        let StreamChange {
            stream,
            epoch,
            event,
            detail,
            frames,
        } = change;
        self.0.stream_event(stream, *epoch, *event, detail);
        match event {
            StreamEventKind::Opened => self.0.opened(stream, epoch.0, detail),
            StreamEventKind::Error => self.0.error(stream, detail),
            StreamEventKind::Closed => self.0.closed(stream, *frames),
            _ => {}
        }
        Ok(())
    }

    fn work(&mut self, _ctx: &mut Context<()>) -> eyre::Result<Work> {
        self.0.tick();
        Ok(Work::Wait)
    }

    fn send(&mut self, _outputs: &mut Outputs, _header: &Header, (): &()) -> eyre::Result<()> {
        Ok(())
    }

    fn finish(&mut self, ctx: &mut Context<()>) -> eyre::Result<()> {
        let state = match ctx.is_exhausted() {
            true => RunState::Finished,
            false => RunState::Stopped,
        };
        self.0.finish(state);
        Ok(())
    }
}

fn main() -> ExitCode {
    tracklens_node::run::<PublisherNode>()
}
