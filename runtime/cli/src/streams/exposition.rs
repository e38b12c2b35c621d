//! The text that Prometheus scrapes, read: one sample a line, `name{label="value",…} number`. See "Exposition formats" in
//! the documentation of Prometheus, version 0.0.4 of the text format.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A node answers from its own memory; it is at hand, or gone.
const TIMEOUT: Duration = Duration::from_millis(500);
/// More than any node serves: whatever listens there does not get to fill the memory.
const LONGEST_PAGE: u64 = 16 << 20;

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The metric; of a histogram with `_bucket`, `_sum` or `_count`.
    pub(crate) name: String,
    /// Names and values, in the page's order.
    pub(crate) labels: Vec<(String, String)>,
    /// The number.
    pub(crate) value: f64,
}

impl Sample {
    /// A label's value.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is served at `/metrics` of a port of this machine; `None` where nobody answers.
pub(crate) fn fetch(port: u16) -> Option<String> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.take(LONGEST_PAGE).read_to_string(&mut text).ok()?;
    let (_head, page) = text.split_once("\r\n\r\n")?;
    Some(page.to_owned())
}

/// All samples of a page; lines that are none are passed over.
pub(crate) fn samples(page: &str) -> Vec<Sample> {
    page.lines().filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| !is_of_a_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // A time may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.into(),
        labels,
        value,
    })
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

type Labels = Vec<(String, String)>;

/// The labels in front of `}`, and what follows it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim().into(), value));
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if !rest.starts_with('}') {
            return None;
        }
    }
}

/// The text in front of the closing quote, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_nodes_serve() {
        let page = "# HELP a b\n# TYPE video_processor_frames_total counter\n\
            video_processor_frames_total{stream_id=\"a\",status=\"received\"} 30\n\n\
            video_processor_active_streams 2\n\
            video_processor_queue_seconds_bucket{edge=\"x\",le=\"+Inf\"} 7 1700000000\n";
        let samples = samples(page);
        assert_eq!(samples.len(), 3);
        assert_eq!(samples[0].label("status"), Some("received"));
        assert_eq!(samples[0].label("absent"), None);
        assert_eq!(
            (samples[1].name.as_str(), samples[1].value),
            ("video_processor_active_streams", 2.0)
        );
        assert_eq!(
            (samples[2].label("le"), samples[2].value),
            (Some("+Inf"), 7.0)
        );
    }

    #[test]
    fn lines_that_are_no_samples_are_passed_over() {
        for line in [
            "",
            "#",
            "a",
            "a{",
            "a{b",
            "a{b=",
            "a{b=\"",
            "a{b=\"c\"",
            "a{b=\"c\" 1",
            "a{} x",
            "{} 1",
            "a{b=\"c\"d=\"e\"} 1",
            "a{b=\"\\",
            "<html>",
        ] {
            assert_eq!(samples(line), [], "{line:?}");
        }
        assert_eq!(samples("a{} 1").len(), 1);
        assert_eq!(samples("a{b=\"c\",} 1").len(), 1);
    }

    /// Writes a sample as the format wants it.
    fn written(sample: &Sample) -> String {
        let escaped = |value: &str| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            value.replace('\n', "\\n")
        };
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        format!("{}{{{}}} {}\n", sample.name, labels.join(","), sample.value)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            written_samples in prop::collection::vec(
                (
                    "[a-z_:][a-z0-9_:]{0,20}",
                    // All but the characters that end a line for `str::lines` and are not escaped.
                    prop::collection::vec(("[a-z_][a-z0-9_]{0,9}", "[^\r]{0,12}"), 0..4),
                    -1e12_f64..1e12,
                ),
                0..8,
            )
        ) {
            let before: Vec<Sample> = written_samples
                .into_iter()
                .map(|(name, labels, value)| Sample { name, labels, value })
                .collect();
            let page: String = before.iter().map(written).collect();
            prop_assert_eq!(samples(&page), before);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}", line in "[a-c{}=\",\\\\ 0-9\n]{0,60}") {
            samples(&text);
            samples(&line);
        }
    }
}
