//! `prompts`: where to look for objects.
//!
//! One message per frame that was looked at, also when it holds no prompt: a lossless tracker waits for
//! the answer to every frame.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, Float32Array, Int8Array, ListArray,
    StringArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Int8Type, UInt32Type};

use crate::columns::{Rows, box_column, box_type, field, fields, rows, wrong_type};
use crate::{BBox, Metadata, SchemaError, Value, keys};

/// A place to look at: points, a box, or both, in source pixels; or a mask of the object itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its number on the frame.
    pub prompt_id: u32,
    /// Points (x, y).
    pub points: Vec<[f32; 2]>,
    /// One label a point: 1 object, 0 background.
    pub labels: Vec<i8>,
    /// A box around the object.
    pub bbox: Option<BBox>,
    /// The object's mask: COCO compressed runs ([`crate::Mask::decode`]) of the source frame's size.
    pub mask: Option<Vec<u8>>,
    /// How promising it is, 0 to 1.
    pub score: f32,
    /// The strategy that made it.
    pub strategy: String,
}

/// What the metadata of a message says of its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptsInfo {
    /// Whether a scene begins with it.
    pub scene_cut: bool,
}

impl PromptsInfo {
    /// Adds the information to metadata.
    pub fn write(self, metadata: &mut Metadata) {
        if self.scene_cut {
            metadata.insert(keys::SCENE_CUT, Value::Bool(true));
        }
    }

    /// Reads the information from metadata: what is not said is not so.
    ///
    /// # Errors
    /// Where a key is wrong.
    pub fn read(metadata: &Metadata) -> Result<Self, SchemaError> {
        let scene_cut = match metadata.get(keys::SCENE_CUT) {
            Some(_) => metadata.bool(keys::SCENE_CUT)?,
            None => false,
        };
        Ok(Self { scene_cut })
    }
}

fn point_type() -> DataType {
    DataType::FixedSizeList(field("item", DataType::Float32).into(), 2)
}

/// The Arrow type of the rows.
#[must_use]
pub fn data_type() -> DataType {
    DataType::Struct(
        vec![
            field("prompt_id", DataType::UInt32),
            field("points", DataType::List(field("item", point_type()).into())),
            field(
                "labels",
                DataType::List(field("item", DataType::Int8).into()),
            ),
            Field::new("box", box_type(), true),
            Field::new("mask", DataType::Binary, true),
            field("score", DataType::Float32),
            field("strategy", DataType::Utf8),
        ]
        .into(),
    )
}

/// Encodes prompts.
#[must_use]
pub fn encode(prompts: &[Prompt]) -> ArrayRef {
    let coordinates: Vec<f32> = prompts
        .iter()
        .flat_map(|prompt| prompt.points.as_flattened())
        .copied()
        .collect();
    let points = FixedSizeListArray::new(
        field("item", DataType::Float32).into(),
        2,
        Arc::new(Float32Array::from(coordinates)),
        None,
    );
    let labels = prompts.iter().flat_map(|prompt| prompt.labels.clone());
    let list = |item: DataType, lengths: Vec<usize>, values: ArrayRef| -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(lengths);
        Arc::new(ListArray::new(
            field("item", item).into(),
            offsets,
            values,
            None,
        ))
    };
    rows(
        fields(data_type()),
        vec![
            Arc::new(UInt32Array::from_iter_values(
                prompts.iter().map(|prompt| prompt.prompt_id),
            )),
            list(
                point_type(),
                prompts.iter().map(|prompt| prompt.points.len()).collect(),
                Arc::new(points),
            ),
            list(
                DataType::Int8,
                prompts.iter().map(|prompt| prompt.labels.len()).collect(),
                Arc::new(Int8Array::from_iter_values(labels)),
            ),
            box_column(prompts.iter().map(|prompt| prompt.bbox)),
            Arc::new(BinaryArray::from_iter(
                prompts.iter().map(|prompt| prompt.mask.as_deref()),
            )),
            Arc::new(Float32Array::from_iter_values(
                prompts.iter().map(|prompt| prompt.score),
            )),
            Arc::new(StringArray::from_iter_values(
                prompts.iter().map(|prompt| &prompt.strategy),
            )),
        ],
        prompts.len(),
    )
}

/// Decodes prompts.
///
/// # Errors
/// Where a column is missing or wrong, or points and labels differ in number.
pub fn decode(array: &dyn Array) -> Result<Vec<Prompt>, SchemaError> {
    let rows = Rows::of(array)?;
    let ids = rows.numbers::<UInt32Type>("prompt_id")?;
    let points = rows.lists("points")?;
    let labels = rows.lists("labels")?;
    let boxes = rows.boxes("box")?;
    let masks = rows.nullable_bytes("mask")?;
    let scores = rows.finite("score")?;
    let strategies = rows.texts("strategy")?;
    (0..rows.len())
        .map(|row| {
            let points = read_points(&points.value(row), row)?;
            let labels = read_labels(&labels.value(row), row)?;
            if points.len() != labels.len() {
                return Err(SchemaError::OutOfRange {
                    field: "labels",
                    expected: format!("one a point ({}) in row {row}", points.len()),
                    found: labels.len().to_string(),
                });
            }
            Ok(Prompt {
                prompt_id: ids.value(row),
                points,
                labels,
                bbox: boxes[row],
                mask: masks.is_valid(row).then(|| masks.value(row).to_vec()),
                score: scores.value(row),
                strategy: strategies.value(row).to_string(),
            })
        })
        .collect()
}

fn read_points(array: &ArrayRef, row: usize) -> Result<Vec<[f32; 2]>, SchemaError> {
    let column = "points";
    let wrong = || wrong_type(column, "List<FixedSizeList<f32, 2>>", array);
    if array.null_count() > 0 {
        return Err(SchemaError::Null { column, row });
    }
    let pairs = array
        .as_fixed_size_list_opt()
        .filter(|pairs| pairs.value_length() == 2)
        .ok_or_else(wrong)?;
    (0..pairs.len())
        .map(|at| {
            let pair = pairs.value(at);
            let numbers = pair.as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
            if numbers.null_count() > 0 {
                return Err(SchemaError::Null { column, row });
            }
            match numbers.values()[..] {
                [x, y] if x.is_finite() && y.is_finite() => Ok([x, y]),
                _ => Err(SchemaError::OutOfRange {
                    field: column,
                    expected: "two finite numbers a point".into(),
                    found: format!("{:?}", numbers.values()),
                }),
            }
        })
        .collect()
}

fn read_labels(array: &ArrayRef, row: usize) -> Result<Vec<i8>, SchemaError> {
    if array.null_count() > 0 {
        let column = "labels";
        return Err(SchemaError::Null { column, row });
    }
    let labels = array
        .as_primitive_opt::<Int8Type>()
        .ok_or_else(|| wrong_type("labels", "List<i8>", array))?;
    match labels
        .values()
        .iter()
        .find(|label| !(0..=1).contains(*label))
    {
        None => Ok(labels.values().to_vec()),
        Some(label) => Err(SchemaError::OutOfRange {
            field: "labels",
            expected: "0 or 1".into(),
            found: label.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prompt() -> impl Strategy<Value = Prompt> {
        let point = [-10.0f32..2000.0, -10.0f32..2000.0];
        (
            any::<u32>(),
            prop::collection::vec((point, 0i8..2), 0..4),
            any::<bool>(),
            "[a-z]{0,6}",
        )
            .prop_map(|(prompt_id, points, boxed, strategy)| Prompt {
                prompt_id,
                points: points.iter().map(|(point, _)| *point).collect(),
                labels: points.iter().map(|(_, label)| *label).collect(),
                bbox: boxed.then(|| BBox::new(1.0, 2.0, 3.0, 4.0)),
                mask: (!boxed).then(|| strategy.clone().into_bytes()),
                score: 0.5,
                strategy,
            })
    }

    proptest! {
        #[test]
        fn prompts_round_trip(prompts in prop::collection::vec(prompt(), 0..5)) {
            prop_assert_eq!(decode(&encode(&prompts)), Ok(prompts));
        }
    }
}
