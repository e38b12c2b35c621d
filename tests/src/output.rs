//! What a run left in its output folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One row of `tracks.jsonl`, as JSON.
pub type Row = Value;

/// The output folder of a run.
#[derive(Debug)]
pub struct Output {
    pub(crate) folder: tempfile::TempDir,
}

impl Output {
    /// A file in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file as text; empty where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The rows of `tracks.jsonl`; panics on a torn line.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let text = self.text("tracks.jsonl");
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "the last line is torn"
        );
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The rows of a run that goes on: the last line may be torn.
    #[must_use]
    pub fn rows_so_far(&self) -> Vec<Row> {
        let text = self.text("tracks.jsonl");
        let lines = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok());
        lines.collect()
    }

    /// `summary.json`.
    #[must_use]
    pub fn summary(&self) -> Value {
        let text = self.text("summary.json");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("summary.json: {e}: {text}"))
    }

    /// One value of what the summary says of a stream; null where there is none yet.
    #[must_use]
    pub fn told(&self, id: &str, key: &str) -> Value {
        let summary: Value = serde_json::from_str(&self.text("summary.json")).unwrap_or_default();
        let streams = summary["streams"].as_array().cloned().unwrap_or_default();
        let stream = streams.iter().find(|stream| stream["id"] == id);
        stream.map(|stream| stream[key].clone()).unwrap_or_default()
    }

    /// What the summary says of one stream.
    #[must_use]
    pub fn stream(&self, id: &str) -> Value {
        let summary = self.summary();
        let streams = summary["streams"].as_array().expect("streams is a list");
        streams
            .iter()
            .find(|stream| stream["id"] == id)
            .unwrap_or_else(|| panic!("no stream {id} in {summary}"))
            .clone()
    }

    /// How many frames of this stream were processed.
    #[must_use]
    pub fn frames(&self, id: &str) -> u64 {
        self.stream(id)["frames"]
            .as_u64()
            .expect("frames is a number")
    }

    /// The errors reported for this stream, joined.
    #[must_use]
    pub fn errors(&self, id: &str) -> String {
        self.stream(id)["errors"].to_string()
    }

    /// The distinct tracks of a stream.
    #[must_use]
    pub fn tracks(&self, id: &str) -> BTreeSet<u64> {
        self.rows()
            .iter()
            .filter(|row| row["stream_id"] == id)
            .filter_map(|row| row["track_id"].as_u64())
            .collect()
    }

    /// Panics unless every (stream, epoch, frame, track) is written once and frames never go back.
    pub fn assert_rows_once_and_in_order(&self) {
        let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        for row in self.rows() {
            let stream = row["stream_id"].as_str().expect("stream_id").to_string();
            let number = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{key}: {row}"));
            let frame = (number("epoch"), number("frame"));
            assert!(
                keys.insert((stream.clone(), frame, number("track_id"))),
                "written twice: {row}"
            );
            let before = last.insert(stream, frame).unwrap_or_default();
            assert!(before <= frame, "frame {frame:?} after {before:?}");
        }
    }
}
