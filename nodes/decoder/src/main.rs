//! The decoder node: one stream per source and per sender of chunks, frames out, events about their
//! lives.

use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use tracklens_decoder::{Chunk, ChunkStreams, Playback, Step, StreamWorker, sources, threads_for};
use tracklens_node::{
    BadMessage, Context, Message, Node, Outputs, Policy, StreamChange, Work, metrics as names,
};
use tracklens_schemas::{ChunkInfo, Epoch, Header, StreamEvent, StreamEventKind};
use tracklens_video::{ChunkCounts, ChunkOptions, ChunkTimes, Hwaccel, Picture, is_file};

mod played;

use played::Played;

/// Packets that could not be decoded (counter; `stream_id`).
const BAD_PACKETS: &str = "video_processor_bad_packets_total";
/// Packets passed over while waiting for a keyframe (counter; `stream_id`).
const SKIPPED_PACKETS: &str = "video_processor_skipped_packets_total";

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    sources: Option<String>,
    source_loop: u64,
    source_timeout_seconds: f64,
    source_reconnect: String,
    decoder_threads: usize,
    decoder_hwaccel: String,
}

struct Decoder {
    played: Vec<Played>,
    chunks: ChunkStreams,
    takes_chunks: bool,
    live: bool,
}

fn main() -> ExitCode {
    tracklens_node::run::<Decoder>()
}

impl Node for Decoder {
    const NAME: &'static str = "decoder";
    const ABOUT: &'static str = "Decodes video files, URLs and chunks into frames.";
    const SOURCE: bool = true;
    const LIVE_POLICY: Policy = Policy::Newest;
    const SETTINGS: &'static [&'static str] = &[
        "SOURCES",
        "SOURCE_LOOP",
        "SOURCE_TIMEOUT_SECONDS",
        "SOURCE_RECONNECT",
        "DECODER_THREADS",
        "DECODER_HWACCEL",
    ];
    type Settings = Settings;
    type Parcel = Picture;

    fn new(settings: Settings, ctx: &mut Context<Picture>) -> eyre::Result<Self> {
        let takes_chunks = ctx.has_input("chunks");
        let list = match settings.sources.as_deref() {
            None if takes_chunks => Vec::new(),
            text => sources::parse(text.unwrap_or_default())?,
        };
        let live = ctx.live();
        let hwaccel = Hwaccel::parse(&settings.decoder_hwaccel);
        let playback = Playback {
            live,
            rounds: settings.source_loop,
            threads: match settings.decoder_threads {
                0 if !live && hwaccel == Hwaccel::None => threads_for(list.len()),
                threads => threads,
            },
            in_groups: list.len() == 1,
            timeout: Duration::from_secs_f64(settings.source_timeout_seconds),
            reconnect: match settings.source_reconnect.as_str() {
                "auto" => live,
                word => word == "true",
            },
            hwaccel,
        };
        let options = ChunkOptions {
            threads: settings.decoder_threads,
            low_delay: live,
            hwaccel: playback.hwaccel.clone(),
        };
        let waker = ctx.waker();
        let chunks = ChunkStreams::new(options, ctx.restart_count(), move || waker.wake());
        let start = |source: sources::Source| {
            let reopened = playback.reconnect && !is_file(&source.url);
            let first = match reopened {
                true => ctx.first_epoch(),
                false => Epoch(ctx.restart_count()),
            };
            let waker = ctx.waker();
            let worker = StreamWorker::start(&source.url, playback.clone(), move || waker.wake());
            Played::new(source, worker, first, playback.rounds)
        };
        Ok(Self {
            played: list.into_iter().map(start).collect(),
            chunks,
            takes_chunks,
            live,
        })
    }

    fn input(
        &mut self,
        _: &mut Context<Picture>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        if input != "chunks" {
            let what = format!("a decoder has no input {input}, only chunks");
            return Err(BadMessage::new("unexpected", what));
        }
        let header = &message.header;
        let chunk = Chunk {
            info: ChunkInfo::read(&message.metadata)?,
            times: ChunkTimes {
                pts_ns: header.pts_ns,
                capture_ns: header.capture_ns,
            },
            bytes: message.bytes()?.to_vec(),
        };
        self.chunks.push(header, chunk);
        Ok(())
    }

    fn stream(&mut self, _: &mut Context<Picture>, change: &StreamChange) -> eyre::Result<()> {
        match change.event {
            StreamEventKind::Opened => self.chunks.open(&change.stream, change.epoch),
            StreamEventKind::Closed => self.chunks.close(&change.stream, change.epoch),
            _ => {}
        }
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Picture>) -> eyre::Result<Work> {
        if ctx.stopping() {
            self.played.iter_mut().for_each(Played::stop);
            return Ok(Work::Wait);
        }
        let mut work = self.play(ctx)?;
        // Chunks can wait for credit, and their senders with them: nothing is dropped here.
        while let Some(step) = self
            .chunks
            .next(|stream| ctx.room(stream) && !ctx.is_waiting(stream))
        {
            take(ctx, step)?;
            work = Work::Again;
        }
        let chunks_over = !self.takes_chunks || ctx.inputs_exhausted() && self.chunks.is_empty();
        if chunks_over && self.played.iter().all(Played::is_closed) {
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

    fn acknowledged(&mut self, header: &Header) {
        self.chunks.acknowledged(&header.id);
    }

    fn finish(&mut self, _: &mut Context<Picture>) -> eyre::Result<()> {
        self.played.iter_mut().for_each(Played::stop);
        self.played.clear();
        Ok(())
    }
}

impl Decoder {
    fn play(&mut self, ctx: &mut Context<Picture>) -> eyre::Result<Work> {
        let mut work = Work::Wait;
        for stream in &mut self.played {
            while ctx.room(stream.id()) {
                if !stream.take_next(ctx)? {
                    break;
                }
                work = Work::Again;
                // Turns: no stream starves another.
                if ctx.live() {
                    break;
                }
            }
            // In a lossless run, streams are announced in the order of the list.
            if !self.live && !stream.is_announced() {
                break;
            }
        }
        Ok(work)
    }
}

/// Does what a chunk stream asks for.
fn take(ctx: &mut Context<Picture>, step: Step) -> eyre::Result<()> {
    let event = |event, detail| StreamEvent { event, detail };
    match step {
        Step::Opened(header, detail) => ctx.emit(&header, event(StreamEventKind::Opened, detail)),
        Step::Frame(header, picture) => {
            decoded(&header);
            ctx.queue(header, picture);
            Ok(())
        }
        Step::Damaged(header, what) => {
            let stream = &header.id.stream;
            tracing::warn!(stream_id = %stream, frame = header.id.frame.0, "damaged: {what}");
            let detail = format!("stream {stream}: frame {}: {what}", header.id.frame.0);
            ctx.emit(&header, event(StreamEventKind::Error, detail))
        }
        Step::Closed(header, ChunkCounts { skipped, broken }) => {
            let stream = header.id.stream.to_string();
            metrics::counter!(BAD_PACKETS, "stream_id" => stream.clone()).increment(broken);
            metrics::counter!(SKIPPED_PACKETS, "stream_id" => stream.clone()).increment(skipped);
            if skipped > 0 {
                tracing::info!(
                    stream_id = stream,
                    skipped,
                    "pictures passed over in this epoch"
                );
            }
            ctx.emit(&header, event(StreamEventKind::Closed, String::new()))
        }
        Step::Done(header) => {
            ctx.done("chunks", &header);
            Ok(())
        }
    }
}

fn decoded(header: &Header) {
    metrics::counter!(
        names::FRAMES, "stream_id" => header.id.stream.to_string(), "status" => "decoded"
    )
    .increment(1);
}
