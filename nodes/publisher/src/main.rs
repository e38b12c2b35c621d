//! The publisher node: tracks and frames in, files out.

use std::path::PathBuf;
use std::process::ExitCode;

use eyre::ensure;
use serde::Deserialize;
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_publisher::{Identified, Options, Publisher, RunState, SinkKind};
use tracklens_schemas::{Header, StreamEventKind, TracksInfo, identifications, tracks};

/// Fewest frames of a stream that may wait for their tracks: live trackers can be slow.
const WAITING: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    out_dir: PathBuf,
    sinks: Vec<SinkKind>,
    resume: bool,
    flow_window: usize,
}

struct PublisherNode(Publisher, Option<Identified>);

impl Node for PublisherNode {
    const NAME: &'static str = "publisher";
    const ABOUT: &'static str = "Writes tracks to files: JSON Lines, MOTChallenge, overlay video.";
    const SINK: bool = true;
    const SETTINGS: &'static [&'static str] = &["OUT_DIR", "SINKS", "RESUME", "FLOW_WINDOW"];
    type Settings = Settings;
    type Parcel = ();

    fn new(settings: Settings, ctx: &mut Context<()>) -> eyre::Result<Self> {
        let resume = settings.resume || ctx.restart_count() > 0;
        let publisher = Publisher::new(&Options {
            folder: settings.out_dir.clone(),
            sinks: settings.sinks.clone(),
            resume,
            lossless: !ctx.live(),
            waiting: WAITING.max(settings.flow_window),
        })?;
        ensure!(
            !publisher.wants_frames() || ctx.has_input("frames"),
            "SINKS has `overlay`, which needs frames: give the publisher an input \
             `frames: decoder/frames`, or take `overlay` out of SINKS"
        );
        let wanted = settings.sinks.contains(&SinkKind::Jsonl) && ctx.has_input("identifications");
        let identified = wanted.then(|| Identified::open(&settings.out_dir, resume));
        Ok(Self(publisher, identified.transpose()?))
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
            if let Some(identified) = &mut self.1 {
                let written = identified.write(header, &rows);
                written.map_err(|error| BadMessage::new("sink", error.to_string()))?;
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
        match change.event {
            StreamEventKind::Opened => {
                self.0
                    .opened(&change.stream, change.epoch.0, &change.detail);
            }
            StreamEventKind::Error => self.0.error(&change.stream, &change.detail),
            StreamEventKind::Closed => self.0.closed(&change.stream, change.frames),
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
        if let Some(identified) = &mut self.1 {
            identified.finish()?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    tracklens_node::run::<PublisherNode>()
}
