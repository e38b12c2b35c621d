//! Batches that come out of a plug-in: looked at before they are believed.
//!
//! Arrow's own import trusts the lengths, pointers and offsets in the C structs. Here they are compared
//! with the columns that are expected; what the structs cannot tell (how much memory really lies behind
//! a pointer) has to be trusted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{ArrayRef, make_array};
use arrow::datatypes::{DataType, Field};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type};

/// Most values in a column: offsets are 32 bits.
const MOST: i64 = i32::MAX as i64;

/// Why a batch is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The columns are others.
    Columns(String),
    /// The structs or what they point to is damaged.
    Damaged(String),
}

/// Takes over a batch that should have these columns. Array and schema are released once: the schema
/// here, the array when the last use of its memory ends.
///
/// # Safety
/// Pointers in the structs that are not null point to what the C Data Interface says, in the lengths
/// that the structs state.
pub(crate) unsafe fn take(
    array: FFI_ArrowArray,
    schema: FFI_ArrowSchema,
    expected: &DataType,
) -> Result<ArrayRef, Unfit> {
    if array.is_released() {
        return Err(Unfit::Damaged("the array is released already".into()));
    }
    // Arrow panics on null pointers and on names that are no UTF-8.
    let found = catch_unwind(AssertUnwindSafe(|| DataType::try_from(&schema)))
        .map_err(|_| Unfit::Damaged("its schema has null pointers or broken text".into()))?
        .map_err(|error| Unfit::Damaged(error.to_string()))?;
    if let Some(difference) = difference(expected, &found) {
        return Err(Unfit::Columns(difference));
    }
    // SAFETY: the caller's promise.
    unsafe { check(&array, &found, "rows", 0) }.map_err(Unfit::Damaged)?;
    let import = AssertUnwindSafe(|| {
        // SAFETY: the caller's promise; lengths, offsets and pointers fit the type, see above.
        let data = unsafe { from_ffi_and_data_type(array, found) }?;
        data.validate_full()?;
        Ok(make_array(data))
    });
    match catch_unwind(import) {
        Ok(result) => {
            result.map_err(|error: arrow::error::ArrowError| Unfit::Damaged(error.to_string()))
        }
        Err(_) => Err(Unfit::Damaged("arrow cannot import it".into())),
    }
}

/// What keeps `found` from having the columns of `expected`, in any order.
pub(crate) fn difference(expected: &DataType, found: &DataType) -> Option<String> {
    let (DataType::Struct(expected), DataType::Struct(columns)) = (expected, found) else {
        return Some(format!("expected a struct of columns, found {found}"));
    };
    for field in expected {
        let name = field.name();
        match columns.find(name) {
            None => return Some(format!("column `{name}` is missing")),
            Some((_, column)) if !same(field, column) => {
                let (expected, found) = (field.data_type(), column.data_type());
                return Some(format!("column `{name}` should be {expected}, is {found}"));
            }
            Some(_) => {}
        }
    }
    let more = |column: &&std::sync::Arc<Field>| expected.find(column.name()).is_none();
    if let Some(column) = columns.iter().find(more) {
        return Some(format!("column `{}` is not known", column.name()));
    }
    (columns.len() > expected.len()).then(|| "a column comes twice".into())
}

/// Equal types. Names of list items and whether nulls are allowed do not count: values say the latter.
fn same(a: &Field, b: &Field) -> bool {
    match (a.data_type(), b.data_type()) {
        (DataType::List(a), DataType::List(b)) => same(a, b),
        (DataType::FixedSizeList(a, n), DataType::FixedSizeList(b, m)) => n == m && same(a, b),
        (a, b) => a == b,
    }
}

/// Whether the structs can hold values of this type, `least` or more.
///
/// # Safety
/// As for [`take`].
unsafe fn check(
    array: &FFI_ArrowArray,
    data_type: &DataType,
    name: &str,
    least: i64,
) -> Result<(), String> {
    let end = array.length.saturating_add(array.offset);
    if array.length < 0 || array.offset < 0 || end > MOST || array.null_count > array.length {
        return Err(format!(
            "`{name}` has length {}, offset {} and {} nulls",
            array.length, array.offset, array.null_count
        ));
    }
    if array.length < least {
        return Err(format!(
            "`{name}` has {} values, {least} are needed",
            array.length
        ));
    }
    let (buffers, children) = match data_type {
        DataType::Struct(fields) => (1, fields.len() as i64),
        DataType::FixedSizeList(..) => (1, 1),
        DataType::List(_) => (2, 1),
        DataType::Utf8 | DataType::Binary => (3, 0),
        _ => (2, 0),
    };
    if array.n_buffers != buffers || array.buffers.is_null() {
        let found = array.n_buffers;
        return Err(format!(
            "`{name}` should have {buffers} buffers, has {found}"
        ));
    }
    if array.n_children != children || (children > 0 && array.children.is_null()) {
        let found = array.n_children;
        return Err(format!(
            "`{name}` should have {children} children, has {found}"
        ));
    }
    if array.null_count > 0 && array.buffer(0).is_null() {
        return Err(format!("`{name}` has nulls but no validity bits"));
    }
    let last = match data_type {
        // SAFETY: such an array has `end + 1` offsets in its second buffer, where it has one.
        DataType::Utf8 | DataType::Binary | DataType::List(_) => unsafe {
            last_offset(array, end, name)?
        },
        _ => 0,
    };
    let items: Vec<(&Field, i64)> = match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| (field.as_ref(), end)).collect(),
        DataType::FixedSizeList(item, size) => vec![(item, end.saturating_mul((*size).into()))],
        DataType::List(item) => vec![(item, last)],
        _ => Vec::new(),
    };
    for (at, (field, least)) in items.into_iter().enumerate() {
        // SAFETY: there are `children` pointers, as compared above.
        let Some(child) = (unsafe { (*array.children.add(at)).as_ref() }) else {
            return Err(format!("`{}` is a null pointer", field.name()));
        };
        // SAFETY: as for this array.
        unsafe { check(child, field.data_type(), field.name(), least)? };
    }
    Ok(())
}

/// The last of the offsets, which have to grow from 0 or more.
///
/// # Safety
/// The second buffer is null or has `end + 1` numbers.
unsafe fn last_offset(array: &FFI_ArrowArray, end: i64, name: &str) -> Result<i64, String> {
    let offsets = array.buffer(1).cast::<i32>();
    if array.length == 0 {
        return Ok(0);
    }
    if offsets.is_null() {
        return Err(format!("`{name}` has no offsets"));
    }
    let mut last = 0;
    for at in 0..=end as usize {
        // SAFETY: at most `end`; C code need not align them.
        let offset = unsafe { offsets.add(at).read_unaligned() };
        if offset < last {
            return Err(format!("`{name}` has an offset of {offset} after {last}"));
        }
        last = offset;
    }
    Ok(last.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::Array;
    use arrow::ffi::to_ffi;
    use tracklens_schemas::{BBox, Prompt, prompts};

    fn batch() -> (FFI_ArrowArray, FFI_ArrowSchema) {
        let prompt = Prompt {
            prompt_id: 1,
            points: vec![[1.0, 2.0], [3.0, 4.0]],
            labels: vec![1, 0],
            bbox: Some(BBox::new(0.0, 0.0, 9.0, 9.0)),
            mask: None,
            score: 0.5,
            strategy: "test".into(),
        };
        to_ffi(&prompts::encode(&[prompt.clone(), prompt]).to_data()).unwrap()
    }

    /// What becomes of the batch once `spoil` has changed its structs.
    fn spoiled(spoil: impl FnOnce(&mut FFI_ArrowArray)) -> Result<usize, Unfit> {
        let (mut array, schema) = batch();
        spoil(&mut array);
        // SAFETY: arrow made it, and whatever was changed, no pointer leads anywhere else.
        unsafe { take(array, schema, &prompts::data_type()) }.map(|array| array.len())
    }

    fn column(array: &mut FFI_ArrowArray, at: usize) -> &mut FFI_ArrowArray {
        // SAFETY: arrow made the array, with all seven columns of prompts.
        unsafe { &mut **array.children.add(at) }
    }

    fn damage(spoil: impl FnOnce(&mut FFI_ArrowArray)) -> String {
        match spoiled(spoil) {
            Err(Unfit::Damaged(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whole_batches_are_taken_and_damaged_ones_named() {
        assert_eq!(spoiled(|_| {}), Ok(2));
        assert!(damage(|rows| rows.length = -1).contains("length -1"));
        assert!(damage(|rows| rows.offset = i64::MAX).contains("offset"));
        assert!(damage(|rows| rows.n_children = 6).contains("7 children, has 6"));
        assert!(damage(|rows| column(rows, 0).length = 1).contains("2 are needed"));
        assert!(damage(|rows| column(rows, 1).n_buffers = 9).contains("2 buffers, has 9"));
        assert!(damage(|rows| column(rows, 5).null_count = 1).contains("no validity"));
        assert!(damage(|rows| column(rows, 4).null_count = 1).contains("null_count"));
        assert!(
            damage(|rows| column(rows, 6).buffers = std::ptr::null_mut()).contains("3 buffers")
        );
    }

    #[test]
    fn offsets_have_to_grow_and_stay_inside() {
        static WRONG: [i32; 3] = [0, 9, 2];
        static LONG: [i32; 3] = [0, 2, 1000];
        let with = |offsets: &'static [i32; 3], at: usize| {
            damage(move |rows| {
                // SAFETY: lists and texts have a second buffer; the new one is as long.
                unsafe { *column(rows, at).buffers.add(1) = offsets.as_ptr().cast() };
            })
        };
        assert!(with(&WRONG, 6).contains("an offset of 2 after 9"));
        assert!(with(&LONG, 1).contains("1000 are needed"));
    }

    #[test]
    fn released_arrays_and_null_schemas_are_refused() {
        let (array, schema) = batch();
        let expected = prompts::data_type();
        // SAFETY: an empty struct has no pointers.
        let refused = unsafe { take(FFI_ArrowArray::empty(), schema, &expected) };
        assert!(matches!(refused, Err(Unfit::Damaged(_))));
        // SAFETY: as above.
        let refused = unsafe { take(array, FFI_ArrowSchema::empty(), &expected) };
        assert!(matches!(refused, Err(Unfit::Damaged(_))));
    }

    #[test]
    fn columns_are_compared_by_name_and_type_alone() {
        let expected = prompts::data_type();
        let DataType::Struct(fields) = &expected else {
            unreachable!()
        };
        let build = |change: &dyn Fn(&mut Vec<Field>)| {
            let mut fields: Vec<Field> = fields.iter().map(|f| f.as_ref().clone()).collect();
            change(&mut fields);
            difference(&expected, &DataType::Struct(fields.into()))
        };
        assert_eq!(build(&|fields| fields.reverse()), None);
        assert_eq!(
            build(&|fields| fields[0] = fields[0].clone().with_nullable(true)),
            None
        );
        let retyped = build(&|fields| fields[5] = Field::new("score", DataType::Float64, false));
        assert_eq!(
            retyped.unwrap(),
            "column `score` should be Float32, is Float64"
        );
        let missing = build(&|fields| drop(fields.remove(3)));
        assert_eq!(missing.unwrap(), "column `box` is missing");
        let more = build(&|fields| fields.push(Field::new("age", DataType::Int8, false)));
        assert_eq!(more.unwrap(), "column `age` is not known");
        assert!(build(&|fields| fields.push(fields[0].clone())).is_some());
        assert!(difference(&expected, &DataType::Int8).is_some());
    }
}
