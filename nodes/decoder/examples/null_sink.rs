//! A sink that acknowledges frames and throws them away: `decoder → null_sink` in a graph measures
//! what the decoder and the way out cost. Says how many frames a second came, at the end.

use std::process::ExitCode;
use std::time::Instant;

use serde::Deserialize;
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_schemas::Header;

#[derive(Deserialize)]
struct Settings {}

struct NullSink {
    frames: u64,
    first: Option<Instant>,
}

fn main() -> ExitCode {
    tracklens_node::run::<NullSink>()
}

impl Node for NullSink {
    const NAME: &'static str = "null-sink";
    const ABOUT: &'static str = "Acknowledges frames and throws them away.";
    const SINK: bool = true;
    const SETTINGS: &'static [&'static str] = &[];
    type Settings = Settings;
    type Parcel = ();

    fn new(_: Settings, _: &mut Context<()>) -> eyre::Result<Self> {
        Ok(Self {
            frames: 0,
            first: None,
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<()>,
        name: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        self.first.get_or_insert_with(Instant::now);
        message.image()?;
        self.frames += 1;
        ctx.done(name, &message.header);
        Ok(())
    }

    fn stream(&mut self, _: &mut Context<()>, change: &StreamChange) -> eyre::Result<()> {
        tracing::info!(
            stream_id = %change.stream, frames = change.frames, detail = change.detail,
            "{}", change.event.as_str()
        );
        Ok(())
    }

    fn work(&mut self, _: &mut Context<()>) -> eyre::Result<Work> {
        Ok(Work::Wait)
    }

    fn send(&mut self, _: &mut Outputs, _: &Header, (): &()) -> eyre::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Context<()>) -> eyre::Result<()> {
        let seconds = self
            .first
            .map_or(0.0, |first| first.elapsed().as_secs_f64());
        let fps = self.frames as f64 / seconds.max(1e-9);
        tracing::info!(frames = self.frames, seconds, fps, "all frames");
        Ok(())
    }
}
