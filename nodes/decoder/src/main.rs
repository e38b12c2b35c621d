//! The decoder node: one stream per source, frames out, events about their lives.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tracklens_decoder::{Playback, Source, StreamItem, StreamWorker, sources};
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, Policy, StreamChange, Work};
use tracklens_schemas::{Epoch, FrameId, FrameIndex, Header, StreamEvent, StreamEventKind};
use tracklens_video::{Picture, VideoInfo, redact};

/// Packets that could not be decoded (counter; `stream_id`).
const BAD_PACKETS: &str = "video_processor_bad_packets_total";
/// How long a network source may say nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    sources: Option<String>,
    source_loop: u64,
    decoder_threads: usize,
}

struct Stream {
    source: Source,
    worker: StreamWorker,
    /// The next frame: number and time so far.
    next: Header,
    announced: bool,
    closed: bool,
}

struct Decoder {
    streams: Vec<Stream>,
    rounds: u64,
    live: bool,
}

fn main() -> ExitCode {
    tracklens_node::run::<Decoder>()
}

impl Node for Decoder {
    const NAME: &'static str = "decoder";
    const ABOUT: &'static str = "Decodes video files and URLs into frames.";
    const LIVE_POLICY: Policy = Policy::Newest;
    const SETTINGS: &'static [&'static str] = &["SOURCES", "SOURCE_LOOP", "DECODER_THREADS"];
    type Settings = Settings;
    type Parcel = Picture;

    fn new(settings: Settings, ctx: &mut Context<Picture>) -> eyre::Result<Self> {
        let list = sources::parse(settings.sources.as_deref().unwrap_or_default())?;
        let live = ctx.live();
        let epoch = Epoch(ctx.restart_count());
        let playback = Playback {
            live,
            rounds: settings.source_loop,
            threads: settings.decoder_threads,
            timeout: TIMEOUT,
        };
        let start = |source: Source| {
            let waker = ctx.waker();
            let worker = StreamWorker::start(&source.url, playback, move || waker.wake());
            let id = FrameId {
                stream: source.id.clone(),
                epoch,
                frame: FrameIndex(0),
            };
            let next = Header {
                id,
                pts_ns: 0,
                capture_ns: wall_clock_ns(),
            };
            Stream {
                source,
                worker,
                next,
                announced: false,
                closed: false,
            }
        };
        let streams = list.into_iter().map(start).collect();
        Ok(Self {
            streams,
            rounds: settings.source_loop,
            live,
        })
    }

    fn input(&mut self, _: &mut Context<Picture>, _: &str, _: Message) -> Result<(), BadMessage> {
        Err(BadMessage::new(
            "unexpected",
            "a decoder has no data inputs".into(),
        ))
    }

    fn stream(&mut self, _: &mut Context<Picture>, _: &StreamChange) -> eyre::Result<()> {
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Picture>) -> eyre::Result<Work> {
        if ctx.stopping() {
            self.streams
                .iter_mut()
                .for_each(|stream| stream.worker.stop());
            return Ok(Work::Wait);
        }
        let mut work = Work::Wait;
        for stream in &mut self.streams {
            while ctx.room(&stream.source.id) {
                let Some(item) = stream.worker.try_next() else {
                    break;
                };
                stream.take(item, ctx, self.rounds)?;
                work = Work::Again;
                // Turns: no stream starves another.
                if ctx.live() {
                    break;
                }
            }
            // In a lossless run, streams are announced in the order of the list.
            if !self.live && !stream.announced {
                break;
            }
        }
        if self.streams.iter().all(|stream| stream.closed) {
            ctx.exhaust();
        }
        Ok(work)
    }

    fn send(
        &mut self,
        outputs: &mut Outputs,
        header: &Header,
        picture: &Picture,
    ) -> eyre::Result<()> {
        let mut written = Ok(());
        outputs.frame("frames", header, &picture.info(), |buffer| {
            written = picture.write_to(buffer);
        })?;
        Ok(written?)
    }

    fn finish(&mut self, _: &mut Context<Picture>) -> eyre::Result<()> {
        self.streams
            .iter_mut()
            .for_each(|stream| stream.worker.stop());
        self.streams.clear();
        Ok(())
    }
}

impl Stream {
    fn take(
        &mut self,
        item: StreamItem,
        ctx: &mut Context<Picture>,
        rounds: u64,
    ) -> eyre::Result<()> {
        match item {
            StreamItem::Opened(info) => {
                self.announced = true;
                let detail = opened(&self.source, &info, rounds);
                self.say(ctx, StreamEventKind::Opened, detail)
            }
            StreamItem::Frame(picture, pts_ns) => {
                self.next.pts_ns = pts_ns;
                self.next.capture_ns = wall_clock_ns();
                ctx.queue(self.next.clone(), picture);
                self.next.id.frame.0 += 1;
                metrics::counter!(
                    tracklens_node::metrics::FRAMES,
                    "stream_id" => self.source.id.to_string(), "status" => "decoded"
                )
                .increment(1);
                Ok(())
            }
            StreamItem::Ended { error, damage } => {
                self.announced = true;
                self.closed = true;
                metrics::counter!(BAD_PACKETS, "stream_id" => self.source.id.to_string())
                    .increment(damage.packets);
                let mut wrong: Vec<String> = error.iter().map(ToString::to_string).collect();
                if damage.any() {
                    wrong.push(format!("{}: damaged: {damage}", redact(&self.source.url)));
                }
                if !wrong.is_empty() {
                    let detail = format!("stream {}: {}", self.source.id, wrong.join("; "));
                    tracing::warn!(stream_id = %self.source.id, "{detail}");
                    self.say(ctx, StreamEventKind::Error, detail)?;
                }
                self.say(ctx, StreamEventKind::Closed, String::new())
            }
        }
    }

    fn say(
        &self,
        ctx: &mut Context<Picture>,
        event: StreamEventKind,
        detail: String,
    ) -> eyre::Result<()> {
        ctx.emit(&self.next, StreamEvent { event, detail })
    }
}

/// The detail of `opened`: what is known of the source, as JSON.
fn opened(source: &Source, info: &VideoInfo, rounds: u64) -> String {
    let expected_frames = match rounds {
        0 => None,
        rounds => info
            .expected_frames
            .map(|frames| frames.saturating_mul(rounds)),
    };
    serde_json::json!({
        "url": redact(&source.url),
        "width": info.width,
        "height": info.height,
        "fps": info.fps(),
        "expected_frames": expected_frames,
    })
    .to_string()
}

fn wall_clock_ns() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}
