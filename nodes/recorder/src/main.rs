//! The recorder node: messages in, a `.drec` file out. `dora record` adds it to a graph and sets
//! DORA_RECORD_FILE, DORA_RECORD_TOPICS and DORA_RECORD_DESCRIPTOR.

use std::env;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dora_node_api::{DoraNode, Event, EventStream, StopCause};
use dora_record_node::{Gaps, Loss, Recording, Topics, event};
use eyre::{Context, eyre};

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
    let (node, events) = DoraNode::init_from_env().wrap_err("no dataflow")?;
    let recording = Recording::create(&path, &descriptor, *node.dataflow_id(), now())?;
    tracing::info!(file = %path.display(), "recording");
    let mut recorder = Recorder {
        recording,
        topics,
        gaps: Gaps::default(),
        failing: false,
    };
    let ended = recorder.record(events);
    let (report, error) = recorder.recording.finish();
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
    Ok(())
}

/// Nanoseconds since 1970; a clock before that is at its beginning.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

struct Recorder {
    recording: Recording<File>,
    topics: Topics,
    gaps: Gaps,
    /// Whether the last record could not be written.
    failing: bool,
}

impl Recorder {
    /// Records until the inputs end (then true), or the dataflow is stopped: dora then delivers nothing
    /// more, though nodes may still send what they had begun.
    fn record(&mut self, mut events: EventStream) -> bool {
        let ended = loop {
            let event = events.recv();
            self.count_drops(&mut events);
            match event {
                Some(Event::Stop(StopCause::AllInputsClosed)) => break true,
                None | Some(Event::Stop(_)) => break false,
                Some(event) => self.handle(event),
            }
        };
        self.count_drops(&mut events);
        ended
    }

    fn handle(&mut self, message: Event) {
        let (id, metadata, data) = match message {
            Event::Input { id, metadata, data } => (id, metadata, data),
            Event::Error(error) => return tracing::warn!("dora: {error}"),
            _ => return,
        };
        let Some(topic) = self.topics.get(id.as_str()) else {
            return;
        };
        let name = topic.to_string();
        let missing = self.gaps.before(&name, &topic.output, &metadata);
        if missing > 0 {
            self.recording.lost(&name, Loss::Undelivered, missing);
        }
        let written = match event(topic, metadata, &data) {
            Ok(bytes) => self.recording.append(topic, bytes, now()),
            Err(error) => {
                self.recording.lost(&name, Loss::Unreadable, 1);
                Err(error)
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
}
