//! `identifications`: what an object is.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, StringArray, UInt8Array, UInt32Array,
};
use arrow::datatypes::{DataType, Field, UInt8Type, UInt32Type};

use crate::columns::{Rows, field, fields, rows};
use crate::{SchemaError, TrackId};

/// How an identification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The object has a name.
    Identified,
    /// The service knows none.
    Unknown,
    /// The service could not be asked.
    Failed,
}

impl Outcome {
    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identified => "identified",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Identified, Self::Unknown, Self::Failed]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// What an object is, or why that is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    /// The object.
    pub track_id: TrackId,
    /// Its name.
    pub name: String,
    /// What kind of thing it is.
    pub category: String,
    /// A sentence about it.
    pub description: String,
    /// How sure the service is, 0 to 1.
    pub confidence: f32,
    /// Its size, as JSON, where known.
    pub dimensions: Option<String>,
    /// The service.
    pub backend: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// How often the service was asked.
    pub attempts: u8,
    /// Why it failed.
    pub error: Option<String>,
}

/// The Arrow type of the rows.
#[must_use]
pub fn data_type() -> DataType {
    DataType::Struct(
        vec![
            field("track_id", DataType::UInt32),
            field("name", DataType::Utf8),
            field("category", DataType::Utf8),
            field("description", DataType::Utf8),
            field("confidence", DataType::Float32),
            Field::new("dimensions", DataType::Utf8, true),
            field("backend", DataType::Utf8),
            field("outcome", DataType::Utf8),
            field("cached", DataType::Boolean),
            field("attempts", DataType::UInt8),
            Field::new("error", DataType::Utf8, true),
        ]
        .into(),
    )
}

/// Encodes identifications.
#[must_use]
pub fn encode(list: &[Identification]) -> ArrayRef {
    let texts = |read: fn(&Identification) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(list.iter().map(read)))
    };
    let optional = |read: fn(&Identification) -> Option<&str>| -> ArrayRef {
        Arc::new(list.iter().map(read).collect::<StringArray>())
    };
    let cached: Vec<bool> = list.iter().map(|row| row.cached).collect();
    rows(
        fields(data_type()),
        vec![
            Arc::new(UInt32Array::from_iter_values(
                list.iter().map(|row| row.track_id.0),
            )),
            texts(|row| &row.name),
            texts(|row| &row.category),
            texts(|row| &row.description),
            Arc::new(Float32Array::from_iter_values(
                list.iter().map(|row| row.confidence),
            )),
            optional(|row| row.dimensions.as_deref()),
            texts(|row| &row.backend),
            texts(|row| row.outcome.as_str()),
            Arc::new(BooleanArray::from(cached)),
            Arc::new(UInt8Array::from_iter_values(
                list.iter().map(|row| row.attempts),
            )),
            optional(|row| row.error.as_deref()),
        ],
        list.len(),
    )
}

/// Decodes identifications.
///
/// # Errors
/// Where a column is missing or wrong.
pub fn decode(array: &dyn Array) -> Result<Vec<Identification>, SchemaError> {
    let rows = Rows::of(array)?;
    let ids = rows.numbers::<UInt32Type>("track_id")?;
    let names = rows.texts("name")?;
    let categories = rows.texts("category")?;
    let descriptions = rows.texts("description")?;
    let confidences = rows.finite("confidence")?;
    let dimensions = rows.nullable_texts("dimensions")?;
    let backends = rows.texts("backend")?;
    let outcomes = rows.words("outcome", "identified, unknown or failed", Outcome::parse)?;
    let cached = rows.bools("cached")?;
    let attempts = rows.numbers::<UInt8Type>("attempts")?;
    let errors = rows.nullable_texts("error")?;
    let optional =
        |texts: &StringArray, row: usize| texts.is_valid(row).then(|| texts.value(row).to_string());
    Ok((0..rows.len())
        .map(|row| Identification {
            track_id: TrackId(ids.value(row)),
            name: names.value(row).to_string(),
            category: categories.value(row).to_string(),
            description: descriptions.value(row).to_string(),
            confidence: confidences.value(row),
            dimensions: optional(dimensions, row),
            backend: backends.value(row).to_string(),
            outcome: outcomes[row],
            cached: cached.value(row),
            attempts: attempts.value(row),
            error: optional(errors, row),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifications_round_trip() {
        let known = Identification {
            track_id: TrackId(9),
            name: "Model T".into(),
            category: "car".into(),
            description: String::new(),
            confidence: 0.75,
            dimensions: None,
            backend: "gallery".into(),
            outcome: Outcome::Identified,
            cached: true,
            attempts: 1,
            error: None,
        };
        let failed = Identification {
            outcome: Outcome::Failed,
            error: Some("timed out".into()),
            ..known.clone()
        };
        let list = [known, failed];
        assert_eq!(decode(&encode(&list)), Ok(list.to_vec()));
    }
}
