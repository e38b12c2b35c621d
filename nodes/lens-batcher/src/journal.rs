//! When objects were asked about last, kept for the case that this process is killed: the one after it
//! asks nobody again too soon.
//!
//! One line of JSON per answer, in a file of the run; a torn last line is left out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracklens_schemas::{Epoch, StreamId, TrackId};

use crate::candidate::Object;

/// Lines after which the file is written anew with the last of each object.
const COMPACT: usize = 20_000;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The run: another one knows nothing of it.
    pub run: String,
    /// The object's stream.
    pub stream: StreamId,
    /// Its epoch: times of another mean nothing.
    pub epoch: Epoch,
    /// The object.
    pub track: TrackId,
    /// When it was asked about, nanoseconds of the node's time for candidates.
    pub at: i64,
}

/// The file.
#[derive(Debug)]
pub struct Journal {
    file: File,
    run: String,
    lines: usize,
}

impl Journal {
    /// Opens the file in this folder, and returns what an earlier process of this run has noted.
    /// That of other runs is removed.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn open(folder: &Path, run: &str) -> io::Result<(Self, Vec<Entry>)> {
        let path = folder.join("asked.jsonl");
        let mut entries = Vec::new();
        match File::open(&path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    let entry: Option<Entry> = serde_json::from_slice(&line?).ok();
                    entries.extend(entry.filter(|entry| entry.run == run));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut last = std::collections::BTreeMap::new();
        for entry in entries {
            last.insert((entry.stream.clone(), entry.track), entry);
        }
        let entries: Vec<Entry> = last.into_values().collect();
        let mut bytes = Vec::new();
        for entry in &entries {
            serde_json::to_writer(&mut bytes, entry)?;
            bytes.push(b'\n');
        }
        crate::cache_file::replace(&path, &bytes)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        let journal = Self {
            file,
            run: run.into(),
            lines: entries.len(),
        };
        Ok((journal, entries))
    }

    /// Notes an answer.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn note(&mut self, object: &Object, epoch: Epoch, at: i64) -> io::Result<()> {
        let entry = Entry {
            run: self.run.clone(),
            stream: object.stream.clone(),
            epoch,
            track: object.track,
            at,
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.lines += 1;
        self.file.write_all(&line)
    }

    /// Whether the file should be opened anew, which makes it short.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.lines > COMPACT
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_answers_of_the_same_run_are_known_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let object = |track| Object {
            stream: "cam".parse().unwrap(),
            track: TrackId(track),
        };
        let (mut journal, entries) = Journal::open(folder.path(), "a").unwrap();
        assert!(entries.is_empty());
        for (track, at) in [(1, 10), (2, 20), (1, 30)] {
            journal.note(&object(track), Epoch(4), at).unwrap();
        }
        journal.file.write_all(b"{\"run\":\"a\",\"str").unwrap();
        let (_, entries) = Journal::open(folder.path(), "a").unwrap();
        let known: Vec<_> = entries
            .iter()
            .map(|e| (e.track.0, e.at, e.epoch.0))
            .collect();
        assert_eq!(known, [(1, 30, 4), (2, 20, 4)]);
        let (_, entries) = Journal::open(folder.path(), "b").unwrap();
        assert!(entries.is_empty());
        let (_, entries) = Journal::open(folder.path(), "a").unwrap();
        assert!(entries.is_empty(), "removed by run b");
    }
}
