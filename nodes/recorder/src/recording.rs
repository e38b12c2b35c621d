//! The recording: a file that is whole after every record, and the account of what is not in it.
//!
//! A record is written with one call. One that does not fit on the disk is taken back, so that what was
//! good stays good and the next record, for which there may be room, follows it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dora_node_api::uuid::Uuid;
use dora_recording::{FORMAT_VERSION, RecordEntry, RecordingHeader, RecordingWriter};

use crate::{RecordError, Topic};

/// Why a message is not in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// It came faster than it could be written, and dora's queue was full.
    Dropped,
    /// It is larger than a record may be (64 MiB).
    TooLarge,
    /// The disk did not take it.
    Disk,
    /// It could not be encoded.
    Unreadable,
    /// Its frame's number is missing among those that came.
    Undelivered,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped by a full queue (raise `dora record --queue-size`)",
            Self::TooLarge => "larger than a record may be (64 MiB)",
            Self::Disk => "not taken by the disk",
            Self::Unreadable => "not to be encoded",
            Self::Undelivered => {
                "not delivered (dropped before, in a live graph; else lost by dora)"
            }
        })
    }
}

/// What a recording holds and what it lacks, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages in the file.
    pub recorded: BTreeMap<String, u64>,
    /// Messages that are not.
    pub lost: BTreeMap<(String, Loss), u64>,
}

impl Report {
    /// Whether the recording holds every message.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty()
    }

    /// A sentence for each number.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let recorded = self.recorded.iter();
        let recorded = recorded.map(|(topic, count)| format!("{topic}: {count} recorded"));
        let lost = self.lost.iter();
        recorded.chain(lost.map(|((topic, loss), count)| format!("{topic}: {count} {loss}")))
    }
}

/// A place to write to, of which the end can be taken back.
pub trait Disk: Write {
    /// Cuts everything behind this many bytes.
    ///
    /// # Errors
    /// Where that cannot be done.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Disk for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(drop)
    }
}

/// Collects a record, and writes it when it is flushed: all of it or nothing.
struct Whole<D> {
    disk: D,
    record: Vec<u8>,
    length: u64,
}

impl<D: Disk> Write for Whole<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.disk.write_all(&self.record);
        let length = self.record.len() as u64;
        self.record.clear();
        match written {
            Ok(()) => self.length += length,
            // Where this fails too, a reader stops at the torn record.
            Err(_) => self.disk.cut(self.length)?,
        }
        written
    }
}

/// A recording under way.
pub struct Recording<D: Disk> {
    path: PathBuf,
    writer: RecordingWriter<Whole<D>>,
    start_nanos: u64,
    report: Report,
}

impl Recording<File> {
    /// Makes the file, in the place of one that is there. `start_nanos` is now, since 1970.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(
        path: &Path,
        descriptor: &str,
        dataflow: Uuid,
        start_nanos: u64,
    ) -> Result<Self, RecordError> {
        let file = File::create(path).map_err(|source| RecordError::Create {
            path: path.into(),
            source,
        })?;
        Self::new(file, path, descriptor, dataflow, start_nanos)
    }
}

impl<D: Disk> Recording<D> {
    fn new(
        disk: D,
        path: &Path,
        descriptor: &str,
        dataflow: Uuid,
        start_nanos: u64,
    ) -> Result<Self, RecordError> {
        let header = RecordingHeader {
            version: FORMAT_VERSION,
            start_nanos,
            dataflow_id: dataflow,
            descriptor_yaml: descriptor.as_bytes().to_vec(),
        };
        let disk = Whole {
            disk,
            record: Vec::new(),
            length: 0,
        };
        let fails = |error| RecordError::write(path, error);
        let mut writer = RecordingWriter::new(disk, &header).map_err(fails)?;
        writer.flush().map_err(fails)?;
        Ok(Self {
            path: path.into(),
            writer,
            start_nanos,
            report: Report::default(),
        })
    }

    /// The time in the recording of what comes now, in nanoseconds since 1970.
    #[must_use]
    pub fn offset(&self, now: u64) -> u64 {
        now.saturating_sub(self.start_nanos)
    }

    /// Appends a message, with its time in the recording.
    ///
    /// # Errors
    /// Where the disk does not take it; it is counted, and the next may be tried.
    pub fn append(
        &mut self,
        topic: &Topic,
        event_bytes: Vec<u8>,
        offset: u64,
    ) -> Result<(), RecordError> {
        let entry = RecordEntry {
            node_id: topic.node.to_string(),
            output_id: topic.output.to_string(),
            timestamp_offset_nanos: offset,
            event_bytes,
        };
        let written = match self.writer.write_entry_skip_oversized(&entry) {
            Ok(Some(_)) => {
                self.lost(&topic.to_string(), Loss::TooLarge, 1);
                return Ok(());
            }
            Ok(None) => self.writer.flush(),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                *self.report.recorded.entry(topic.to_string()).or_default() += 1;
                Ok(())
            }
            Err(error) => {
                self.lost(&topic.to_string(), Loss::Disk, 1);
                // The cause is the system's own word; the outer text says no more than "flush failed".
                Err(RecordError::write(&self.path, error.root_cause()))
            }
        }
    }

    /// Counts messages of a topic that will not be in the recording.
    pub fn lost(&mut self, topic: &str, loss: Loss, count: u64) {
        *self.report.lost.entry((topic.into(), loss)).or_default() += count;
    }

    /// Ends the file. The format's footer has the number of records, so a recording from which the disk
    /// kept some has none: readers do without.
    ///
    /// The error says why the end could not be written; the records are kept.
    #[must_use]
    pub fn finish(self) -> (Report, Option<RecordError>) {
        let by_disk = |(_, loss): &(String, Loss)| *loss == Loss::Disk;
        if self.report.lost.keys().any(by_disk) {
            return (self.report, None);
        }
        let ended = self.writer.finish();
        let error = ended
            .err()
            .map(|e| RecordError::write(&self.path, e.root_cause()));
        (self.report, error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dora_recording::RecordingReader;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A disk with this much room, of which more may be had later.
    #[derive(Clone, Default)]
    struct Small(Rc<RefCell<(Vec<u8>, usize)>>);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (data, room) = &mut *self.0.borrow_mut();
            let fits = bytes.len().min(*room - data.len());
            if fits == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            data.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Small {
        fn cut(&mut self, length: u64) -> io::Result<()> {
            self.0.borrow_mut().0.truncate(length as usize);
            Ok(())
        }
    }

    fn topic() -> Topic {
        Topic {
            node: "tracker".parse().unwrap(),
            output: "tracks".parse().unwrap(),
        }
    }

    /// The payloads in a recording.
    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut reader = RecordingReader::open(bytes).unwrap();
        let mut events = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            assert_eq!((&*entry.node_id, &*entry.output_id), ("tracker", "tracks"));
            events.push(entry.event_bytes);
        }
        events
    }

    fn name(loss: Loss) -> (String, Loss) {
        ("tracker/tracks".into(), loss)
    }

    #[test]
    fn what_is_appended_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.drec");
        let mut recording = Recording::create(&path, "nodes: []", Uuid::nil(), 1000).unwrap();
        for number in 0..3_u8 {
            let offset = recording.offset(1500);
            recording.append(&topic(), vec![number; 3], offset).unwrap();
            // Whole after every record: a kill loses none of them.
            assert_eq!(
                read(&std::fs::read(&path).unwrap()).len(),
                usize::from(number) + 1
            );
        }
        let (report, error) = recording.finish();
        assert!(error.is_none() && report.is_complete());
        assert_eq!(report.recorded["tracker/tracks"], 3);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(read(&bytes), [[0; 3], [1; 3], [2; 3]]);
        let mut reader = RecordingReader::open(&bytes[..]).unwrap();
        assert_eq!(reader.header().descriptor_yaml, b"nodes: []");
        assert_eq!(
            reader.next_entry().unwrap().unwrap().timestamp_offset_nanos,
            500
        );
    }

    #[test]
    fn a_full_disk_keeps_what_was_good_and_goes_on_when_there_is_room() {
        let disk = Small::default();
        disk.0.borrow_mut().1 = 300;
        let path = Path::new("a.drec");
        let mut recording = Recording::new(disk.clone(), path, "", Uuid::nil(), 0).unwrap();
        recording.append(&topic(), vec![1; 100], 0).unwrap();
        let error = recording.append(&topic(), vec![2; 200], 0).unwrap_err();
        assert!(error.to_string().contains("a.drec"), "{error}");
        assert_eq!(read(&disk.0.borrow().0), [vec![1; 100]]);
        disk.0.borrow_mut().1 = 600;
        recording.append(&topic(), vec![3; 9], 0).unwrap();
        let (report, error) = recording.finish();
        assert!(error.is_none());
        assert_eq!(report.recorded["tracker/tracks"], 2);
        assert_eq!(report.lost, BTreeMap::from([(name(Loss::Disk), 1)]));
        assert_eq!(read(&disk.0.borrow().0), [vec![1; 100], vec![3; 9]]);
    }

    #[test]
    fn what_is_too_large_or_dropped_is_counted_and_named() {
        let disk = Small::default();
        disk.0.borrow_mut().1 = 1000;
        let path = Path::new("a.drec");
        let mut recording = Recording::new(disk.clone(), path, "", Uuid::nil(), 0).unwrap();
        recording.append(&topic(), vec![0; 65 << 20], 0).unwrap();
        recording.append(&topic(), vec![1], 0).unwrap();
        recording.lost("tracker/tracks", Loss::Dropped, 4);
        let (report, _) = recording.finish();
        let told: Vec<String> = report.sentences().collect();
        assert_eq!(
            told,
            [
                "tracker/tracks: 1 recorded",
                "tracker/tracks: 4 dropped by a full queue (raise `dora record --queue-size`)",
                "tracker/tracks: 1 larger than a record may be (64 MiB)",
            ]
        );
        assert_eq!(read(&disk.0.borrow().0), [vec![1]]);
    }
}
