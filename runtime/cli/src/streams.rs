//! `tracklens streams`: what a running TrackLens works on, as the metrics of its nodes tell.

pub(crate) mod exposition;
mod view;

use std::collections::BTreeSet;
use std::env;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::json;
use tracklens_node::metrics::ports_in_a_row;
use tracklens_node::settings;

use crate::args::StreamsArguments;
use view::{Node, State, Stream};

/// Rows of ports that are asked by default: as many instances of one node are found.
const ROWS: u16 = 10;
/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Back to the first column of the first line, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(crate) fn streams(arguments: &StreamsArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let ports = ports(arguments)?;
    let clear = arguments.watch && !arguments.json && std::io::stdout().is_terminal();
    loop {
        let nodes = ask(&ports);
        let text = if arguments.json {
            as_json(&nodes, arguments.all)
        } else {
            as_text(&nodes, arguments.all, &ports)
        };
        if clear {
            write!(out, "{CLEAR}")?;
        }
        writeln!(out, "{text}")?;
        out.flush()?;
        if !arguments.watch {
            return Ok(!nodes.is_empty());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// The ports to ask: rows that begin at the given ones, else at METRICS_PORT and above it.
fn ports(arguments: &StreamsArguments) -> eyre::Result<BTreeSet<u16>> {
    let row = ports_in_a_row();
    let mut firsts = arguments.ports.clone();
    if firsts.is_empty() {
        let resolved = settings::resolve(&["METRICS_PORT"], |name| env::var(name).ok())?;
        let first = resolved
            .values
            .first()
            .and_then(|value| value.json.as_u64());
        let first = first.and_then(|first| u16::try_from(first).ok());
        let first = first.ok_or_else(|| eyre::eyre!("METRICS_PORT has no value"))?;
        firsts.extend((0..ROWS).map(|n| first.saturating_add(n * row)));
    }
    Ok(firsts
        .into_iter()
        .flat_map(|first| (0..row).map(move |offset| first.saturating_add(offset)))
        .collect())
}

fn ask(ports: &BTreeSet<u16>) -> Vec<Node> {
    let pages = ports
        .iter()
        .filter_map(|port| Some((*port, exposition::fetch(*port)?)));
    let mut nodes: Vec<Node> = pages
        .filter_map(|(port, page)| Node::read(port, &page))
        .collect();
    view::tell_apart(&mut nodes);
    nodes
}

/// The streams to show, and how many closed ones are left out.
fn shown(nodes: &[Node], all: bool) -> (Vec<Stream>, usize) {
    let (closed, open): (Vec<_>, Vec<_>) = view::streams(nodes)
        .into_iter()
        .partition(|stream| stream.state == State::Closed && !all);
    (open, closed.len())
}

fn as_json(nodes: &[Node], all: bool) -> String {
    let (streams, _) = shown(nodes, all);
    json!({ "nodes": nodes, "streams": streams }).to_string()
}

fn as_text(nodes: &[Node], all: bool, ports: &BTreeSet<u16>) -> String {
    let Some((first, last)) = ports.first().zip(ports.last()).filter(|_| nodes.is_empty()) else {
        return table(nodes, all);
    };
    format!(
        "No TrackLens runs here: no node's metrics answer on 127.0.0.1, ports {first} to {last}. Start a graph, or say \
         where its ports begin (METRICS_PORT, or --ports); with METRICS_ENABLED=false nothing can be seen."
    )
}

fn table(nodes: &[Node], all: bool) -> String {
    let (streams, hidden) = shown(nodes, all);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "stream", "state", "age", "fps", "decoded", "received", "dropped", "objects", "nodes",
    ]);
    for stream in &streams {
        table.add_row([
            stream.stream_id.clone(),
            stream.state.as_str().into(),
            stream.age_seconds.map_or("-".into(), age),
            stream.fps.map_or("-".into(), |fps| format!("{fps:.1}")),
            count(stream.frames_decoded),
            count(stream.frames_received),
            reasons(stream),
            count(stream.objects),
            stream.nodes.join(" "),
        ]);
    }
    let names: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
    let mut text = match streams.is_empty() {
        true => "No streams are open.".into(),
        false => table.trim_fmt(),
    };
    text += &format!("\n\nnodes: {}", names.join(" "));
    if hidden > 0 {
        text += &format!("\n{hidden} closed; --all shows them");
    }
    text
}

fn count(value: Option<u64>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

fn reasons(stream: &Stream) -> String {
    if stream.dropped.is_empty() {
        return "0".into();
    }
    let reasons: Vec<String> = stream
        .dropped
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    reasons.join(", ")
}

/// `1h 02m`, `3m 07s`, `12s`.
fn age(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m {:02}s", seconds % 60),
        (hours, minutes) => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGE: &str = "\
        video_processor_system{node=\"buffer\",version=\"0.1.0\"} 1\n\
        video_processor_stream_state{stream_id=\"door\"} 1\n\
        video_processor_stream_duration_seconds{stream_id=\"door\"} 187\n\
        video_processor_frames_total{stream_id=\"door\",status=\"received\"} 4000\n\
        video_processor_frames_dropped_total{stream_id=\"door\",reason=\"target_fps\"} 5\n\
        video_processor_frames_dropped_total{stream_id=\"door\",reason=\"newer_frame\"} 7\n\
        video_processor_stream_state{stream_id=\"gone\"} 0\n";

    fn nodes() -> Vec<Node> {
        vec![Node::read(9091, PAGE).unwrap()]
    }

    #[test]
    fn a_table_and_what_is_left_out_of_it() {
        let text = table(&nodes(), false);
        let row = text.lines().find(|line| line.contains("door")).unwrap();
        for part in [
            "open",
            "3m 07s",
            "4000",
            "newer_frame 7, target_fps 5",
            "buffer",
        ] {
            assert!(row.contains(part), "{part}: {row}");
        }
        assert!(!text.contains("gone") && text.ends_with("1 closed; --all shows them"));
        assert!(table(&nodes(), true).contains("gone"));
    }

    #[test]
    fn json_has_all_of_it() {
        let value: serde_json::Value = serde_json::from_str(&as_json(&nodes(), false)).unwrap();
        assert_eq!(value["nodes"][0]["port"], 9091);
        assert_eq!(value["streams"][0]["stream_id"], "door");
        assert_eq!(value["streams"][0]["state"], "open");
        assert_eq!(value["streams"][0]["dropped"]["newer_frame"], 7);
        assert_eq!(value["streams"][0]["fps"], serde_json::Value::Null);
        assert_eq!(value["streams"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn nothing_there_is_said_with_what_to_do() {
        let ports = BTreeSet::from([9090, 9099]);
        let text = as_text(&[], false, &ports);
        assert!(
            text.contains("No TrackLens runs here") && text.contains("9090 to 9099"),
            "{text}"
        );
    }

    #[test]
    fn ports_come_in_rows() {
        let arguments = StreamsArguments {
            ports: vec![9090, 65_530],
            ..StreamsArguments::default()
        };
        let ports = ports(&arguments).unwrap();
        assert_eq!(ports.len(), 16);
        assert!(ports.contains(&9099) && ports.contains(&65_535) && !ports.contains(&9100));
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(age(12.9), "12s");
        assert_eq!(age(187.0), "3m 07s");
        assert_eq!(age(3_725.0), "1h 02m");
    }
}
