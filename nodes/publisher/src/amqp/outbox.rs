//! Rows on disk until the broker has confirmed them.
//!
//! A folder of segments, each a file of lines: a head, then rows. The node's thread appends at the
//! end ([`Outbox`]); the sender reads behind it and takes away what is confirmed ([`Ledger`]). Both
//! survive a kill at any byte: rows come back whole or not at all, and of those that may have been
//! sent before, the ledger knows which.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use tracklens_schemas::{Epoch, FrameId, FrameIndex, StreamId, TrackId};

use crate::{Order, RowFile, SinkError};

/// The file that says how far the sender is.
const LEDGER: &str = "sent.json";
/// How the first line of a segment begins.
const HEAD: &[u8] = b"{\"outbox\"";

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The segment's number, from 1.
    pub segment: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The first line of a segment.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Head {
    outbox: u32,
    /// The run that the rows are of.
    run: String,
    /// The last frame of each stream before this segment.
    streams: BTreeMap<StreamId, (Epoch, FrameIndex)>,
}

/// What names a row, of all that is in it.
#[derive(Debug, Deserialize)]
pub(super) struct RowKey<'a> {
    pub(super) kind: Option<&'a str>,
    pub(super) stream_id: &'a str,
    pub(super) epoch: u32,
    pub(super) frame: u64,
    pub(super) track_id: u32,
}

impl RowKey<'_> {
    fn frame_id(&self) -> Option<FrameId> {
        Some(FrameId {
            stream: self.stream_id.parse().ok()?,
            epoch: Epoch(self.epoch),
            frame: FrameIndex(self.frame),
        })
    }
}

/// How large it may get.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes after which a new segment is begun.
    pub segment: u64,
    /// Bytes of all segments.
    pub total: u64,
}

/// What both sides count.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Rows that are not confirmed.
    pub rows: AtomicU64,
    /// Bytes of all segments.
    pub bytes: AtomicU64,
}

/// The writing end.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    run: String,
    room: Room,
    segment: u64,
    file: RowFile,
    order: Order,
    last: BTreeMap<StreamId, (Epoch, FrameIndex)>,
    waiting: Arc<Waiting>,
}

fn path_of(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:012}.rows"))
}

/// The numbers of the segments that are there, in order.
fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".rows"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Outbox {
    /// Opens the outbox in this folder, for rows of this run, with both ends. What an earlier process
    /// left unsent will be sent. With `resume` frames that it took in are not taken in again.
    ///
    /// # Errors
    /// Where the folder cannot be made, read or written.
    pub fn open(
        folder: &Path,
        run: &str,
        resume: bool,
        room: Room,
    ) -> Result<(Self, Ledger), SinkError> {
        std::fs::create_dir_all(folder).map_err(SinkError::open(folder))?;
        let numbers = segments(folder).map_err(SinkError::recover(folder))?;
        let progress = Progress::read(folder);
        let confirmed = progress.as_ref().map_or(Place::default(), |p| p.confirmed);
        let mut memory = Memory {
            resume,
            ..Memory::default()
        };
        let mut left = 0;
        let mut newest = None;
        for &segment in &numbers {
            let mut offset = 0;
            let file = RowFile::resume(&path_of(folder, segment), |line| {
                let place = Place { segment, offset };
                offset += line.len() as u64 + 1;
                let is_row = memory.recall(line);
                left += u64::from(is_row == Some(true) && place >= confirmed);
                is_row.is_some()
            })?;
            newest = Some((segment, file));
        }
        let found = newest.as_ref().map(|(segment, file)| Place {
            segment: *segment,
            offset: file.len(),
        });
        let waiting = Arc::new(Waiting::default());
        waiting.rows.store(left, Relaxed);
        let sizes = numbers.iter().map(|number| size(&path_of(folder, *number)));
        waiting.bytes.store(sizes.sum(), Relaxed);
        let (segment, file) = match newest {
            Some(newest) if resume && memory.run == run => newest,
            // Rows of another run: its segments are left to the sender.
            _ => {
                let number = numbers.last().map_or(1, |last| last + 1);
                (number, RowFile::replace(&path_of(folder, number))?)
            }
        };
        let mut outbox = Self {
            folder: folder.into(),
            run: run.into(),
            room,
            segment,
            file,
            order: memory.order,
            last: memory.last,
            waiting: Arc::clone(&waiting),
        };
        outbox.begin()?;
        let first = numbers.first().copied().unwrap_or(segment);
        let ledger = Ledger::new(folder, waiting, progress, first, found, outbox.end());
        Ok((outbox, ledger))
    }

    /// Writes the head of a segment that has none yet.
    fn begin(&mut self) -> Result<(), SinkError> {
        if self.file.len() > 0 {
            return Ok(());
        }
        let head = Head {
            outbox: 1,
            run: self.run.clone(),
            streams: self.last.clone(),
        };
        let mut line = serde_json::to_vec(&head).unwrap_or_default();
        line.push(b'\n');
        self.file.append(&line, 0)?;
        self.waiting.bytes.fetch_add(line.len() as u64, Relaxed);
        Ok(())
    }

    /// Where the next row will be.
    #[must_use]
    pub fn end(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.file.len(),
        }
    }

    /// The frames that are in it, and those that were.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// Adds the rows of a frame: all or, with an error, none.
    ///
    /// # Errors
    /// Where the outbox is full, or the disk does not take them.
    pub fn append(
        &mut self,
        frame: Option<&FrameId>,
        lines: &[u8],
        rows: u64,
    ) -> Result<(), SinkError> {
        if rows > 0 {
            if self.waiting.bytes.load(Relaxed) + lines.len() as u64 > self.room.total {
                return Err(SinkError::OutboxFull {
                    path: self.folder.clone(),
                    megabytes: self.room.total >> 20,
                });
            }
            if self.file.len() >= self.room.segment {
                let next = RowFile::replace(&path_of(&self.folder, self.segment + 1))?;
                (self.segment, self.file) = (self.segment + 1, next);
            }
            self.begin()?;
            self.file.append(lines, rows)?;
            self.waiting.rows.fetch_add(rows, Relaxed);
            self.waiting.bytes.fetch_add(lines.len() as u64, Relaxed);
        }
        if let Some(id) = frame {
            self.order.written(id);
            let at = (id.epoch, id.frame);
            let last = self.last.entry(id.stream.clone()).or_insert(at);
            *last = (*last).max(at);
        }
        Ok(())
    }

    /// Nothing of this stream will come again.
    pub fn forget(&mut self, stream: &StreamId) {
        self.order.forget(stream);
        self.last.remove(stream);
    }

    /// Has the system write everything to the medium.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        self.file.sync()
    }
}

/// What the lines of an earlier process tell.
#[derive(Default)]
struct Memory {
    /// Whether its frames matter.
    resume: bool,
    run: String,
    order: Order,
    last: BTreeMap<StreamId, (Epoch, FrameIndex)>,
}

impl Memory {
    /// Says whether the line is a row, or `None` where it makes no sense.
    fn recall(&mut self, line: &[u8]) -> Option<bool> {
        if line.starts_with(HEAD) {
            let head: Head = serde_json::from_slice(line).ok()?;
            self.run = head.run;
            for (stream, at) in head.streams.into_iter().filter(|_| self.resume) {
                self.last.insert(stream.clone(), at);
                let (epoch, frame) = at;
                self.order.written(&FrameId {
                    stream,
                    epoch,
                    frame,
                });
            }
            return Some(false);
        }
        let key: RowKey<'_> = serde_json::from_slice(line).ok()?;
        let id = key.frame_id()?;
        if self.resume && key.kind.is_none() {
            self.order.recover(&id, TrackId(key.track_id));
            self.last.insert(id.stream, (id.epoch, id.frame));
        }
        Some(true)
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// A row to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The place behind it.
    pub end: Place,
    /// The run that it is of.
    pub run: Arc<str>,
    /// JSON, without the line feed.
    pub text: Vec<u8>,
    /// It may have been sent before.
    pub again: bool,
}

/// What is kept of the sender's progress.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    confirmed: Place,
    sent: Place,
}

/// The reading end.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    waiting: Arc<Waiting>,
    /// Everything before has been confirmed.
    confirmed: Place,
    /// Nothing from here on has been sent by an earlier process or connection.
    sent: Place,
    /// Where the next row is read.
    next: Place,
    /// Where rows end.
    end: Place,
    reading: Option<(u64, File, Arc<str>)>,
}

impl Progress {
    fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(LEDGER)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl Ledger {
    /// `found`: the end of what an earlier process left.
    fn new(
        folder: &Path,
        waiting: Arc<Waiting>,
        progress: Option<Progress>,
        first: u64,
        found: Option<Place>,
        end: Place,
    ) -> Self {
        let start = Place {
            segment: first,
            offset: 0,
        };
        let found = found.unwrap_or(start);
        // Without a word on it, everything that is there may have been sent before.
        let progress = progress.unwrap_or(Progress {
            confirmed: start,
            sent: found,
        });
        let confirmed = progress.confirmed.clamp(start, found);
        Self {
            folder: folder.into(),
            waiting,
            confirmed,
            sent: progress.sent.min(found),
            next: confirmed,
            end,
            reading: None,
        }
    }

    /// Rows have been added up to here.
    pub fn extend(&mut self, end: Place) {
        self.end = self.end.max(end);
    }

    /// Whether everything has been confirmed.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.waiting.rows.load(Relaxed) == 0
    }

    /// The connection is gone: what was not confirmed will be read again.
    pub fn rewind(&mut self) {
        self.sent = self.sent.max(self.next);
        self.next = self.confirmed;
        self.reading = None;
    }

    /// The next rows, at most about `bytes` of them. From now on they count as sent.
    ///
    /// # Errors
    /// Where they cannot be read, or the progress not be written.
    pub fn read(&mut self, bytes: usize) -> io::Result<Vec<Row>> {
        let mut rows = Vec::new();
        while rows.is_empty() && self.next < self.end {
            let last = self.next.segment == self.end.segment;
            let length = match last {
                true => self.end.offset,
                false => size(&path_of(&self.folder, self.next.segment)),
            };
            if self.next.offset >= length {
                if last {
                    break;
                }
                self.next = Place {
                    segment: self.next.segment + 1,
                    offset: 0,
                };
                continue;
            }
            let lines = self.lines(length, bytes)?;
            self.take(&lines, &mut rows);
        }
        if self.next > self.sent {
            self.note(self.next)?;
        }
        Ok(rows)
    }

    /// Whole lines from the next place on.
    fn lines(&mut self, length: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let number = self.next.segment;
        if self
            .reading
            .as_ref()
            .is_none_or(|(open, ..)| *open != number)
        {
            let mut file = File::open(path_of(&self.folder, number))?;
            self.reading = Some((number, file.try_clone()?, run_of(&mut file)?));
        }
        let Some((_, file, _)) = &mut self.reading else {
            return Ok(Vec::new());
        };
        let mut wanted = bytes.max(1) as u64;
        loop {
            let room = length - self.next.offset;
            let mut text = vec![0; wanted.min(room) as usize];
            file.seek(SeekFrom::Start(self.next.offset))?;
            file.read_exact(&mut text)?;
            if let Some(at) = text.iter().rposition(|byte| *byte == b'\n') {
                text.truncate(at + 1);
                return Ok(text);
            }
            if wanted >= room {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line without an end",
                ));
            }
            wanted *= 4;
        }
    }

    fn take(&mut self, lines: &[u8], rows: &mut Vec<Row>) {
        let run = self.reading.as_ref().map(|(_, _, run)| Arc::clone(run));
        let run = run.unwrap_or_else(|| "".into());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.next.offset += line.len() as u64;
            if !line.starts_with(HEAD) {
                rows.push(Row {
                    end: self.next,
                    run: Arc::clone(&run),
                    text: line[..line.len() - 1].to_vec(),
                    again: self.next <= self.sent,
                });
            }
        }
    }

    /// Everything before this place, so many more rows, has been confirmed.
    ///
    /// # Errors
    /// Where the progress cannot be written.
    pub fn confirm(&mut self, place: Place, rows: u64) -> io::Result<()> {
        if place <= self.confirmed {
            return Ok(());
        }
        let before = self.confirmed.segment;
        self.confirmed = place;
        let fewer = |waiting: u64| Some(waiting.saturating_sub(rows));
        let _always_some = self.waiting.rows.fetch_update(Relaxed, Relaxed, fewer);
        if place.segment > before {
            self.note(self.sent)?;
            self.clear()?;
        }
        Ok(())
    }

    /// Writes the progress down.
    ///
    /// # Errors
    /// Where it cannot be.
    pub fn save(&mut self) -> io::Result<()> {
        self.note(self.sent)
    }

    fn note(&mut self, sent: Place) -> io::Result<()> {
        self.sent = sent;
        let progress = Progress {
            confirmed: self.confirmed,
            sent,
        };
        let new = self.folder.join("sent.json.new");
        std::fs::write(&new, serde_json::to_vec(&progress)?)?;
        std::fs::rename(&new, self.folder.join(LEDGER))
    }

    /// Removes segments of which every row has been confirmed.
    fn clear(&mut self) -> io::Result<()> {
        for number in segments(&self.folder)? {
            if number < self.confirmed.segment {
                let path = path_of(&self.folder, number);
                let bytes = size(&path);
                std::fs::remove_file(path)?;
                self.waiting.bytes.fetch_sub(bytes, Relaxed);
            }
        }
        Ok(())
    }
}

/// The run in the head of a segment.
fn run_of(file: &mut File) -> io::Result<Arc<str>> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(1 << 20).read_to_end(&mut start)?;
    let line = start.split(|byte| *byte == b'\n').next();
    let head = line.and_then(|line| serde_json::from_slice::<Head>(line).ok());
    Ok(head.unwrap_or_default().run.into())
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
