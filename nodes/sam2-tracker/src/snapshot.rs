//! The state of all streams on disk, so that a tracker that was killed goes on where it was.
//!
//! A file is: eight bytes of name and version, the SHA-256 of the rest, the length of a JSON
//! description, the description, then the numbers of all memories in its order, little-endian f32.
//! It is written beside and renamed, so there is always a whole one. What is read is checked before
//! it is believed.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracklens_schemas::{BBox, Epoch, StreamId, TrackId};

use crate::object::Object;
use crate::recognition::Departed;
use crate::stream::StreamState;
use tracklens_sam2::appearance::Appearance;
use tracklens_sam2::memory_bank::{Memory, MemoryBank};
use tracklens_sam2::model_folder::ModelConfig;

const MAGIC: &[u8; 8] = b"TLSAM2\x00\x02";
/// Bytes of a SHA-256.
const DIGEST: usize = 32;
/// Numbers that are written at a time.
const PIECE: usize = 16 << 10;
/// The file in the folder.
const FILE: &str = "sam2-tracker.snapshot";
/// Ids that may have been given since the last snapshot.
const UNSEEN_IDS: u32 = 1024;
/// Largest description that is believed.
const MAX_DESCRIPTION: usize = 64 << 20;

/// Why a snapshot cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system says no.
    #[error("the snapshot {path:?} cannot be {verb}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// Read or written.
        verb: &'static str,
        /// What the system says.
        reason: String,
    },
    /// It is no snapshot, or none any more.
    #[error("the snapshot {path:?} is not used: {reason}; tracking starts afresh")]
    Broken {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The state of all streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The run that it is of.
    pub run: String,
    /// The model whose memories these are.
    pub model: String,
    /// Whether it is the last of its run, so that no id was given after it.
    pub last: bool,
    /// The streams.
    pub streams: Vec<StreamSnapshot>,
}

/// The state of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamSnapshot {
    /// The stream.
    pub stream: StreamId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Frames worked on.
    pub step: u64,
    /// The next id.
    pub next_id: u32,
    /// Its objects.
    pub objects: Vec<Object>,
    /// Objects that were given up, and are known when they come back.
    pub departed: Vec<Departed>,
}

#[derive(Serialize, Deserialize)]
struct Description {
    run: String,
    model: String,
    last: bool,
    streams: Vec<StreamEntry>,
}

#[derive(Serialize, Deserialize)]
struct StreamEntry {
    stream: StreamId,
    epoch: Epoch,
    step: u64,
    next_id: u32,
    objects: Vec<ObjectEntry>,
    departed: Vec<Departed>,
}

#[derive(Serialize, Deserialize)]
struct ObjectEntry {
    id: TrackId,
    age: u32,
    missed: u32,
    published: bool,
    appearance: Option<Appearance>,
    placed: bool,
    proven: bool,
    bbox: BBox,
    velocity: [f32; 2],
    usual_area: f32,
    doubled: u32,
    conditioning: Vec<MemoryEntry>,
    recent: Vec<MemoryEntry>,
}

#[derive(Serialize, Deserialize)]
struct MemoryEntry {
    step: u64,
    /// Numbers of its memory and of its pointer.
    sizes: [usize; 2],
    sure: bool,
}

/// What names a model's memories: they mean nothing to another.
#[must_use]
pub fn fingerprint(config: &ModelConfig) -> String {
    format!(
        "{} {}",
        config.model.name, config.modules.memory_encoder.sha256
    )
}

impl StreamSnapshot {
    /// The state of a stream now. Memories are shared, not copied.
    #[must_use]
    pub fn of<F>(stream: &StreamId, state: &StreamState<F>) -> Self {
        Self {
            stream: stream.clone(),
            epoch: state.epoch,
            step: state.step,
            next_id: state.next_id,
            objects: state.objects.clone(),
            departed: state.departed.clone(),
        }
    }

    /// The state of the stream in run `run` with model `model`: all of it in the same run, otherwise
    /// the ids alone, which are never used again.
    #[must_use]
    pub fn restore<F>(&self, snapshot: &Snapshot, run: &str, model: &str) -> StreamState<F> {
        let unseen = if snapshot.last { 0 } else { UNSEEN_IDS };
        let next_id = self.next_id.saturating_add(unseen);
        let mut state = StreamState::new(self.epoch, next_id);
        if snapshot.run == run && snapshot.model == model {
            state.step = self.step;
            state.objects.clone_from(&self.objects);
            state.departed.clone_from(&self.departed);
        }
        state
    }
}

impl Snapshot {
    /// Writes the snapshot into a folder, which is made where missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, folder: &Path) -> Result<(), SnapshotError> {
        let path = folder.join(FILE);
        let beside = folder.join(format!("{FILE}.part"));
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::File::create(&beside))
            .and_then(|mut file| self.write_to(&mut file).and_then(|()| file.sync_data()))
            .and_then(|()| std::fs::rename(&beside, &path));
        written.map_err(|error| SnapshotError::Io {
            path: path.display().to_string(),
            verb: "written",
            reason: error.to_string(),
        })
    }

    /// Reads a folder's snapshot; `None` where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be read or believed.
    pub fn read(folder: &Path) -> Result<Option<Self>, SnapshotError> {
        let path = folder.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(SnapshotError::Io {
                    path: path.display().to_string(),
                    verb: "read",
                    reason: error.to_string(),
                });
            }
        };
        let snapshot = Self::from_bytes(&bytes).map_err(|reason| SnapshotError::Broken {
            path: path.display().to_string(),
            reason,
        });
        snapshot.map(Some)
    }

    /// Writes piece by piece, so that memories are not all there twice.
    fn write_to(&self, out: &mut (impl Write + Seek)) -> std::io::Result<()> {
        let mut numbers: Vec<&[f32]> = Vec::new();
        let streams = self.streams.iter().map(|stream| StreamEntry {
            stream: stream.stream.clone(),
            epoch: stream.epoch,
            step: stream.step,
            next_id: stream.next_id,
            objects: stream
                .objects
                .iter()
                .map(|o| describe(o, &mut numbers))
                .collect(),
            departed: stream.departed.clone(),
        });
        let description = Description {
            streams: streams.collect(),
            run: self.run.clone(),
            model: self.model.clone(),
            last: self.last,
        };
        // Plain data: turning it into text does not fail.
        let text = serde_json::to_vec(&description).unwrap_or_default();
        let mut digest = Sha256::new();
        let mut write = |out: &mut dyn Write, bytes: &[u8]| {
            digest.update(bytes);
            out.write_all(bytes)
        };
        out.write_all(MAGIC)?;
        out.write_all(&[0; DIGEST])?;
        write(out, &(text.len() as u64).to_le_bytes())?;
        write(out, &text)?;
        let mut piece = Vec::with_capacity(4 * PIECE);
        for numbers in numbers.iter().flat_map(|part| part.chunks(PIECE)) {
            piece.clear();
            piece.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            write(out, &piece)?;
        }
        out.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        out.write_all(&digest.finalize())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let cut = || "it is cut off".to_owned();
        let (magic, bytes) = bytes.split_at_checked(MAGIC.len()).ok_or_else(cut)?;
        if magic[..6] != MAGIC[..6] {
            return Err("it is no snapshot of this node".into());
        }
        if magic != MAGIC {
            return Err(format!(
                "its version is {}, expected {}",
                magic[7], MAGIC[7]
            ));
        }
        let (checksum, rest) = bytes.split_at_checked(DIGEST).ok_or_else(cut)?;
        if Sha256::digest(rest).as_slice() != checksum {
            return Err("its checksum is wrong".into());
        }
        let (length, rest) = rest.split_at_checked(8).ok_or_else(cut)?;
        let length = length
            .iter()
            .rev()
            .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let length = usize::try_from(length).map_err(|_| cut())?;
        if length > MAX_DESCRIPTION {
            return Err("its description is too long".into());
        }
        let (text, numbers) = rest.split_at_checked(length).ok_or_else(cut)?;
        let description: Description =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut numbers = numbers;
        let mut streams = Vec::with_capacity(description.streams.len());
        for stream in description.streams {
            let mut objects = Vec::with_capacity(stream.objects.len());
            for object in stream.objects {
                objects.push(object.restore(&mut numbers).ok_or_else(cut)?);
            }
            streams.push(StreamSnapshot {
                stream: stream.stream,
                epoch: stream.epoch,
                step: stream.step,
                next_id: stream.next_id,
                objects,
                departed: stream.departed,
            });
        }
        if !numbers.is_empty() {
            return Err("numbers are left over".into());
        }
        Ok(Self {
            run: description.run,
            model: description.model,
            last: description.last,
            streams,
        })
    }
}

fn describe<'a>(object: &'a Object, numbers: &mut Vec<&'a [f32]>) -> ObjectEntry {
    let mut entry = |memory: &'a Memory| {
        let tensor = memory.tensor.as_deref().unwrap_or_default();
        numbers.extend([tensor, &*memory.pointer]);
        MemoryEntry {
            step: memory.step,
            sizes: [tensor.len(), memory.pointer.len()],
            sure: memory.sure,
        }
    };
    ObjectEntry {
        id: object.id,
        age: object.age,
        missed: object.missed,
        published: object.published,
        appearance: object.appearance.clone(),
        placed: object.placed,
        proven: object.proven,
        bbox: object.bbox,
        velocity: object.velocity,
        usual_area: object.usual_area,
        doubled: object.doubled,
        conditioning: object.bank.conditioning().iter().map(&mut entry).collect(),
        recent: object.bank.recent().map(&mut entry).collect(),
    }
}

impl ObjectEntry {
    fn restore(self, numbers: &mut &[u8]) -> Option<Object> {
        let mut memories = |entries: Vec<MemoryEntry>| -> Option<Vec<Memory>> {
            let entries = entries.into_iter();
            entries.map(|entry| entry.restore(numbers)).collect()
        };
        let conditioning = memories(self.conditioning)?;
        let recent = memories(self.recent)?;
        Some(Object {
            id: self.id,
            rivals: Vec::new(),
            bank: MemoryBank::from_parts(conditioning, recent),
            age: self.age,
            missed: self.missed,
            published: self.published,
            appearance: self.appearance,
            placed: self.placed,
            proven: self.proven,
            bbox: self.bbox,
            velocity: self.velocity,
            usual_area: self.usual_area,
            doubled: self.doubled,
        })
    }
}

impl MemoryEntry {
    fn restore(self, numbers: &mut &[u8]) -> Option<Memory> {
        let mut take = |count: usize| -> Option<Arc<[f32]>> {
            let (head, rest) = numbers.split_at_checked(count.checked_mul(4)?)?;
            *numbers = rest;
            let floats = head.chunks_exact(4);
            Some(
                floats
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect(),
            )
        };
        let [tensor, pointer] = self.sizes;
        let tensor = take(tensor)?;
        Some(Memory {
            step: self.step,
            tensor: (!tensor.is_empty()).then_some(tensor),
            pointer: take(pointer)?,
            sure: self.sure,
        })
    }
}

/// Writes snapshots on a thread of its own: one at a time, and none while one is being written.
#[derive(Debug)]
pub struct SnapshotWriter {
    sender: Option<std::sync::mpsc::SyncSender<Snapshot>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl SnapshotWriter {
    /// A writer into a folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Snapshot>(1);
        let thread = std::thread::spawn(move || {
            let mut failing = false;
            for snapshot in receiver {
                match snapshot.write(&folder) {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(%error, "no snapshot; tracking goes on");
                    }
                    Err(_) => {}
                }
            }
        });
        Self {
            sender: Some(sender),
            thread: Some(thread),
        }
    }

    /// Hands over a snapshot, unless the last one is still being written.
    pub fn offer(&self, snapshot: Snapshot) {
        if let Some(sender) = &self.sender {
            // Full: the next one will do.
            let _full = sender.try_send(snapshot);
        }
    }

    /// Writes the last snapshot and ends.
    pub fn finish(&mut self, snapshot: Snapshot) {
        if let Some(sender) = self.sender.take() {
            let _gone = sender.send(snapshot);
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;
    use tracklens_sam2::appearance::Scene;
    use tracklens_sam2::model_folder::MemoryRules;

    fn snapshot() -> Snapshot {
        let rules = MemoryRules {
            frames: 3,
            conditioning_frames: 2,
            temporal_stride: 1,
            pointers: 6,
            least_iou: None,
        };
        let memory = |step: u64| Memory {
            step,
            tensor: Some(vec![step as f32, -1.5].into()),
            pointer: vec![0.25 * step as f32].into(),
            sure: true,
        };
        let mut bank = MemoryBank::default();
        bank.condition(memory(3), &rules);
        for step in 4..9 {
            bank.push(memory(step), &rules);
        }
        let mut object = Object::new(TrackId(7), bank);
        object.age = 5;
        object.bbox = BBox::new(1.0, 2.0, 3.0, 4.5);
        let scene = Scene::new(&[0.5, 0.1, 2.0, 0.3], [2, 1, 2]);
        object.appearance = scene.appearance(&[1.0, -1.0], [1, 2]);
        let departed = Departed::of(&object, 9).unwrap();
        Snapshot {
            run: "run".into(),
            model: "nano 00".into(),
            last: false,
            streams: vec![StreamSnapshot {
                stream: "cam".parse().unwrap(),
                epoch: Epoch(2),
                step: 9,
                next_id: 8,
                objects: vec![object],
                departed: vec![departed],
            }],
        }
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made");
        assert_eq!(Snapshot::read(&inner).unwrap(), None);
        let mut writer = SnapshotWriter::new(inner.clone());
        writer.finish(snapshot());
        assert_eq!(Snapshot::read(&inner).unwrap(), Some(snapshot()));
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn the_same_run_goes_on_and_another_keeps_only_the_ids() {
        let snapshot = snapshot();
        let stream = &snapshot.streams[0];
        let state: StreamState<()> = stream.restore(&snapshot, "run", "nano 00");
        assert_eq!((state.objects.len(), state.step), (1, 9));
        assert_eq!(state.next_id, 8 + UNSEEN_IDS);
        for (run, model) in [("other", "nano 00"), ("run", "tiny 11")] {
            let state: StreamState<()> = stream.restore(&snapshot, run, model);
            assert_eq!((state.objects.len(), state.step), (0, 0));
            assert_eq!(state.next_id, 8 + UNSEEN_IDS);
        }
    }

    #[test]
    fn damage_is_named() {
        let mut whole = Cursor::new(Vec::new());
        snapshot().write_to(&mut whole).unwrap();
        let whole = whole.into_inner();
        for length in 0..whole.len() {
            assert!(Snapshot::from_bytes(&whole[..length]).is_err());
        }
        for (place, word) in [
            (0, "no snapshot"),
            (7, "version"),
            (20, "checksum"),
            (60, "checksum"),
        ] {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            let reason = Snapshot::from_bytes(&bytes).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
