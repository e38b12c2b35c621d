//! The sink `mot-<stream>.txt`: MOTChallenge text, one line per frame and visible object:
//! `frame,id,left,top,width,height,confidence,-1,-1,-1`.
//!
//! Frames count from 1. Boxes are in pixels of the source frame whose top-left corner is (0, 0).
//! The format knows no epochs: each but the first has a file of its own, `mot-<stream>+<epoch>.txt`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use tracklens_schemas::{Epoch, FrameId, FrameIndex, Header, StreamId, Track, TrackId, TracksInfo};

use crate::{Order, RowFile, Sink, SinkError, SinkFile};

/// Files of closed streams that are remembered for the summary.
const REMEMBERED: usize = 256;

/// Writes MOTChallenge files.
#[derive(Debug)]
pub struct Mot {
    folder: PathBuf,
    resume: bool,
    open: BTreeMap<StreamId, MotFile>,
    closed: Vec<SinkFile>,
    lines: Vec<u8>,
}

#[derive(Debug)]
struct MotFile {
    epoch: Epoch,
    file: RowFile,
    order: Order,
}

impl Mot {
    /// Writes into this folder; with `resume`, files that are there are continued.
    #[must_use]
    pub fn new(folder: &Path, resume: bool) -> Self {
        Self {
            folder: folder.into(),
            resume,
            open: BTreeMap::new(),
            closed: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// The file of this epoch; `None` where the epoch is over.
    fn file(&mut self, stream: &StreamId, epoch: Epoch) -> Result<Option<&mut MotFile>, SinkError> {
        let known = self.open.get(stream).map(|file| file.epoch);
        if known.is_some_and(|known| epoch < known) {
            return Ok(None);
        }
        if known != Some(epoch) {
            let file = MotFile::open(&self.folder, stream, epoch, self.resume)?;
            if let Some(before) = self.open.insert(stream.clone(), file) {
                self.keep(&before);
            }
        }
        Ok(self.open.get_mut(stream))
    }

    fn keep(&mut self, file: &MotFile) {
        self.closed.push(file.describe());
        if self.closed.len() > REMEMBERED {
            self.closed.remove(0);
        }
    }
}

impl MotFile {
    fn open(
        folder: &Path,
        stream: &StreamId,
        epoch: Epoch,
        resume: bool,
    ) -> Result<Self, SinkError> {
        // Stream ids hold no `+`: no two streams and epochs share a name.
        let path = folder.join(match epoch.0 {
            0 => format!("mot-{stream}.txt"),
            epoch => format!("mot-{stream}+{epoch}.txt"),
        });
        let mut order = Order::default();
        let file = if resume {
            RowFile::resume(&path, |line| match row_key(line) {
                Some((frame, track)) => {
                    order.recover(
                        &FrameId {
                            stream: stream.clone(),
                            epoch,
                            frame,
                        },
                        track,
                    );
                    true
                }
                None => false,
            })?
        } else {
            RowFile::replace(&path)?
        };
        Ok(Self { epoch, file, order })
    }

    fn describe(&self) -> SinkFile {
        SinkFile {
            path: self.file.path().into(),
            rows: Some(self.file.rows()),
            frames: None,
        }
    }
}

fn row_key(line: &[u8]) -> Option<(FrameIndex, TrackId)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(',');
    let frame: u64 = fields.next()?.parse().ok()?;
    let track = fields.next()?.parse().ok()?;
    (fields.count() == 8).then_some((FrameIndex(frame.checked_sub(1)?), TrackId(track)))
}

impl Sink for Mot {
    fn name(&self) -> &'static str {
        "mot"
    }

    fn tracks(
        &mut self,
        header: &Header,
        _info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let mut rows = 0;
        let Some(file) = self.file(&header.id.stream, header.id.epoch)? else {
            return Ok(0);
        };
        for track in file
            .order
            .missing(&header.id, tracks)
            .filter(|track| track.visible)
        {
            let (b, frame) = (track.bbox, header.id.frame.0 + 1);
            let (id, score) = (track.track_id.0, track.score);
            // Writing to memory cannot fail.
            let _infallible = writeln!(
                lines,
                "{frame},{id},{:.2},{:.2},{:.2},{:.2},{score:.4},-1,-1,-1",
                b.x0,
                b.y0,
                b.width(),
                b.height(),
            );
            rows += 1;
        }
        file.file.append(&lines, rows)?;
        file.order.written(&header.id);
        self.lines = lines;
        Ok(rows)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        if let Some(mut file) = self.open.remove(stream) {
            self.keep(&file);
            file.file.sync()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.open.values_mut().try_for_each(|file| file.file.sync())
    }

    fn files(&self) -> Vec<SinkFile> {
        let open = self.open.values().map(MotFile::describe);
        self.closed.iter().cloned().chain(open).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{frames, header, info, track};
    use proptest::prelude::*;

    #[test]
    fn lines_are_as_the_challenge_wants_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Mot::new(folder.path(), false);
        let mut hidden = track(2);
        hidden.visible = false;
        sink.tracks(&header("cam", 0, 0), &info(), &[track(1), hidden])
            .unwrap();
        sink.tracks(&header("cam", 1, 4), &info(), &[track(3)])
            .unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            read("mot-cam.txt"),
            "1,1,1.00,2.00,4.50,4.25,0.7500,-1,-1,-1\n"
        );
        assert_eq!(
            read("mot-cam+1.txt"),
            "5,3,1.00,2.00,4.50,4.25,0.7500,-1,-1,-1\n"
        );
        sink.stream_closed(&"cam".parse().unwrap()).unwrap();
        assert_eq!(sink.files().len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_cut_file_is_continued_without_a_torn_double_or_missing_row(
            frames in frames(), cut: prop::sample::Index,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("mot-a.txt");
            let frames: Vec<_> = frames
                .into_iter()
                .filter(|(header, _)| header.id.stream.as_str() == "a" && header.id.epoch.0 == 0)
                .collect();
            let send = |resume| {
                let mut sink = Mot::new(folder.path(), resume);
                for (header, tracks) in &frames {
                    sink.tracks(header, &info(), tracks).unwrap();
                }
                std::fs::read(&path).unwrap_or_default()
            };
            let whole = send(false);
            std::fs::write(&path, &whole[..cut.index(whole.len() + 1)]).unwrap();
            prop_assert_eq!(send(true), whole);
        }
    }
}
