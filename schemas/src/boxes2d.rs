//! Boxes as detectors of dora's hub send them (`primitive: boxes2d`): read, never written.
//!
//! One struct row per image, whose lists hold all its boxes: `bbox` four numbers a box, `conf` one.
//! The metadata are those of the image, whose pixels the boxes count, with `format`: `xyxy`
//! (corners, also where it is missing) or `xywh` (centre and size).

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};

use crate::columns::Rows;
use crate::image::side;
use crate::{BBox, Metadata, SchemaError, keys};

/// A box that a detector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Box2d {
    /// Where, in pixels of the source frame.
    pub bbox: BBox,
    /// How sure the detector is, 0 to 1; 1 where it does not say.
    pub score: f32,
}

/// Decodes the boxes of an image. What is empty or turned inside out is left out.
///
/// # Errors
/// Where the columns are missing or of another type, numbers do not come in fours, or the metadata
/// do not say how large the image was.
pub fn decode(array: &dyn Array, metadata: &Metadata) -> Result<Vec<Box2d>, SchemaError> {
    let rows = Rows::of(array)?;
    let scale = scale(metadata)?;
    let centres = match metadata.get(keys::FORMAT) {
        None => false,
        Some(_) => match metadata.text(keys::FORMAT)? {
            "xyxy" => false,
            "xywh" => true,
            other => {
                return Err(SchemaError::OutOfRange {
                    field: keys::FORMAT,
                    expected: "xyxy or xywh".into(),
                    found: other.chars().take(64).collect(),
                });
            }
        },
    };
    let mut boxes = Vec::new();
    for row in 0..rows.len() {
        let numbers = numbers(&rows, "bbox", row)?;
        let scores = match rows.nullable("conf") {
            Ok(_) => Some(self::numbers(&rows, "conf", row)?),
            Err(_) => None,
        };
        let count = numbers.len() / 4;
        let scored = scores.as_ref().is_none_or(|scores| scores.len() == count);
        if numbers.len() % 4 != 0 || !scored {
            return Err(SchemaError::OutOfRange {
                field: "bbox",
                expected: "four numbers a box, and one of conf".into(),
                found: format!("{} numbers in row {row}", numbers.len()),
            });
        }
        for (at, four) in numbers.chunks_exact(4).enumerate() {
            let bbox = match (centres, four) {
                (true, [x, y, w, h]) => {
                    BBox::new(x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0)
                }
                (_, four) => BBox::new(four[0], four[1], four[2], four[3]),
            };
            let score = scores.as_ref().map_or(1.0, |scores| scores[at]);
            let bbox = bbox.scale(scale.0, scale.1);
            if bbox.is_valid() && bbox.area() > 0.0 && score.is_finite() {
                let score = score.clamp(0.0, 1.0);
                boxes.push(Box2d { bbox, score });
            }
        }
    }
    Ok(boxes)
}

/// Source pixels in a pixel of the image.
fn scale(metadata: &Metadata) -> Result<(f32, f32), SchemaError> {
    let factor = |own, source| -> Result<f32, SchemaError> {
        if metadata.get(source).is_none() {
            return Ok(1.0);
        }
        Ok(side(metadata, source)? as f32 / side(metadata, own)? as f32)
    };
    Ok((
        factor(keys::WIDTH, keys::SOURCE_WIDTH)?,
        factor(keys::HEIGHT, keys::SOURCE_HEIGHT)?,
    ))
}

/// The numbers in a row's list, of whatever width.
fn numbers(rows: &Rows<'_>, column: &'static str, row: usize) -> Result<Vec<f32>, SchemaError> {
    let array = rows.nullable(column)?;
    let wrong = || SchemaError::WrongType {
        field: column,
        expected: "a list of numbers".into(),
        found: array.data_type().to_string(),
    };
    let list = array.as_list_opt::<i32>().ok_or_else(wrong)?;
    if list.is_null(row) {
        return Err(SchemaError::Null { column, row });
    }
    let values = list.value(row);
    if !values.data_type().is_numeric() {
        // A list of nothing has no type.
        return if values.is_empty() {
            Ok(Vec::new())
        } else {
            Err(wrong())
        };
    }
    let values = cast(&values, &DataType::Float32).map_err(|_| wrong())?;
    if values.null_count() > 0 {
        return Err(SchemaError::Null { column, row });
    }
    let values = values.as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
    Ok(values.values().to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, ListArray, NullArray, StringArray, StructArray};
    use arrow::datatypes::{Field, Float64Type};
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    /// The row that a hub node sends.
    fn message(bbox: &[f32], conf: Option<&[f64]>) -> StructArray {
        let numbers = bbox.iter().map(|number| Some(*number));
        let bbox = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(numbers)]);
        let labels: ArrayRef = Arc::new(StringArray::from(vec!["person"]));
        let mut columns = vec![("bbox", Arc::new(bbox) as ArrayRef), ("labels", labels)];
        if let Some(conf) = conf {
            let numbers = conf.iter().map(|number| Some(*number));
            let conf = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(numbers)]);
            columns.push(("conf", Arc::new(conf)));
        }
        let fields = columns.into_iter().map(|(name, column)| {
            let field = Field::new(name, column.data_type().clone(), true);
            (Arc::new(field), column)
        });
        StructArray::from(fields.collect::<Vec<_>>())
    }

    fn metadata(format: &str) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.insert(keys::PRIMITIVE, Value::Text("boxes2d".into()));
        metadata.insert(keys::FORMAT, Value::Text(format.into()));
        metadata.insert(keys::WIDTH, Value::Int(320));
        metadata.insert(keys::HEIGHT, Value::Int(180));
        metadata
    }

    #[test]
    fn corners_and_centres_are_told_apart() {
        let corners = message(&[10.0, 20.0, 30.0, 60.0], Some(&[0.75]));
        let centres = message(&[20.0, 40.0, 20.0, 40.0], Some(&[0.75]));
        let expected = [Box2d {
            bbox: BBox::new(10.0, 20.0, 30.0, 60.0),
            score: 0.75,
        }];
        assert_eq!(decode(&corners, &metadata("xyxy")).unwrap(), expected);
        assert_eq!(decode(&centres, &metadata("xywh")).unwrap(), expected);
        assert_eq!(decode(&corners, &Metadata::default()).unwrap(), expected);
        assert!(decode(&corners, &metadata("corners")).is_err());
    }

    #[test]
    fn boxes_on_a_smaller_picture_grow_to_the_source_frame() {
        let mut metadata = metadata("xyxy");
        metadata.insert(keys::SOURCE_WIDTH, Value::Int(640));
        metadata.insert(keys::SOURCE_HEIGHT, Value::Int(360));
        let found = decode(&message(&[10.0, 20.0, 30.0, 60.0], None), &metadata).unwrap();
        assert_eq!(found[0].bbox, BBox::new(20.0, 40.0, 60.0, 120.0));
        assert_eq!(found[0].score, 1.0);
    }

    #[test]
    fn what_is_no_box_is_an_error_or_left_out() {
        let of = |array: &StructArray| decode(array, &metadata("xyxy"));
        assert!(of(&message(&[1.0, 2.0, 3.0], None)).is_err());
        assert!(of(&message(&[1.0, 2.0, 3.0, 4.0], Some(&[0.5, 0.5]))).is_err());
        assert_eq!(of(&message(&[], Some(&[]))).unwrap(), []);
        let none = message(&[5.0, 5.0, 1.0, 9.0, f32::NAN, 0.0, 1.0, 1.0], None);
        assert_eq!(of(&none).unwrap(), []);
        assert!(decode(&NullArray::new(3), &metadata("xyxy")).is_err());
        let labels = message(&[], None).column_by_name("labels").unwrap().clone();
        let field = Field::new("bbox", labels.data_type().clone(), true);
        assert!(of(&StructArray::from(vec![(Arc::new(field), labels)])).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_valid_boxes_or_an_error(
            numbers in prop::collection::vec(any::<f32>(), 0..20),
            conf in prop::collection::vec(any::<f64>(), 0..6), centres in any::<bool>(),
        ) {
            let format = if centres { "xywh" } else { "xyxy" };
            if let Ok(boxes) = decode(&message(&numbers, Some(&conf)), &metadata(format)) {
                prop_assert!(boxes.iter().all(|b| b.bbox.is_valid() && (0.0..=1.0).contains(&b.score)));
            }
        }
    }
}
