//! `tracklens inspect`: what is in a recording.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use comfy_table::{Table, presets};
use eyre::WrapErr;
use serde::Serialize;
use tracklens_node::{Graph, header_of};
use tracklens_recording::{End, Reader, Record};

use crate::args::InspectArguments;
use crate::recorded;

/// Cells of a timeline.
const CELLS: usize = 40;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One topic: what there is of it, and when.
#[derive(Debug, Default, Serialize)]
struct Topic {
    messages: u64,
    bytes: u64,
    per_second: f64,
    mb_per_minute: f64,
    /// Frames whose number is left out between the first and the last of an epoch.
    missing: u64,
    /// Messages that were sent again.
    again: u64,
    #[serde(skip)]
    last: BTreeMap<String, (u32, u64)>,
    #[serde(skip)]
    times: Vec<f64>,
}

/// One stream, as its numbered messages tell it.
#[derive(Debug, Default, Serialize)]
struct Stream {
    epochs: u32,
    frames: u64,
    from_s: f64,
    to_s: f64,
    #[serde(skip)]
    of_epoch: BTreeMap<u32, u64>,
}

/// All that is told of a recording.
#[derive(Debug, Default, Serialize)]
struct Contents {
    file: String,
    bytes: u64,
    recorded: String,
    seconds: f64,
    records: u64,
    /// Records without a checksum.
    unverified: u64,
    /// Why it ends where it ends, unless it is whole.
    fault: Option<String>,
    nodes: Vec<Vec<String>>,
    streams: BTreeMap<String, Stream>,
    topics: BTreeMap<String, Topic>,
}

pub(crate) fn inspect(arguments: &InspectArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let mut reader = Reader::open(&arguments.file)?;
    let mut contents = Contents {
        file: arguments.file.display().to_string(),
        bytes: reader.length(),
        ..Contents::default()
    };
    let began = std::time::UNIX_EPOCH + Duration::from_nanos(reader.start_nanos());
    contents.recorded = humantime::format_rfc3339_seconds(began).to_string();
    let graph = serde_yaml::from_str(reader.descriptor()).wrap_err("the recording's graph")?;
    contents.nodes = nodes(&graph);
    contents.fault = loop {
        match reader.next() {
            Ok(Some(record)) => contents.add(&record),
            Ok(None) => break reader.end().and_then(End::fault),
            Err(fault) => break Some(fault.to_string()),
        }
    };
    contents.finish();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&contents)?)?;
    } else {
        contents.tell(out)?;
    }
    Ok(contents.fault.is_none())
}

/// Every node, and where its outputs go: `[decoder, frames > buffer, publisher]`.
fn nodes(graph: &serde_yaml::Value) -> Vec<Vec<String>> {
    let edges = Graph::of(graph);
    recorded::outputs(graph)
        .map(|(id, outputs)| {
            let lines = outputs
                .into_iter()
                .filter(|output| !output.starts_with("credit_"));
            let lines = lines.map(|output| {
                let to = edges.edges().iter();
                let to = to.filter(|edge| edge.from == id && edge.output == output);
                let to: Vec<&str> = to.map(|edge| edge.to.as_str()).collect();
                format!(
                    "{output} > {}",
                    if to.is_empty() {
                        "nobody".into()
                    } else {
                        to.join(", ")
                    }
                )
            });
            std::iter::once(id.clone()).chain(lines).collect()
        })
        .collect()
}

impl Contents {
    fn add(&mut self, record: &Record) {
        let at = record.offset.as_secs_f64();
        self.records += 1;
        self.unverified += u64::from(!record.verified);
        self.seconds = self.seconds.max(at);
        let name = format!("{}/{}", record.node, record.output);
        let topic = self.topics.entry(name).or_default();
        topic.messages += 1;
        topic.bytes += record.size;
        topic.times.push(at);
        let numbered = ["frames", "prompts", "tracks", "chunks"].contains(&&*record.output);
        let Some((header, _)) = header_of(&record.parameters).filter(|_| numbered) else {
            return;
        };
        let id = header.id.stream.to_string();
        let (epoch, frame) = (header.id.epoch.0, header.id.frame.0);
        match topic.last.get(&id) {
            Some(last) if (epoch, frame) <= *last => topic.again += 1,
            Some((of, last)) if *of == epoch => topic.missing += frame - last - 1,
            _ => {}
        }
        let last = topic.last.entry(id.clone()).or_default();
        *last = (*last).max((epoch, frame));
        let stream = self.streams.entry(id).or_insert_with(|| Stream {
            from_s: at,
            ..Stream::default()
        });
        stream.to_s = at;
        if record.output != "chunks" {
            let frames = stream.of_epoch.entry(epoch).or_default();
            *frames = (*frames).max(frame + 1);
        }
    }

    fn finish(&mut self) {
        let seconds = self.seconds.max(1e-3);
        for topic in self.topics.values_mut() {
            topic.per_second = topic.messages as f64 / seconds;
            topic.mb_per_minute = topic.bytes as f64 / 1e6 / seconds * 60.0;
        }
        for stream in self.streams.values_mut() {
            stream.epochs = u32::try_from(stream.of_epoch.len())
                .unwrap_or(u32::MAX)
                .max(1);
            stream.frames = stream.of_epoch.values().sum();
        }
    }

    fn tell(&self, out: &mut dyn Write) -> eyre::Result<()> {
        writeln!(
            out,
            "{}: {:.1} MB, {} records in {:.1} s, begun {}",
            self.file,
            self.bytes as f64 / 1e6,
            self.records,
            self.seconds,
            self.recorded
        )?;
        match &self.fault {
            None => writeln!(out, "whole")?,
            Some(reason) => writeln!(out, "NOT WHOLE {reason}")?,
        }
        match self.unverified {
            0 => writeln!(out, "every checksum agrees\n")?,
            count => writeln!(out, "{count} records have no checksum\n")?,
        }
        for node in &self.nodes {
            for (number, line) in node.iter().enumerate() {
                writeln!(out, "{}{line}", if number == 0 { "" } else { "  " })?;
            }
        }
        writeln!(out, "\n{}\n\n{}", self.stream_table(), self.topic_table())?;
        let width = self.topics.keys().map(String::len).max().unwrap_or(0);
        for (name, topic) in &self.topics {
            writeln!(
                out,
                "{name:width$} |{}|",
                timeline(&topic.times, self.seconds)
            )?;
        }
        Ok(())
    }

    fn stream_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["stream", "epochs", "frames", "from s", "to s"]);
        for (id, stream) in &self.streams {
            table.add_row([
                id.clone(),
                stream.epochs.to_string(),
                stream.frames.to_string(),
                format!("{:.1}", stream.from_s),
                format!("{:.1}", stream.to_s),
            ]);
        }
        table
    }

    fn topic_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "topic", "messages", "per s", "MB", "MB/min", "missing", "again",
        ]);
        for (name, topic) in &self.topics {
            table.add_row([
                name.clone(),
                topic.messages.to_string(),
                format!("{:.1}", topic.per_second),
                format!("{:.2}", topic.bytes as f64 / 1e6),
                format!("{:.1}", topic.mb_per_minute),
                topic.missing.to_string(),
                topic.again.to_string(),
            ]);
        }
        table
    }
}

/// How many messages came when, as bars.
fn timeline(times: &[f64], seconds: f64) -> String {
    let mut counts = [0_usize; CELLS];
    for time in times {
        let cell = time / seconds.max(1e-9) * CELLS as f64;
        counts[(cell as usize).min(CELLS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: usize| BARS[(count * (BARS.len() - 1)).div_ceil(most)];
    counts.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_recording::Record;

    fn record(output: &str, of: (u32, u64), millis: u64) -> Record {
        let mut metadata = tracklens_schemas::Metadata::default();
        let header = tracklens_schemas::Header {
            id: tracklens_schemas::FrameId {
                stream: "door".parse().unwrap(),
                epoch: tracklens_schemas::Epoch(of.0),
                frame: tracklens_schemas::FrameIndex(of.1),
            },
            pts_ns: 0,
            capture_ns: 0,
        };
        header.write(&mut metadata);
        Record {
            node: "camera".into(),
            output: output.into(),
            offset: Duration::from_millis(millis),
            parameters: tracklens_node::parameters_of(&metadata),
            payload: Vec::new(),
            position: 0,
            size: 1_000_000,
            verified: true,
        }
    }

    #[test]
    fn streams_rates_gaps_and_repetitions_are_counted() {
        let mut contents = Contents::default();
        for (of, millis) in [
            ((0, 0), 0),
            ((0, 1), 500),
            ((0, 1), 600),
            ((0, 4), 900),
            ((1, 0), 2000),
        ] {
            contents.add(&record("frames", of, millis));
        }
        contents.add(&record("stream_events", (0, 0), 100));
        contents.finish();
        let topic = &contents.topics["camera/frames"];
        assert_eq!((topic.messages, topic.missing, topic.again), (5, 2, 1));
        assert!((topic.per_second - 2.5).abs() < 1e-9);
        assert!((topic.mb_per_minute - 150.0).abs() < 1e-9);
        let stream = &contents.streams["door"];
        assert_eq!((stream.epochs, stream.frames), (2, 6));
        let mut said = Vec::new();
        contents.tell(&mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.contains("camera/frames") && said.contains("every checksum agrees"),
            "{said}"
        );
    }

    #[test]
    fn a_timeline_shows_when_there_was_how_much() {
        let line = timeline(&[0.0, 0.1, 0.2, 0.3, 9.99, 10.0], 10.0);
        assert_eq!(line.chars().count(), CELLS);
        let (first, last) = (line.chars().next().unwrap(), line.chars().last().unwrap());
        assert!(
            first == '█' && last == '▆' && line.contains("   "),
            "{line}"
        );
    }

    #[test]
    fn nodes_are_told_with_where_their_outputs_go() {
        let yaml = "nodes: [{id: a, outputs: [frames, credit_x]}, {id: b, inputs: {f: a/frames}}]";
        let nodes = nodes(&serde_yaml::from_str(yaml).unwrap());
        assert_eq!(nodes, [vec!["a", "frames > b"], vec!["b"]]);
    }
}
