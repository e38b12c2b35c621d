//! Reading columns of struct arrays that other processes made: every access is checked.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};

use crate::SchemaError;

/// A field that may not be null.
pub(crate) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// A struct array from columns; `fields` are those of the message's data type.
pub(crate) fn rows(fields: Fields, columns: Vec<ArrayRef>, len: usize) -> ArrayRef {
    if len == 0 {
        return arrow::array::new_empty_array(&DataType::Struct(fields));
    }
    std::sync::Arc::new(StructArray::new(fields, columns, None))
}

/// The fields of a struct data type.
pub(crate) fn fields(data_type: DataType) -> Fields {
    match data_type {
        DataType::Struct(fields) => fields,
        _ => Fields::empty(),
    }
}

/// Rows of a message.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a>(&'a StructArray);

impl<'a> Rows<'a> {
    pub(crate) fn of(array: &'a dyn Array) -> Result<Self, SchemaError> {
        let rows = array
            .as_struct_opt()
            .ok_or_else(|| wrong_type("rows", "a struct", array))?;
        match (0..rows.len()).find(|row| rows.is_null(*row)) {
            Some(row) => Err(SchemaError::Null {
                column: "rows",
                row,
            }),
            None => Ok(Self(rows)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A column that may hold nulls.
    pub(crate) fn nullable(&self, column: &'static str) -> Result<&'a ArrayRef, SchemaError> {
        self.0
            .column_by_name(column)
            .ok_or(SchemaError::MissingColumn { column })
    }

    fn column(&self, column: &'static str) -> Result<&'a ArrayRef, SchemaError> {
        let array = self.nullable(column)?;
        no_nulls(array, column)?;
        Ok(array)
    }

    pub(crate) fn numbers<T: ArrowPrimitiveType>(
        &self,
        column: &'static str,
    ) -> Result<&'a PrimitiveArray<T>, SchemaError> {
        let array = self.column(column)?;
        array
            .as_primitive_opt::<T>()
            .ok_or_else(|| wrong_type(column, &T::DATA_TYPE.to_string(), array))
    }

    /// Numbers that are neither infinite nor NaN.
    pub(crate) fn finite(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::Float32Array, SchemaError> {
        let numbers = self.numbers::<arrow::datatypes::Float32Type>(column)?;
        match numbers
            .values()
            .iter()
            .position(|number| !number.is_finite())
        {
            None => Ok(numbers),
            Some(row) => Err(SchemaError::OutOfRange {
                field: column,
                expected: "finite".into(),
                found: format!("{} in row {row}", numbers.value(row)),
            }),
        }
    }

    pub(crate) fn texts(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::StringArray, SchemaError> {
        let array = self.column(column)?;
        array
            .as_string_opt::<i32>()
            .ok_or_else(|| wrong_type(column, "Utf8", array))
    }

    pub(crate) fn nullable_texts(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::StringArray, SchemaError> {
        let array = self.nullable(column)?;
        array
            .as_string_opt::<i32>()
            .ok_or_else(|| wrong_type(column, "Utf8", array))
    }

    pub(crate) fn bytes(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::BinaryArray, SchemaError> {
        no_nulls(self.nullable(column)?, column)?;
        self.nullable_bytes(column)
    }

    pub(crate) fn nullable_bytes(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::BinaryArray, SchemaError> {
        let array = self.nullable(column)?;
        array
            .as_binary_opt::<i32>()
            .ok_or_else(|| wrong_type(column, "Binary", array))
    }

    pub(crate) fn lists(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::ListArray, SchemaError> {
        let array = self.column(column)?;
        array
            .as_list_opt::<i32>()
            .ok_or_else(|| wrong_type(column, "List", array))
    }

    pub(crate) fn bools(
        &self,
        column: &'static str,
    ) -> Result<&'a arrow::array::BooleanArray, SchemaError> {
        let array = self.column(column)?;
        array
            .as_boolean_opt()
            .ok_or_else(|| wrong_type(column, "Boolean", array))
    }

    /// The boxes of all rows; `None` where the box is null.
    pub(crate) fn boxes(
        &self,
        column: &'static str,
    ) -> Result<Vec<Option<crate::BBox>>, SchemaError> {
        let array = self.nullable(column)?;
        let list = array
            .as_fixed_size_list_opt()
            .filter(|list| list.value_length() == 4)
            .ok_or_else(|| wrong_type(column, "FixedSizeList<f32, 4>", array))?;
        let values = list.values();
        let edges = values
            .as_primitive_opt::<arrow::datatypes::Float32Type>()
            .ok_or_else(|| wrong_type(column, "FixedSizeList<f32, 4>", array))?;
        let edges: &[f32] = edges.values();
        (0..list.len())
            .map(|row| {
                if list.is_null(row) {
                    return Ok(None);
                }
                let start = list.value_offset(row) as usize;
                if (start..start + 4).any(|at| at < values.len() && values.is_null(at)) {
                    return Err(SchemaError::Null { column, row });
                }
                let corners = edges
                    .get(start..start + 4)
                    .and_then(|slice| <[f32; 4]>::try_from(slice).ok())
                    .map(crate::BBox::from);
                match corners {
                    Some(bbox) if bbox.is_valid() => Ok(Some(bbox)),
                    other => Err(SchemaError::OutOfRange {
                        field: column,
                        expected: "finite edges with x0 <= x1 and y0 <= y1".into(),
                        found: format!("{other:?} in row {row}"),
                    }),
                }
            })
            .collect()
    }

    /// The boxes of all rows, none of them null.
    pub(crate) fn every_box(&self, column: &'static str) -> Result<Vec<crate::BBox>, SchemaError> {
        self.boxes(column)?
            .into_iter()
            .enumerate()
            .map(|(row, bbox)| bbox.ok_or(SchemaError::Null { column, row }))
            .collect()
    }

    /// The words of a column, each read by `parse`.
    pub(crate) fn words<T>(
        &self,
        column: &'static str,
        accepted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, SchemaError> {
        let texts = self.texts(column)?;
        (0..texts.len())
            .map(|row| {
                let text = texts.value(row);
                parse(text).ok_or_else(|| SchemaError::OutOfRange {
                    field: column,
                    expected: accepted.into(),
                    found: text.chars().take(64).collect(),
                })
            })
            .collect()
    }
}

pub(crate) fn no_nulls(array: &dyn Array, column: &'static str) -> Result<(), SchemaError> {
    match (0..array.len()).find(|row| array.is_null(*row)) {
        Some(row) if array.null_count() > 0 => Err(SchemaError::Null { column, row }),
        _ => Ok(()),
    }
}

pub(crate) fn wrong_type(field: &'static str, expected: &str, found: &dyn Array) -> SchemaError {
    SchemaError::WrongType {
        field,
        expected: expected.into(),
        found: found.data_type().to_string(),
    }
}

/// The data type of a box column.
pub(crate) fn box_type() -> DataType {
    DataType::FixedSizeList(field("item", DataType::Float32).into(), 4)
}

/// A column of boxes.
pub(crate) fn box_column(boxes: impl Iterator<Item = Option<crate::BBox>>) -> ArrayRef {
    let mut edges = Vec::new();
    let mut valid = Vec::new();
    for bbox in boxes {
        valid.push(bbox.is_some());
        edges.extend(bbox.unwrap_or_default().to_array());
    }
    std::sync::Arc::new(arrow::array::FixedSizeListArray::new(
        field("item", DataType::Float32).into(),
        4,
        std::sync::Arc::new(arrow::array::Float32Array::from(edges)),
        valid.contains(&false).then(|| valid.into()),
    ))
}
