//! `credit`: what a receiver has consumed, and how much more it takes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, UInt32Type};

use crate::columns::{no_nulls, wrong_type};
use crate::{FrameId, Header, Metadata, SchemaError, Shard, Value, keys};

/// One credit message.
///
/// With a frame: every frame of that stream and epoch up to and including it is consumed. Without
/// (`hello`): the receiver has just started, or has missed something, and asks for everything that
/// it has not acknowledged, and for the last word on every stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// How many frames may be on their way to the receiver, over all streams.
    pub window: u32,
    /// The last frame consumed of a stream; `None` is `hello`.
    pub consumed: Option<FrameId>,
    /// In a `hello`: the receiver takes only this part of the streams, and acknowledges no other.
    pub shard: Option<Shard>,
}

/// The Arrow type: one `UInt32`, the window.
#[must_use]
pub fn data_type() -> DataType {
    DataType::UInt32
}

impl Credit {
    /// The message's array and metadata.
    #[must_use]
    pub fn encode(&self) -> (ArrayRef, Metadata) {
        let mut metadata = Metadata::default();
        match &self.consumed {
            Some(id) => Header {
                id: id.clone(),
                pts_ns: 0,
                capture_ns: 0,
            }
            .write(&mut metadata),
            None => metadata.insert(keys::HELLO, Value::Bool(true)),
        }
        if let Some(shard) = self.shard {
            metadata.insert(keys::SHARD, Value::Text(shard.to_string()));
        }
        (Arc::new(UInt32Array::from(vec![self.window])), metadata)
    }
}

/// Decodes a credit message.
///
/// # Errors
/// Where the array is not one `UInt32`, or neither a header nor `hello` is there.
pub fn decode(array: &dyn Array, metadata: &Metadata) -> Result<Credit, SchemaError> {
    let numbers = array
        .as_primitive_opt::<UInt32Type>()
        .ok_or_else(|| wrong_type("credit", "UInt32", array))?;
    no_nulls(numbers, "credit")?;
    let [window] = numbers.values()[..] else {
        return Err(SchemaError::OutOfRange {
            field: "credit",
            expected: "one number".into(),
            found: format!("{} numbers", numbers.len()),
        });
    };
    let consumed = match metadata.bool(keys::HELLO) {
        Ok(true) => None,
        _ => Some(Header::read(metadata)?.id),
    };
    let shard = match metadata.get(keys::SHARD) {
        Some(_) => Some(shard(metadata.text(keys::SHARD)?)?),
        None => None,
    };
    Ok(Credit {
        window,
        consumed,
        shard,
    })
}

fn shard(text: &str) -> Result<Shard, SchemaError> {
    text.parse().map_err(|_| SchemaError::OutOfRange {
        field: keys::SHARD,
        expected: "i/n with i from 0 to n-1".into(),
        found: text.chars().take(64).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn credit_round_trips() {
        for consumed in [None, Some("cam".parse().unwrap())] {
            let credit = Credit {
                window: 8,
                consumed: consumed.map(|stream| FrameId {
                    stream,
                    epoch: crate::Epoch(2),
                    frame: crate::FrameIndex(41),
                }),
                shard: Some("1/3".parse().unwrap()),
            };
            let (array, metadata) = credit.encode();
            assert_eq!(decode(&array, &metadata), Ok(credit));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let metadata = Metadata::default();
        let two: ArrayRef = Arc::new(UInt32Array::from(vec![1, 2]));
        assert!(decode(&two, &metadata).is_err());
        let one: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
        assert!(decode(&one, &metadata).is_err(), "no header and no hello");
        let mut metadata = Metadata::default();
        metadata.insert(keys::HELLO, Value::Bool(true));
        metadata.insert(keys::SHARD, Value::Text("3/3".into()));
        assert!(decode(&one, &metadata).is_err(), "no such shard");
    }
}
