//! The sink `tracks.jsonl`: one JSON object per frame and track, all streams in one file; and
//! `identifications.jsonl` beside it.
//!
//! A file that is large enough is put aside as `tracks-00001.jsonl` and so on, between two frames.
//! How far each stream was is written down before, in `tracks.rotated.json`: a process that takes over
//! reads the one file that grows, and knows of the others what it must.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracklens_schemas::jsonl::write_track_row;
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Header, Identification, StreamId, Track, TrackId, TracksInfo,
};

use crate::{Identified, Order, RowFile, Sink, SinkError, SinkFile};

/// Files put aside that are listed in the summary.
const LISTED: usize = 64;

/// Writes `tracks.jsonl`.
#[derive(Debug)]
pub struct Jsonl {
    folder: PathBuf,
    max_bytes: u64,
    file: RowFile,
    order: Order,
    rotated: Rotated,
    identified: Identified,
    lines: Vec<u8>,
}

/// What is known of the files put aside.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rotated {
    /// Rows in each, oldest first.
    rows: Vec<u64>,
    /// The last frame of each stream in them.
    streams: BTreeMap<StreamId, (Epoch, FrameIndex)>,
    /// The last frame of each stream so far; not written down.
    #[serde(skip)]
    now: BTreeMap<StreamId, (Epoch, FrameIndex)>,
}

impl Rotated {
    const FILE: &'static str = "tracks.rotated.json";

    fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(Self::FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Replaces the file as a whole.
    fn write(&self, folder: &Path) -> std::io::Result<()> {
        let new = folder.join("tracks.rotated.json.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(&new, folder.join(Self::FILE))
    }
}

/// What names a row, of all that is in it.
#[derive(Deserialize)]
struct RowKey<'a> {
    stream_id: &'a str,
    epoch: u32,
    frame: u64,
    track_id: u32,
}

impl Jsonl {
    /// The file's name.
    pub const FILE: &'static str = "tracks.jsonl";

    /// Replaces the file in this folder or, with `resume`, goes on behind its last whole row.
    /// `found` is told every row that is there already. With `max_bytes`, a file that has grown so
    /// large is put aside.
    ///
    /// # Errors
    /// Where the file cannot be made or read.
    pub fn open(
        folder: &Path,
        resume: bool,
        max_bytes: u64,
        mut found: impl FnMut(&FrameId, TrackId),
    ) -> Result<Self, SinkError> {
        let path = folder.join(Self::FILE);
        let mut order = Order::default();
        let mut rotated = Rotated::default();
        let file = if resume {
            rotated = Rotated::read(folder).unwrap_or_default();
            for (stream, (epoch, frame)) in &rotated.streams {
                order.written(&FrameId {
                    stream: stream.clone(),
                    epoch: *epoch,
                    frame: *frame,
                });
            }
            rotated.now.clone_from(&rotated.streams);
            let (whole, now) = (rotated.rows.is_empty(), &mut rotated.now);
            RowFile::resume(&path, |line| match row_key(line) {
                Some((id, track)) => {
                    // Rows put aside are not read again: of the tracks, only all can be told.
                    if whole {
                        found(&id, track);
                    }
                    now.insert(id.stream.clone(), (id.epoch, id.frame));
                    order.recover(&id, track);
                    true
                }
                None => false,
            })?
        } else {
            forget(folder).map_err(SinkError::open(&path))?;
            RowFile::replace(&path)?
        };
        let mut sink = Self {
            folder: folder.into(),
            max_bytes,
            file,
            order,
            rotated,
            identified: Identified::open(folder, resume)?,
            lines: Vec::new(),
        };
        sink.settle();
        Ok(sink)
    }

    fn aside(&self, number: usize) -> PathBuf {
        self.folder.join(format!("tracks-{number:05}.jsonl"))
    }

    /// A kill between writing down and putting aside: the last file noted is still in its place, so
    /// it is not noted yet.
    fn settle(&mut self) {
        let noted = self.rotated.rows.len();
        if noted > 0 && !self.aside(noted).exists() {
            self.rotated.rows.pop();
        }
    }

    /// Puts a large file aside, between two frames.
    fn rotate(&mut self) -> Result<(), SinkError> {
        if self.max_bytes == 0 || self.file.len() < self.max_bytes {
            return Ok(());
        }
        let path = self.file.path().to_path_buf();
        self.file.sync()?;
        self.rotated.rows.push(self.file.rows());
        self.rotated.streams.clone_from(&self.rotated.now);
        let aside = self.aside(self.rotated.rows.len());
        let moved = self
            .rotated
            .write(&self.folder)
            .and_then(|()| std::fs::rename(&path, &aside));
        if let Err(error) = moved {
            self.rotated.rows.pop();
            return Err(SinkError::write(&path)(error));
        }
        self.file = RowFile::replace(&path)?;
        Ok(())
    }
}

/// Removes the files that an earlier run put aside.
fn forget(folder: &Path) -> std::io::Result<()> {
    let Some(rotated) = Rotated::read(folder) else {
        return Ok(());
    };
    for number in 1..=rotated.rows.len() {
        let _may_be_gone = std::fs::remove_file(folder.join(format!("tracks-{number:05}.jsonl")));
    }
    std::fs::remove_file(folder.join(Rotated::FILE))
}

fn row_key(line: &[u8]) -> Option<(FrameId, TrackId)> {
    let key: RowKey<'_> = serde_json::from_slice(line).ok()?;
    let id = FrameId {
        stream: key.stream_id.parse().ok()?,
        epoch: Epoch(key.epoch),
        frame: FrameIndex(key.frame),
    };
    Some((id, TrackId(key.track_id)))
}

impl Sink for Jsonl {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn tracks(
        &mut self,
        header: &Header,
        _info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        self.rotate()?;
        self.lines.clear();
        let mut rows = 0;
        for track in self.order.missing(&header.id, tracks) {
            write_track_row(&mut self.lines, header, track);
            rows += 1;
        }
        self.file.append(&self.lines, rows)?;
        self.order.written(&header.id);
        if self.max_bytes > 0 {
            let at = (header.id.epoch, header.id.frame);
            let now = self.rotated.now.entry(header.id.stream.clone());
            let now = now.or_insert(at);
            *now = (*now).max(at);
        }
        Ok(rows)
    }

    fn identifications(
        &mut self,
        header: &Header,
        rows: &[Identification],
    ) -> Result<u64, SinkError> {
        self.identified.write(header, rows)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.order.forget(stream);
        self.rotated.now.remove(stream);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.sync()?;
        self.identified.finish()
    }

    fn files(&self) -> Vec<SinkFile> {
        let aside = self.rotated.rows.iter().enumerate();
        let skipped = self.rotated.rows.len().saturating_sub(LISTED);
        let aside = aside.skip(skipped).map(|(index, rows)| SinkFile {
            path: self.aside(index + 1),
            rows: Some(*rows),
            frames: None,
        });
        let growing = SinkFile {
            path: self.file.path().into(),
            rows: Some(self.file.rows()),
            frames: None,
        };
        aside
            .chain([growing])
            .chain(self.identified.file())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{frames, header, info, track};
    use proptest::prelude::*;
    use tracklens_schemas::jsonl::TrackRow;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Killed at any byte, and sent everything again from any point that was not acknowledged
        /// (one per stream), the file ends as if nothing had happened.
        #[test]
        fn a_cut_file_is_continued_without_a_torn_double_or_missing_row(
            frames in frames(), cut: prop::sample::Index, back: [prop::sample::Index; 2],
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(Jsonl::FILE);
            let mut sink = Jsonl::open(folder.path(), false, 0, |_, _| ()).unwrap();
            let mut ends = Vec::new();
            for (header, tracks) in &frames {
                sink.tracks(header, &info(), tracks).unwrap();
                ends.push(std::fs::metadata(&path).unwrap().len() as usize);
            }
            drop(sink);
            let whole = std::fs::read(&path).unwrap();
            let cut = cut.index(whole.len() + 1);
            std::fs::write(&path, &whole[..cut]).unwrap();
            let complete = ends.iter().take_while(|end| **end <= cut).count();
            let from = back.map(|back| back.index(complete + 1));

            let mut sink = Jsonl::open(folder.path(), true, 0, |_, _| ()).unwrap();
            for (index, (header, tracks)) in frames.iter().enumerate() {
                let stream = usize::from(header.id.stream.as_str() == "b");
                if index >= from[stream] {
                    sink.tracks(header, &info(), tracks).unwrap();
                }
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    /// All rows, in the order of the files.
    fn all(folder: &Path) -> Vec<u8> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        // `tracks-…` sorts before `tracks.`.
        names.sort();
        names
            .iter()
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn files_put_aside_hold_every_row_once_also_after_kills(
            frames in frames(), kills in prop::collection::vec(any::<bool>(), 14), max in 1u64..1200,
        ) {
            let (folder, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let mut sink = Jsonl::open(folder.path(), false, max, |_, _| ()).unwrap();
            let mut one = Jsonl::open(plain.path(), false, 0, |_, _| ()).unwrap();
            for (index, (header, tracks)) in frames.iter().enumerate() {
                sink.tracks(header, &info(), tracks).unwrap();
                one.tracks(header, &info(), tracks).unwrap();
                if kills[index] {
                    sink = Jsonl::open(folder.path(), true, max, |_, _| ()).unwrap();
                    for (header, tracks) in &frames[..=index] {
                        sink.tracks(header, &info(), tracks).unwrap();
                    }
                }
            }
            prop_assert_eq!(all(folder.path()), all(plain.path()));
            Jsonl::open(folder.path(), false, max, |_, _| ()).unwrap();
            prop_assert_eq!(all(folder.path()).len(), 0);
        }
    }

    #[test]
    fn rows_read_back_and_a_fresh_start_replaces_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Jsonl::open(folder.path(), false, 0, |_, _| ()).unwrap();
        let written = sink.tracks(&header("cam", 0, 3), &info(), &[track(1), track(9)]);
        assert_eq!(written.unwrap(), 2);
        sink.finish().unwrap();
        assert_eq!(sink.files()[0].rows, Some(2));
        let text = std::fs::read_to_string(folder.path().join(Jsonl::FILE)).unwrap();
        let rows: Vec<TrackRow> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((rows[1].frame, rows[1].track_id), (3, 9));
        let fresh = Jsonl::open(folder.path(), false, 0, |_, _| ()).unwrap();
        assert_eq!(fresh.files()[0].rows, Some(0));
    }
}
