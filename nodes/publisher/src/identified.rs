//! The file `identifications.jsonl`: what objects are, one JSON object per answer, as the answers come.
//!
//! Not among the rows of `tracks.jsonl`: when an answer comes depends on a service, and tracks shall
//! be the same bytes every time.

use std::path::Path;

use serde::Serialize;
use tracklens_schemas::{Header, Identification};

use crate::{RowFile, SinkError, SinkFile};

/// Writes `identifications.jsonl`.
#[derive(Debug)]
pub struct Identified {
    file: RowFile,
    lines: Vec<u8>,
}

/// A row. The frame is the one on which the object was asked about.
#[derive(Serialize)]
struct Row<'a> {
    kind: &'static str,
    stream_id: &'a str,
    epoch: u32,
    frame: u64,
    pts_ns: i64,
    track_id: u32,
    outcome: &'static str,
    name: &'a str,
    category: &'a str,
    description: &'a str,
    confidence: f64,
    dimensions: Option<&'a str>,
    backend: &'a str,
    cached: bool,
    attempts: u8,
    error: Option<&'a str>,
}

impl Identified {
    /// The file's name.
    pub const FILE: &'static str = "identifications.jsonl";

    /// Replaces the file in this folder or, with `resume`, goes on behind its last whole row.
    ///
    /// # Errors
    /// Where the file cannot be made or read.
    pub fn open(folder: &Path, resume: bool) -> Result<Self, SinkError> {
        let path = folder.join(Self::FILE);
        let whole = |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
        let file = match resume {
            true => RowFile::resume(&path, whole)?,
            false => RowFile::replace(&path)?,
        };
        Ok(Self {
            file,
            lines: Vec::new(),
        })
    }

    /// Appends the answers about objects of this frame.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write(&mut self, header: &Header, list: &[Identification]) -> Result<u64, SinkError> {
        self.lines.clear();
        for one in list {
            let row = Row {
                kind: "identification",
                stream_id: header.id.stream.as_str(),
                epoch: header.id.epoch.0,
                frame: header.id.frame.0,
                pts_ns: header.pts_ns,
                track_id: one.track_id.0,
                outcome: one.outcome.as_str(),
                name: &one.name,
                category: &one.category,
                description: &one.description,
                // Four decimals, so that equal results are equal bytes.
                confidence: (f64::from(one.confidence) * 1e4).round() / 1e4,
                dimensions: one.dimensions.as_deref(),
                backend: &one.backend,
                cached: one.cached,
                attempts: one.attempts,
                error: one.error.as_deref(),
            };
            let written = serde_json::to_writer(&mut self.lines, &row);
            written.map_err(|error| SinkError::write(self.file.path())(error.into()))?;
            self.lines.push(b'\n');
        }
        let rows = list.len() as u64;
        self.file.append(&self.lines, rows)?;
        Ok(rows)
    }

    /// Everything is on the disk.
    ///
    /// # Errors
    /// Where it cannot be.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        self.file.sync()
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> SinkFile {
        SinkFile {
            path: self.file.path().into(),
            rows: None,
            frames: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::header;
    use tracklens_schemas::{Outcome, TrackId};

    #[test]
    fn rows_name_their_kind_and_a_torn_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Identified::FILE);
        let one = Identification {
            track_id: TrackId(7),
            name: "a \"cup\"".into(),
            category: String::new(),
            description: String::new(),
            confidence: 0.9,
            dimensions: None,
            backend: "gallery".into(),
            outcome: Outcome::Identified,
            cached: false,
            attempts: 1,
            error: None,
        };
        let mut file = Identified::open(folder.path(), false).unwrap();
        file.write(&header("cam", 0, 3), &[one.clone(), one.clone()])
            .unwrap();
        file.finish().unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let first = whole.lines().next().unwrap();
        assert_eq!(
            first,
            r#"{"kind":"identification","stream_id":"cam","epoch":0,"frame":3,"pts_ns":120000000,"track_id":7,"outcome":"identified","name":"a \"cup\"","category":"","description":"","confidence":0.9,"dimensions":null,"backend":"gallery","cached":false,"attempts":1,"error":null}"#
        );
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let mut file = Identified::open(folder.path(), true).unwrap();
        file.write(&header("cam", 0, 3), &[one]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }
}
