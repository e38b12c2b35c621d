//! Between dora's messages and ours.

use std::fmt;

use dora_node_api::{DoraArray, MetadataParameters, Parameter};
use tracklens_schemas::arrow::array::{Array, ArrayRef, AsArray, types::UInt8Type};
use tracklens_schemas::{Header, Image, ImageInfo, Metadata, SchemaError, Value, keys};

/// One message of a stream, as it came in.
///
/// The array may lie in the sender's shared memory: copy out what must live on, and let go of the
/// message before the call returns.
#[derive(Debug)]
pub struct Message {
    /// Whose message it is: stream, epoch, frame, times.
    pub header: Header,
    /// All metadata.
    pub metadata: Metadata,
    /// The payload.
    pub array: ArrayRef,
}

impl Message {
    /// The payload of a bytes message.
    ///
    /// # Errors
    /// Where the payload is not a `UInt8Array` without nulls.
    pub fn bytes(&self) -> Result<&[u8], BadMessage> {
        let array = self.array.as_primitive_opt::<UInt8Type>().ok_or_else(|| {
            BadMessage::new(
                "wrong_type",
                format!("expected UInt8 bytes, came {}", self.array.data_type()),
            )
        })?;
        if array.null_count() > 0 {
            return Err(BadMessage::new("nulls", "bytes with nulls in them".into()));
        }
        Ok(array.values())
    }

    /// The payload of a frame message, its length checked against its description.
    ///
    /// # Errors
    /// Where the metadata or the length is wrong.
    pub fn image(&self) -> Result<Image<'_>, BadMessage> {
        let info = ImageInfo::read(&self.metadata)?;
        Ok(Image::new(info, self.bytes()?)?)
    }
}

/// A message that cannot be used: it is counted and logged, and the node goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMessage {
    /// A short label for the metric (a few different ones at most).
    pub reason: &'static str,
    /// What was expected and what came.
    pub detail: String,
}

impl BadMessage {
    /// A bad message, for one of a few reasons.
    #[must_use]
    pub fn new(reason: &'static str, detail: String) -> Self {
        Self { reason, detail }
    }
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<SchemaError> for BadMessage {
    fn from(error: SchemaError) -> Self {
        Self::new("schema", error.to_string())
    }
}

/// Our view of dora's metadata; parameters of kinds we do not use are left out.
#[must_use]
pub fn from_dora(parameters: &MetadataParameters) -> Metadata {
    let mut metadata = Metadata::default();
    for (key, parameter) in parameters {
        let value = match parameter {
            Parameter::Bool(value) => Value::Bool(*value),
            Parameter::Integer(value) => Value::Int(*value),
            Parameter::Float(value) => Value::Float(*value),
            Parameter::String(value) => Value::Text(value.clone()),
            _ => continue,
        };
        metadata.insert(key, value);
    }
    metadata
}

/// Dora's parameters for our metadata.
#[must_use]
pub fn to_dora(metadata: &Metadata) -> MetadataParameters {
    metadata
        .iter()
        .map(|(key, value)| {
            let parameter = match value {
                Value::Bool(value) => Parameter::Bool(*value),
                Value::Int(value) => Parameter::Integer(*value),
                Value::Float(value) => Parameter::Float(*value),
                Value::Text(value) => Parameter::String(value.clone()),
            };
            (key.to_string(), parameter)
        })
        .collect()
}

/// What a message is of, and whether its sender keeps nothing before it; `None` where it has no header
/// of ours.
#[must_use]
pub fn header_of(parameters: &MetadataParameters) -> Option<(Header, bool)> {
    let metadata = from_dora(parameters);
    let header = Header::read(&metadata).ok()?;
    Some((header, metadata.bool(keys::START).unwrap_or(false)))
}

/// The Arrow array inside dora's.
pub(crate) fn array(data: DoraArray) -> ArrayRef {
    data.into_inner()
}
