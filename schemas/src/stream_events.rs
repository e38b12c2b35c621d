//! `stream_events`: opened, stale, active, closing, closed, exhausted, error.
//!
//! The header's frame of `closed` is the number of frames in the epoch. `exhausted` speaks for the
//! whole source and travels without a header.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::DataType;

use crate::SchemaError;
use crate::columns::{Rows, field, fields, rows};

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamEventKind {
    /// Frames will come.
    Opened,
    /// No frames for a while.
    Stale,
    /// Frames again after `Stale`.
    Active,
    /// The last frames are on their way; will be closed once they are acknowledged.
    Closing,
    /// No more frames in this epoch.
    Closed,
    /// The source will open no more streams.
    Exhausted,
    /// Something is wrong with the stream; it may go on.
    Error,
}

impl StreamEventKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Opened,
        Self::Stale,
        Self::Active,
        Self::Closing,
        Self::Closed,
        Self::Exhausted,
        Self::Error,
    ];

    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Stale => "stale",
            Self::Active => "active",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Exhausted => "exhausted",
            Self::Error => "error",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// What happened.
    pub event: StreamEventKind,
    /// `opened`: JSON about the source; `error`, `closed`: why; may be empty.
    pub detail: String,
}

/// The Arrow type of the rows.
#[must_use]
pub fn data_type() -> DataType {
    DataType::Struct(
        vec![
            field("event", DataType::Utf8),
            field("detail", DataType::Utf8),
        ]
        .into(),
    )
}

/// Encodes events.
#[must_use]
pub fn encode(events: &[StreamEvent]) -> ArrayRef {
    let kinds = events.iter().map(|event| event.event.as_str());
    let details = events.iter().map(|event| event.detail.as_str());
    rows(
        fields(data_type()),
        vec![
            Arc::new(StringArray::from_iter_values(kinds)),
            Arc::new(StringArray::from_iter_values(details)),
        ],
        events.len(),
    )
}

/// Decodes events.
///
/// # Errors
/// Where a column is missing or wrong.
pub fn decode(array: &dyn Array) -> Result<Vec<StreamEvent>, SchemaError> {
    let rows = Rows::of(array)?;
    let accepted = "opened, stale, active, closing, closed, exhausted or error";
    let kinds = rows.words("event", accepted, StreamEventKind::parse)?;
    let details = rows.texts("detail")?;
    Ok(kinds
        .into_iter()
        .enumerate()
        .map(|(row, event)| StreamEvent {
            event,
            detail: details.value(row).to_string(),
        })
        .collect())
}
