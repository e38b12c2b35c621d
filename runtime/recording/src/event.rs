//! A message in the form in which dora's daemons pass it on, which is what recordings hold.

use aligned_vec::AVec;
use dora_message::common::Timestamped;
use dora_message::daemon_to_daemon::InterDaemonEvent;
use dora_message::id::{DataId, NodeId};
use dora_node_api::arrow_utils::encode_arrow_ipc;
use dora_node_api::uuid::Uuid;
use dora_node_api::{DoraArray, Metadata, MetadataParameters, Parameter};

/// Alignment of the payload, as dora has it.
const ALIGNMENT: usize = 128;
/// The parameter that holds the checksum of a record.
pub const CHECKSUM: &str = "checksum";

/// Why a message cannot be put into dora's form.
#[derive(Debug, thiserror::Error)]
#[error("a message of {node}/{output} cannot be encoded: {reason}")]
pub struct EventError {
    /// The node.
    pub node: String,
    /// Its output.
    pub output: String,
    /// Why.
    pub reason: String,
}

/// The bytes of one message: its metadata, with the checksum added, and its data as an Arrow IPC
/// stream. `offset_nanos` is the time in the recording at which it will stand.
///
/// # Errors
/// Where the data cannot be encoded.
pub fn event(
    node: &NodeId,
    output: &DataId,
    mut metadata: Metadata,
    data: &DoraArray,
    offset_nanos: u64,
) -> Result<Vec<u8>, EventError> {
    let fails = |error: &dyn std::fmt::Display| EventError {
        node: node.to_string(),
        output: output.to_string(),
        reason: error.to_string(),
    };
    let payload = encode_arrow_ipc(data).map_err(|error| fails(&error))?;
    metadata.parameters.remove(CHECKSUM);
    let sum = checksum(
        (node.as_ref(), output.as_ref()),
        offset_nanos,
        &metadata.parameters,
        &payload,
    );
    let sum = sum.ok_or_else(|| fails(&"its metadata has no form"))?;
    let sum = Parameter::Integer(i64::from(sum));
    metadata.parameters.insert(CHECKSUM.into(), sum);
    let timestamp = metadata.timestamp();
    let inner = InterDaemonEvent::Output {
        // Of no meaning in a recording: a replay is another dataflow.
        dataflow_id: Uuid::nil(),
        node_id: node.clone(),
        output_id: output.clone(),
        metadata,
        data: Some(AVec::from_slice(ALIGNMENT, &payload)),
    };
    let event = Timestamped { inner, timestamp };
    event.serialize().map_err(|error| fails(&error))
}

/// CRC-32 (ISO 3309) of all that a replay uses of a record: node, output, time, parameters without the
/// checksum, payload. Dora's own time stamps are not under it.
pub(crate) fn checksum(
    (node, output): (&str, &str),
    offset_nanos: u64,
    parameters: &MetadataParameters,
    payload: &[u8],
) -> Option<u32> {
    let mut sum = crc32fast::Hasher::new();
    for name in [node, output] {
        sum.update(&(name.len() as u64).to_le_bytes());
        sum.update(name.as_bytes());
    }
    sum.update(&offset_nanos.to_le_bytes());
    let parameters = dora_message::encode(parameters).ok()?;
    sum.update(&(parameters.len() as u64).to_le_bytes());
    sum.update(&parameters);
    sum.update(payload);
    Some(sum.finalize())
}
