//! The file `identifications.jsonl`: what objects are, one JSON object per answer, as the answers come.
//!
//! Not among the rows of `tracks.jsonl`: when an answer comes depends on a service, and tracks shall
//! be the same bytes every time.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tracklens_schemas::jsonl::write_identification_row;
use tracklens_schemas::{Header, Identification};

use crate::{RowFile, SinkError, SinkFile};

/// Writes `identifications.jsonl`, which is made with its first row.
#[derive(Debug)]
pub struct Identified {
    path: PathBuf,
    file: Option<RowFile>,
    lines: Vec<u8>,
}

impl Identified {
    /// The file's name.
    pub const FILE: &'static str = "identifications.jsonl";

    /// Removes the file from this folder or, with `resume`, goes on behind its last whole row.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn open(folder: &Path, resume: bool) -> Result<Self, SinkError> {
        let path = folder.join(Self::FILE);
        if !resume {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(SinkError::open(&path)(error));
                }
                _ => {}
            }
        }
        Ok(Self {
            path,
            file: None,
            lines: Vec::new(),
        })
    }

    /// Appends the answers about objects of this frame.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write(&mut self, header: &Header, list: &[Identification]) -> Result<u64, SinkError> {
        if list.is_empty() {
            return Ok(0);
        }
        self.lines.clear();
        for row in list {
            write_identification_row(&mut self.lines, header, row);
        }
        let rows = list.len() as u64;
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let whole =
                    |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
                self.file.insert(RowFile::resume(&self.path, whole)?)
            }
        };
        file.append(&self.lines, rows)?;
        Ok(rows)
    }

    /// Everything is on the disk.
    ///
    /// # Errors
    /// Where it cannot be.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        self.file.as_mut().map_or(Ok(()), RowFile::sync)
    }

    /// The file, once there is one.
    #[must_use]
    pub fn file(&self) -> Option<SinkFile> {
        self.file.as_ref().map(|file| SinkFile {
            path: file.path().into(),
            rows: Some(file.rows()),
            frames: None,
        })
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
        assert!(file.file().is_none() && !path.exists());
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
        assert_eq!(file.file().unwrap().rows, Some(2));
        Identified::open(folder.path(), false).unwrap();
        assert!(!path.exists());
    }
}
