//! The sink `tracks.jsonl`: one JSON object per frame and track, all streams in one file.

use std::path::Path;

use serde::Deserialize;
use tracklens_schemas::jsonl::write_track_row;
use tracklens_schemas::{Epoch, FrameId, FrameIndex, Header, StreamId, Track, TrackId, TracksInfo};

use crate::{Order, RowFile, Sink, SinkError, SinkFile};

/// Writes `tracks.jsonl`.
#[derive(Debug)]
pub struct Jsonl {
    file: RowFile,
    order: Order,
    lines: Vec<u8>,
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
    /// `found` is told every row that is there already.
    ///
    /// # Errors
    /// Where the file cannot be made or read.
    pub fn open(
        folder: &Path,
        resume: bool,
        mut found: impl FnMut(&FrameId, TrackId),
    ) -> Result<Self, SinkError> {
        let path = folder.join(Self::FILE);
        let mut order = Order::default();
        let file = if resume {
            RowFile::resume(&path, |line| match row_key(line) {
                Some((id, track)) => {
                    found(&id, track);
                    order.recover(&id, track);
                    true
                }
                None => false,
            })?
        } else {
            RowFile::replace(&path)?
        };
        Ok(Self {
            file,
            order,
            lines: Vec::new(),
        })
    }
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
        self.lines.clear();
        let mut rows = 0;
        for track in self.order.missing(&header.id, tracks) {
            write_track_row(&mut self.lines, header, track);
            rows += 1;
        }
        self.file.append(&self.lines, rows)?;
        self.order.written(&header.id);
        Ok(rows)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.order.forget(stream);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.sync()
    }

    fn files(&self) -> Vec<SinkFile> {
        vec![SinkFile {
            path: self.file.path().into(),
            rows: Some(self.file.rows()),
            frames: None,
        }]
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
            let mut sink = Jsonl::open(folder.path(), false, |_, _| ()).unwrap();
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

            let mut sink = Jsonl::open(folder.path(), true, |_, _| ()).unwrap();
            for (index, (header, tracks)) in frames.iter().enumerate() {
                let stream = usize::from(header.id.stream.as_str() == "b");
                if index >= from[stream] {
                    sink.tracks(header, &info(), tracks).unwrap();
                }
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn rows_read_back_and_a_fresh_start_replaces_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Jsonl::open(folder.path(), false, |_, _| ()).unwrap();
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
        let fresh = Jsonl::open(folder.path(), false, |_, _| ()).unwrap();
        assert_eq!(fresh.files()[0].rows, Some(0));
    }
}
