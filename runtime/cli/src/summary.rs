//! `summary.json`: what the publisher says of a run, replaced about twice a second.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file's name in the output folder.
pub(crate) const FILE: &str = "summary.json";

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Summary {
    /// `running`, `finished` (all sources came to their end) or `stopped`.
    pub(crate) state: String,
    pub(crate) elapsed_s: f64,
    pub(crate) streams: Vec<StreamSummary>,
    pub(crate) sinks: Vec<SinkSummary>,
    /// Track rows published.
    pub(crate) rows: u64,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct StreamSummary {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) frames: u64,
    pub(crate) expected_frames: Option<u64>,
    pub(crate) fps: f64,
    /// Different tracks so far.
    pub(crate) tracks: u64,
    /// Objects in the newest frame.
    pub(crate) objects: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// From capture to the publisher.
    pub(crate) latency_ms: Option<Latency>,
}

/// Latencies of a stream's frames, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// One of the publisher's outputs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct SinkSummary {
    pub(crate) name: String,
    pub(crate) path: Option<String>,
    pub(crate) rows: u64,
    pub(crate) error: Option<String>,
}

impl Summary {
    /// What the folder's file says now; `None` where there is none, or half a one.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    pub(crate) fn frames(&self) -> u64 {
        self.streams.iter().map(|stream| stream.frames).sum()
    }

    pub(crate) fn objects(&self) -> u64 {
        self.streams.iter().map(|stream| stream.objects).sum()
    }

    /// Frames of all streams together, where each stream knows its own number.
    pub(crate) fn expected_frames(&self) -> Option<u64> {
        if self.streams.is_empty() {
            return None;
        }
        self.streams
            .iter()
            .map(|stream| {
                stream
                    .expected_frames
                    .map(|expected| expected.max(stream.frames))
            })
            .sum()
    }

    /// The sinks' files that exist and have one of the extensions.
    pub(crate) fn files(&self, folder: &Path, extension: &str) -> Vec<PathBuf> {
        self.sinks
            .iter()
            .filter_map(|sink| sink.path.as_deref())
            .map(|path| folder.join(path))
            .filter(|path| {
                path.extension().is_some_and(|found| found == extension) && path.is_file()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_the_publisher_writes() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Summary::read(folder.path()), None);
        fs::write(folder.path().join("tracks.jsonl"), "").unwrap();
        let text = r#"{"state":"running","elapsed_s":2.5,"streams":[{"id":"a","state":"active","epoch":0,
            "frames":10,"expected_frames":40,"fps":4.0,"tracks":3,"objects":2,"errors":[],"width":64,"height":48}],
            "sinks":[{"name":"jsonl","path":"tracks.jsonl","rows":12,"error":null}],"rows":12}"#;
        fs::write(folder.path().join(FILE), text).unwrap();
        let summary = Summary::read(folder.path()).unwrap();
        assert_eq!(
            (summary.frames(), summary.objects(), summary.rows),
            (10, 2, 12)
        );
        assert_eq!(summary.expected_frames(), Some(40));
        assert_eq!(
            summary.files(folder.path(), "jsonl"),
            [folder.path().join("tracks.jsonl")]
        );
        fs::write(folder.path().join(FILE), &text[..50]).unwrap();
        assert_eq!(Summary::read(folder.path()), None);
    }

    #[test]
    fn an_unknown_length_makes_the_whole_unknown() {
        let stream = |expected_frames| StreamSummary {
            frames: 5,
            expected_frames,
            ..Default::default()
        };
        let mut summary = Summary {
            streams: vec![stream(Some(3))],
            ..Default::default()
        };
        assert_eq!(summary.expected_frames(), Some(5));
        summary.streams.push(stream(None));
        assert_eq!(summary.expected_frames(), None);
    }
}
