//! Reading a recording: as far as it is good.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use dora_message::common::Timestamped;
use dora_message::daemon_to_daemon::InterDaemonEvent;
use dora_node_api::arrow_utils::decode_arrow_ipc;
use dora_node_api::{DoraArray, MetadataParameters, Parameter};
use dora_recording::{RecordEntry, RecordingReader};

use crate::event::{CHECKSUM, checksum};

/// What stands before the graph in the header: magic, version, start, dataflow, length.
const HEADER: u64 = 8 + 2 + 8 + 16 + 4;
const FOOTER_MAGIC: &[u8] = b"DORAEND\0";
const FOOTER: u64 = 8 + 8 + 8;
/// The length that stands before every record.
const PREFIX: u64 = 4;

/// Why a recording cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct ReadError {
    /// The recording.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A record that is not what was written: all before it is good, all after it unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name}: record {record} at byte {position}: {reason}; the {record} records before it are good"
)]
pub struct Fault {
    /// The recording.
    pub name: String,
    /// Where the record begins.
    pub position: u64,
    /// Its number, from 0.
    pub record: u64,
    /// What is wrong.
    pub reason: String,
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a footer that agrees.
    Whole,
    /// Without: the recorder was killed, or the file was cut.
    Cut {
        /// Where the last good record ends.
        position: u64,
        /// What is there.
        reason: String,
    },
}

impl End {
    /// Why there is no more, where there should be.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Cut { position, reason } => Some(format!("at byte {position}: {reason}")),
        }
    }
}

/// One message.
#[derive(Clone, Debug)]
pub struct Record {
    /// The node that sent it.
    pub node: String,
    /// The output it was sent on.
    pub output: String,
    /// When it came, from the beginning of the recording.
    pub offset: Duration,
    /// Its metadata.
    pub parameters: MetadataParameters,
    /// Its data, as an Arrow IPC stream; empty where it had none.
    pub payload: Vec<u8>,
    /// Where the record begins.
    pub position: u64,
    /// Its bytes in the file.
    pub size: u64,
    /// Whether it had a checksum, which then agreed.
    pub verified: bool,
}

impl Record {
    /// The data.
    ///
    /// # Errors
    /// Where it is no Arrow.
    pub fn data(&self) -> Result<DoraArray, Fault> {
        if self.payload.is_empty() {
            return Ok(DoraArray::from_array(
                dora_node_api::arrow_v59::array::NullArray::new(0),
            ));
        }
        decode_arrow_ipc(&self.payload).map_err(|error| Fault {
            name: format!("{}/{}", self.node, self.output),
            position: self.position,
            record: 0,
            reason: format!("its data is no Arrow stream: {error}"),
        })
    }
}

/// A recording that is being read.
#[derive(Debug)]
pub struct Reader<R: Read> {
    name: String,
    reader: RecordingReader<R>,
    descriptor: String,
    /// Bytes in the file.
    length: u64,
    /// The counts of the footer, where there is one: records and their bytes.
    footer: Option<(u64, u64)>,
    /// Where the next record begins.
    position: u64,
    start: u64,
    records: u64,
    /// Whether the records have checksums.
    sealed: Option<bool>,
    end: Option<End>,
    fault: Option<Fault>,
}

impl Reader<File> {
    /// Opens a recording.
    ///
    /// # Errors
    /// Where there is none, or it is of another kind or version.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(file, name),
            Err(error) => Err(ReadError {
                name,
                reason: format!("cannot be opened: {error}"),
            }),
        }
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads a recording from its beginning; `name` stands in messages.
    ///
    /// # Errors
    /// Where it is of another kind or version.
    pub fn new(mut source: R, name: impl Into<String>) -> Result<Self, ReadError> {
        let name = name.into();
        let fails = |reason: String| ReadError {
            name: name.clone(),
            reason,
        };
        let ends = look_at_end(&mut source);
        let (length, footer) = ends.map_err(|error| fails(format!("cannot be read: {error}")))?;
        let reader = RecordingReader::open(source)
            .map_err(|error| fails(format!("no recording that can be read: {error:#}")))?;
        let yaml = &reader.header().descriptor_yaml;
        let start = HEADER + yaml.len() as u64;
        let descriptor = String::from_utf8_lossy(yaml).into_owned();
        Ok(Self {
            name,
            reader,
            descriptor,
            length,
            footer,
            position: start,
            start,
            records: 0,
            sealed: None,
            end: None,
            fault: None,
        })
    }
}

/// The length of a recording, and the counts in its footer, if it has one; then back to the beginning.
fn look_at_end(source: &mut (impl Read + Seek)) -> std::io::Result<(u64, Option<(u64, u64)>)> {
    let length = source.seek(SeekFrom::End(0))?;
    let mut footer = None;
    if length >= FOOTER {
        source.seek(SeekFrom::Start(length - FOOTER))?;
        let mut last = [0; FOOTER as usize];
        source.read_exact(&mut last)?;
        let (magic, counts) = last.split_at(FOOTER_MAGIC.len());
        let (records, bytes) = counts.split_at(size_of::<u64>());
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        footer = (magic == FOOTER_MAGIC).then(|| (number(records), number(bytes)));
    }
    source.rewind()?;
    Ok((length, footer))
}

impl<R: Read> Reader<R> {
    /// The graph that was recorded, as YAML.
    #[must_use]
    pub fn descriptor(&self) -> &str {
        &self.descriptor
    }

    /// When the recording began, in nanoseconds since 1970.
    #[must_use]
    pub fn start_nanos(&self) -> u64 {
        self.reader.header().start_nanos
    }

    /// Bytes in the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next record; `None` at the end, of which [`Self::end`] then tells.
    ///
    /// # Errors
    /// Where the next record is not what was written: the recording ends there.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.end.is_some() {
            return Ok(None);
        }
        let record = match self.reader.next_entry() {
            Ok(Some(entry)) => record(entry, self.position).and_then(|record| {
                // A recorder gives all records a checksum, or none.
                match *self.sealed.get_or_insert(record.verified) == record.verified {
                    true => Ok(Some(record)),
                    false => Err("only some records have checksums: the file was damaged".into()),
                }
            }),
            Ok(None) => Ok(None),
            Err(error) => Err(format!("damaged: {error:#}")),
        };
        match record {
            Ok(Some(record)) => {
                self.position += record.size;
                self.records += 1;
                Ok(Some(record))
            }
            Ok(None) => {
                self.end = Some(self.how_it_ends());
                Ok(None)
            }
            Err(reason) => {
                let fault = Fault {
                    name: self.name.clone(),
                    position: self.position,
                    record: self.records,
                    reason,
                };
                self.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// How the recording ends, once it has been read.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    fn how_it_ends(&self) -> End {
        let position = self.position;
        let rest = self.length.saturating_sub(position);
        let read = (self.records, position - self.start);
        let reason = match self.footer {
            Some(footer) if rest == FOOTER && footer == read => return End::Whole,
            Some(footer) if rest == FOOTER => format!(
                "the footer counts {} records, {} were read: the file was damaged",
                footer.0, read.0
            ),
            _ if rest == 0 => {
                "no footer: the recorder was killed, the disk was full, or the file was cut".into()
            }
            _ => format!(
                "the last {rest} bytes are no whole record: the recorder was killed, or the file was \
                 cut or damaged"
            ),
        };
        End::Cut { position, reason }
    }
}

/// The message in an entry, its checksum compared.
fn record(entry: RecordEntry, position: u64) -> Result<Record, String> {
    let size = PREFIX + entry.encoded_len() as u64;
    let event = Timestamped::deserialize_inter_daemon_event(&entry.event_bytes);
    let event = event.map_err(|error| format!("no message of this dora: {error:#}"))?;
    let InterDaemonEvent::Output { metadata, data, .. } = event.inner else {
        return Err("no message of an output".into());
    };
    let mut parameters = metadata.parameters;
    let payload = data.map(|data| data.to_vec()).unwrap_or_default();
    let sum = parameters.remove(CHECKSUM);
    if let Some(sum) = &sum {
        let name = (entry.node_id.as_str(), entry.output_id.as_str());
        let own = checksum(name, entry.timestamp_offset_nanos, &parameters, &payload);
        if own.map(|own| Parameter::Integer(own.into())).as_ref() != Some(sum) {
            return Err("its checksum does not agree: the file was damaged".into());
        }
    }
    Ok(Record {
        node: entry.node_id,
        output: entry.output_id,
        offset: Duration::from_nanos(entry.timestamp_offset_nanos),
        parameters,
        payload,
        position,
        size,
        verified: sum.is_some(),
    })
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
