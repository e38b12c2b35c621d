//! A message in the form in which dora's daemons pass it on, which is what recordings hold.

use aligned_vec::AVec;
use dora_message::common::Timestamped;
use dora_message::daemon_to_daemon::InterDaemonEvent;
use dora_node_api::arrow_utils::encode_arrow_ipc;
use dora_node_api::uuid::Uuid;
use dora_node_api::{DoraArray, Metadata};

use crate::{RecordError, Topic};

/// Alignment of the payload, as dora has it.
const ALIGNMENT: usize = 128;

/// The bytes of one message: its metadata unchanged, its data as an Arrow IPC stream.
///
/// # Errors
/// Where the data cannot be encoded.
pub fn event(topic: &Topic, metadata: Metadata, data: &DoraArray) -> Result<Vec<u8>, RecordError> {
    let fails = |error: &dyn std::fmt::Display| RecordError::Encode {
        topic: topic.to_string(),
        reason: error.to_string(),
    };
    let bytes = encode_arrow_ipc(data).map_err(|error| fails(&error))?;
    let timestamp = metadata.timestamp();
    let inner = InterDaemonEvent::Output {
        // Of no meaning in a recording: a replay is another dataflow.
        dataflow_id: Uuid::nil(),
        node_id: topic.node.clone(),
        output_id: topic.output.clone(),
        metadata,
        data: Some(AVec::from_slice(ALIGNMENT, &bytes)),
    };
    let event = Timestamped { inner, timestamp };
    event.serialize().map_err(|error| fails(&error))
}
