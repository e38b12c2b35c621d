//! The replayer node: plays a recording in the place of a node. `dora replay` puts it there and sets
//! DORA_REPLAY_FILE, DORA_REPLAY_NODE, DORA_REPLAY_SPEED and DORA_REPLAY_LOOP.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::ExitCode;

use dora_replay_node::{Options, Parcel, Playback, Played, Script, Step};
use eyre::WrapErr;
use serde::Deserialize;
use tracklens_node::{
    BadMessage, Context, Graph, Message, Node, Outputs, StreamChange, Wiring, Work,
};
use tracklens_recording::Reader;
use tracklens_schemas::{Epoch, FrameId, Header, StreamId};

fn main() -> ExitCode {
    tracklens_node::run_wired::<Replayer>(wire)
}

/// `dora replay` takes a node's inputs away; those that gave it credit are needed here, too. Where nodes
/// are spread over machines they cannot be had: `tracklens replay` leaves them in the graph.
fn wire(wiring: &mut Wiring) -> eyre::Result<()> {
    let (_, _, graph) = open()?;
    if wiring.graph().is_spread() {
        return Ok(());
    }
    let id = wiring.id().to_string();
    for credit in graph.credits(&id) {
        let now = wiring.graph();
        let speaks = now.variable(&credit.from, "DORA_REPLAY_NODE").is_none();
        if speaks && now.has_node(&credit.from) {
            wiring.add_input(&credit.input, &credit.from, &credit.output)?;
        }
    }
    Ok(())
}

/// The options, the recording, and the graph it is of.
fn open() -> eyre::Result<(Options, Reader<File>, Graph)> {
    let options = Options::read(|name| std::env::var(name).ok())?;
    let reader = Reader::open(&options.file)?;
    let graph = serde_yaml::from_str(reader.descriptor()).wrap_err("the recording's graph")?;
    Ok((options, reader, Graph::of(&graph)))
}

#[derive(Deserialize)]
struct Settings {}

struct Replayer {
    playback: Playback,
    /// What waits: for credit, or for the end of an epoch.
    next: Option<Step>,
    /// The epoch that each stream is in.
    epochs: BTreeMap<StreamId, Epoch>,
}

impl Replayer {
    /// Does a step, or gives it back where it has to wait.
    fn step(&mut self, ctx: &mut Context<Parcel>, step: Step) -> eyre::Result<Option<Step>> {
        let (Step::Frame(header, _) | Step::Event(header, _)) = &step else {
            if let Step::Free(parcel) = &step {
                repeat(ctx.outputs(), parcel)?;
            }
            return Ok(None);
        };
        let FrameId { stream, epoch, .. } = &header.id;
        // An epoch begins once the one before it has been taken to its end.
        let before = self.epochs.get(stream).filter(|before| *before < epoch);
        if before.is_some_and(|before| !ctx.is_clear(stream, *before)) {
            return Ok(Some(step));
        }
        if matches!(step, Step::Frame(..)) && (!ctx.room(stream) || ctx.is_waiting(stream)) {
            return Ok(Some(step));
        }
        self.epochs.insert(stream.clone(), *epoch);
        match step {
            Step::Frame(header, parcel) => ctx.queue(header, parcel),
            Step::Event(header, event) => ctx.emit(&header, event)?,
            Step::Free(_) => {}
        }
        Ok(None)
    }
}

impl Node for Replayer {
    const NAME: &'static str = "replayer";
    const ABOUT: &'static str = "Plays what a node has said, out of a recording, in its place.";
    const SOURCE: bool = true;
    const SETTINGS: &'static [&'static str] = &[];
    type Settings = Settings;
    type Parcel = Parcel;

    fn new(_: Settings, ctx: &mut Context<Parcel>) -> eyre::Result<Self> {
        let (options, reader, graph) = open()?;
        let gated = graph.gated_output(&options.node).map(str::to_string);
        let script = Script::new(&options.node, gated, options.from, options.stream.clone());
        tracing::info!(
            file = %options.file.display(), node = options.node, speed = options.speed, "playing"
        );
        Ok(Self {
            playback: Playback::start(reader, options, script, ctx.waker()),
            next: None,
            epochs: BTreeMap::new(),
        })
    }

    fn input(
        &mut self,
        _: &mut Context<Parcel>,
        input: &str,
        _: Message,
    ) -> Result<(), BadMessage> {
        let what = format!("a recording has no input {input}");
        Err(BadMessage::new("unexpected", what))
    }

    fn stream(&mut self, _: &mut Context<Parcel>, _: &StreamChange) -> eyre::Result<()> {
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Parcel>) -> eyre::Result<Work> {
        if let Some(step) = self.next.take() {
            self.next = self.step(ctx, step)?;
            return Ok(match self.next {
                Some(_) => Work::Wait,
                None => Work::Again,
            });
        }
        match self.playback.next() {
            None => return Ok(Work::Wait),
            Some(Played::Step(step)) => self.next = Some(step),
            Some(Played::Round { count, reason }) => match reason {
                None => tracing::info!(count, "played whole"),
                Some(reason) => tracing::error!(count, "the recording ends early: {reason}"),
            },
            Some(Played::End) => {
                ctx.exhaust();
                return Ok(Work::Wait);
            }
        }
        Ok(Work::Again)
    }

    fn send(&mut self, outputs: &mut Outputs, _: &Header, parcel: &Parcel) -> eyre::Result<()> {
        repeat(outputs, parcel)
    }

    fn finish(&mut self, _: &mut Context<Parcel>) -> eyre::Result<()> {
        Ok(())
    }
}

fn repeat(outputs: &mut Outputs, parcel: &Parcel) -> eyre::Result<()> {
    let (parameters, array) = (parcel.parameters.clone(), parcel.array.clone());
    outputs.repeat(&parcel.output, parameters, array)
}
