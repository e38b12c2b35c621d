//! What can be wrong with a message.

use crate::{InvalidStreamId, RleError};

/// A message that does not keep to its schema; the text names the field, what was expected and
/// what came.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// A metadata key is not there.
    #[error("metadata `{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A metadata value or a column is of another type.
    #[error("`{field}` should be {expected}, is {found}")]
    WrongType {
        /// The key or column.
        field: &'static str,
        /// The type it should have.
        expected: String,
        /// The type it has.
        found: String,
    },
    /// A column is not there.
    #[error("column `{column}` is missing")]
    MissingColumn {
        /// The column.
        column: &'static str,
    },
    /// A null where there may be none.
    #[error("`{column}` is null in row {row}")]
    Null {
        /// The column.
        column: &'static str,
        /// The row, from 0.
        row: usize,
    },
    /// A value outside its range.
    #[error("`{field}` should be {expected}, is {found}")]
    OutOfRange {
        /// The key or column.
        field: &'static str,
        /// What is accepted.
        expected: String,
        /// What came.
        found: String,
    },
    /// The stream id is not one.
    #[error(transparent)]
    StreamId(#[from] InvalidStreamId),
    /// A mask cannot be decoded.
    #[error("mask in row {row}: {source}")]
    Mask {
        /// The row, from 0.
        row: usize,
        /// What is wrong with it.
        source: RleError,
    },
    /// Pixels do not fill the image they describe.
    #[error("{width}x{height} {encoding} needs {expected} bytes, came {found}")]
    PixelCount {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The pixel encoding.
        encoding: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
}
