//! The recorder node: messages in, a `.drec` file out. `dora record` adds it to a graph and sets
//! DORA_RECORD_FILE, DORA_RECORD_TOPICS and DORA_RECORD_DESCRIPTOR.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dora_node_api::{DoraArray, DoraNode, Event, EventStream, Metadata, StopCause, TryRecvError};
use dora_record_node::{Gaps, Loss, Receipts, Recording, Topic, Topics, absolute_paths};
use eyre::{OptionExt, WrapErr, eyre};
use tracklens_node::{Wiring, header_of, send_credit};
use tracklens_recording::event;
use tracklens_schemas::wall_clock_ns;

/// How often senders that have fallen silent are looked at.
const TICK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> eyre::Result<()> {
    let set = |name| {
        env::var(name)
            .map_err(|_| eyre!("{name} is not set: this node is started by `dora record`"))
    };
    let path = PathBuf::from(set("DORA_RECORD_FILE")?);
    let topics = Topics::parse(&set("DORA_RECORD_TOPICS")?)?;
    let descriptor = env::var("DORA_RECORD_DESCRIPTOR").unwrap_or_default();
    let descriptor = absolute_paths(&descriptor, &env::current_dir().wrap_err("no folder")?);
    let mut wiring = Wiring::from_env()?
        .ok_or_eyre("DORA_NODE_CONFIG is not set: this node is started by `dora record`")?;
    let receipts = receipts(&mut wiring, &topics)?;
    let (node, events) = wiring.connect()?;
    let recording = Recording::create(&path, &descriptor, *node.dataflow_id(), now())?;
    tracing::info!(file = %path.display(), "recording");
    let mut recorder = Recorder {
        node,
        recording,
        topics,
        receipts,
        gaps: Gaps::default(),
        failing: false,
    };
    let ended = recorder.record(events)?;
    recorder.finish(&path, ended);
    Ok(())
}

/// Credit for what waits for it: the frames of lossless edges.
fn receipts(wiring: &mut Wiring, topics: &Topics) -> eyre::Result<Receipts> {
    let flow_mode = env::var("FLOW_MODE").ok();
    let (graph, id) = (wiring.graph(), wiring.id());
    let mut inputs = Vec::new();
    for (input, topic) in topics.iter() {
        let node: &str = topic.node.as_ref();
        if graph.credited_by(id, node, flow_mode.as_deref()) == Some(input) {
            inputs.push(input.to_string());
        }
    }
    for input in &inputs {
        wiring.add_credit_output(input)?;
    }
    Ok(Receipts::new(inputs))
}

/// Nanoseconds since 1970; a clock before that is at its beginning.
fn now() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or_default()
}

struct Recorder {
    node: DoraNode,
    recording: Recording<File>,
    topics: Topics,
    receipts: Receipts,
    gaps: Gaps,
    /// Whether the last record could not be written.
    failing: bool,
}

impl Recorder {
    /// Records until the inputs end (then true), or the dataflow is stopped: dora then delivers nothing
    /// more, though nodes may still send what they had begun.
    fn record(&mut self, mut events: EventStream) -> eyre::Result<bool> {
        self.acknowledge(false)?;
        let ended = loop {
            let event = match events.try_recv() {
                Ok(event) => Some(event),
                Err(TryRecvError::Closed) => None,
                Err(TryRecvError::Empty) => {
                    self.acknowledge(true)?;
                    events.recv_timeout(TICK)
                }
            };
            self.count_drops(&mut events);
            match event {
                Some(Event::Stop(StopCause::AllInputsClosed)) => break true,
                None | Some(Event::Stop(_)) => break false,
                Some(event) => self.handle(event),
            }
            self.acknowledge(false)?;
        };
        self.count_drops(&mut events);
        Ok(ended)
    }

    fn acknowledge(&mut self, idle: bool) -> eyre::Result<()> {
        for (input, credit) in self.receipts.due(idle, Instant::now()) {
            send_credit(&mut self.node, &input, &credit)?;
        }
        Ok(())
    }

    fn handle(&mut self, message: Event) {
        let (id, metadata, data) = match message {
            Event::Input { id, metadata, data } => (id, metadata, data),
            Event::NodeFailed { source_node_id, .. } => {
                return tracing::warn!("{source_node_id} has failed");
            }
            _ => return,
        };
        let Some(topic) = self.topics.get(id.as_str()).cloned() else {
            return;
        };
        if let Some((header, start)) = header_of(&metadata.parameters)
            && !self
                .receipts
                .arrive(id.as_str(), &header.id, start, Instant::now())
        {
            return;
        }
        self.write(&topic, metadata, &data);
    }

    fn write(&mut self, topic: &Topic, metadata: Metadata, data: &DoraArray) {
        let name = topic.to_string();
        let missing = self.gaps.before(&name, &topic.output, &metadata);
        if missing > 0 {
            self.recording.lost(&name, Loss::Undelivered, missing);
        }
        let now = now();
        let offset = self.recording.offset(now);
        let written = match event(&topic.node, &topic.output, metadata, data, offset) {
            Ok(bytes) => self.recording.append(topic, bytes, offset),
            Err(error) => {
                self.recording.lost(&name, Loss::Unreadable, 1);
                Err(error.into())
            }
        };
        let failed = written.is_err();
        match written {
            Ok(()) if self.failing => tracing::info!("records are written again"),
            Err(error) if !self.failing => tracing::error!("{error}"),
            _ => {}
        }
        self.failing = failed;
    }

    fn count_drops(&mut self, events: &mut EventStream) {
        for (input, count) in events.drain_drop_counts() {
            let topic = self.topics.get(input.as_str());
            let topic = topic.map_or_else(|| input.to_string(), ToString::to_string);
            self.recording.lost(&topic, Loss::Dropped, count);
        }
    }

    fn finish(self, path: &Path, ended: bool) {
        let (report, error) = self.recording.finish();
        let complete = report.is_complete() && error.is_none();
        for sentence in report.sentences() {
            tracing::info!("{sentence}");
        }
        match error {
            Some(error) => tracing::error!("{error}"),
            None if complete && ended => tracing::info!(file = %path.display(), "recorded whole"),
            None if complete => tracing::info!(file = %path.display(), "recorded until the stop"),
            None => tracing::warn!(file = %path.display(), "recorded, but not whole"),
        }
    }
}
