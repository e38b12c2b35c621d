//! Messages that break their schema are refused with an error that names the field: no decoder
//! panics, whatever came.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use proptest::prelude::*;
use tracklens_schemas::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Int8Array,
    Int64Array, ListArray, StringArray, StructArray, UInt8Array, UInt32Array, new_null_array,
};
use tracklens_schemas::arrow::buffer::OffsetBuffer;
use tracklens_schemas::arrow::datatypes::{DataType, Field, Fields};
use tracklens_schemas::{
    BBox, Crop, Header, Identification, ImageInfo, Mask, Metadata, Outcome, PixelEncoding, Prompt,
    SchemaError, StreamEvent, StreamEventKind, Track, TrackId, TrackState, TracksInfo, Value,
    credit, crops, identifications, keys, prompts, stream_events, tracks,
};

const SIZE: (u32, u32) = (6, 4);
const BOX: BBox = BBox {
    x0: 1.0,
    y0: 0.0,
    x1: 4.5,
    y1: 3.0,
};

fn track(id: u32) -> Track {
    Track {
        track_id: TrackId(id),
        bbox: BOX,
        mask: Mask::from_runs(vec![id, 24 - id], SIZE.0, SIZE.1).unwrap(),
        area: 24 - id,
        score: 0.5,
        visible: true,
        state: TrackState::Tracked,
        age: 3,
    }
}

fn prompt(id: u32) -> Prompt {
    Prompt {
        prompt_id: id,
        points: vec![[id as f32, 1.0]; id as usize],
        labels: vec![1; id as usize],
        bbox: id.is_multiple_of(2).then_some(BOX),
        mask: (!id.is_multiple_of(2)).then(|| vec![b'1'; 2]),
        score: 0.5,
        strategy: "grid".into(),
    }
}

fn crop(id: u32) -> Crop {
    Crop {
        track_id: TrackId(id),
        bbox: BOX,
        width: id + 1,
        height: 2,
        pixels: vec![7; 6 * (id as usize + 1)],
        sharpness: 1.5,
    }
}

fn identification(id: u32) -> Identification {
    Identification {
        track_id: TrackId(id),
        name: "n".repeat(id as usize),
        category: "car".into(),
        description: String::new(),
        confidence: 0.5,
        dimensions: id.is_multiple_of(2).then(|| "{}".into()),
        backend: "gallery".into(),
        outcome: Outcome::Unknown,
        cached: id.is_multiple_of(2),
        attempts: 1,
        error: (!id.is_multiple_of(2)).then(|| "late".into()),
    }
}

fn event(id: u32) -> StreamEvent {
    StreamEvent {
        event: StreamEventKind::ALL[id as usize],
        detail: id.to_string(),
    }
}

fn list<T>(make: fn(u32) -> T) -> Vec<T> {
    (0..4).map(make).collect()
}

/// Each message with four rows, encoded.
fn messages() -> [ArrayRef; 5] {
    [
        tracks::encode(&list(track)),
        prompts::encode(&list(prompt)),
        crops::encode(&list(crop)),
        identifications::encode(&list(identification)),
        stream_events::encode(&list(event)),
    ]
}

/// What each decoder says to the array, in the order of [`messages`].
fn decode_all(array: &dyn Array) -> [Result<usize, SchemaError>; 5] {
    [
        tracks::decode(array, SIZE.0, SIZE.1).map(|rows| rows.len()),
        prompts::decode(array).map(|rows| rows.len()),
        crops::decode(array).map(|rows| rows.len()),
        identifications::decode(array).map(|rows| rows.len()),
        stream_events::decode(array).map(|rows| rows.len()),
    ]
}

/// The message with one column replaced.
fn with_column(message: &ArrayRef, name: &str, column: ArrayRef) -> ArrayRef {
    let message = message.as_any().downcast_ref::<StructArray>().unwrap();
    let at = message.column_names().iter().position(|n| *n == name);
    let (fields, mut columns, nulls) = message.clone().into_parts();
    let mut fields: Vec<Field> = fields.iter().map(|f| f.as_ref().clone()).collect();
    let at = at.unwrap();
    fields[at] = Field::new(name, column.data_type().clone(), true);
    columns[at] = column;
    Arc::new(StructArray::new(Fields::from(fields), columns, nulls))
}

/// A column of four rows of some type, with nulls or without, of hostile numbers and texts.
fn any_column() -> impl Strategy<Value = ArrayRef> {
    let number = prop::option::of(prop_oneof![
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(-1.0),
        any::<f32>()
    ]);
    let floats = prop::collection::vec(number.clone(), 4);
    let edges = prop::collection::vec(number, 16);
    let whole = prop::collection::vec(prop::option::of(any::<u32>()), 4);
    let bytes = prop::collection::vec(prop::option::of(prop::collection::vec(48u8..112, 0..9)), 4);
    let texts = prop::collection::vec(prop::option::of("[a-z]{0,9}"), 4);
    let labels = prop::collection::vec(prop::option::of(any::<i8>()), 4);
    prop_oneof![
        floats.prop_map(|list| Arc::new(Float32Array::from(list)) as ArrayRef),
        whole
            .clone()
            .prop_map(|list| Arc::new(UInt32Array::from(list)) as ArrayRef),
        whole.prop_map(|list| {
            Arc::new(Int64Array::from_iter(
                list.into_iter().map(|n| n.map(i64::from)),
            )) as ArrayRef
        }),
        bytes.prop_map(|list| Arc::new(BinaryArray::from_iter(list)) as ArrayRef),
        texts.prop_map(|list| Arc::new(StringArray::from(list)) as ArrayRef),
        Just(Arc::new(UInt8Array::from(vec![0, 1, 2, 255])) as ArrayRef),
        Just(Arc::new(BooleanArray::from(vec![None, Some(true), None, None])) as ArrayRef),
        (edges, 1i32..5).prop_map(|(edges, width)| {
            let edges = Float32Array::from(edges[..4 * width as usize].to_vec());
            fixed_list(Arc::new(edges), width)
        }),
        labels.prop_map(|list| nested(Arc::new(Int8Array::from(list)))),
        Just(nested(new_null_array(&DataType::Null, 4))),
        Just(new_null_array(&tracks::data_type(), 4)),
    ]
}

fn fixed_list(values: ArrayRef, width: i32) -> ArrayRef {
    let item = Field::new("item", values.data_type().clone(), true);
    Arc::new(FixedSizeListArray::new(item.into(), width, values, None))
}

/// Four lists of one value each.
fn nested(values: ArrayRef) -> ArrayRef {
    let item = Field::new("item", values.data_type().clone(), true);
    let offsets = OffsetBuffer::from_lengths([1; 4]);
    Arc::new(ListArray::new(item.into(), offsets, values, None))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-2i64..20_000).prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        "[a-z0-9/ü]{0,8}".prop_map(Value::Text),
        prop_oneof![Just("yuv420p"), Just("ok"), Just("image")]
            .prop_map(|text| Value::Text(text.into())),
    ]
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    const KEYS: [&str; 16] = [
        keys::STREAM_ID,
        keys::EPOCH,
        keys::FRAME,
        keys::PTS_NS,
        keys::CAPTURE_NS,
        keys::WIDTH,
        keys::HEIGHT,
        keys::ENCODING,
        keys::PRIMITIVE,
        keys::SOURCE_WIDTH,
        keys::SOURCE_HEIGHT,
        keys::KEYFRAME,
        keys::STATUS,
        keys::PROCESSING_MS,
        keys::MODEL,
        keys::HELLO,
    ];
    prop::collection::vec(prop::option::weighted(0.9, any_value()), KEYS.len()).prop_map(|values| {
        let mut metadata = Metadata::default();
        for (key, value) in KEYS.into_iter().zip(values) {
            if let Some(value) = value {
                metadata.insert(key, value);
            }
        }
        metadata
    })
}

proptest! {
    #[test]
    fn any_column_in_any_place_is_read_or_refused(
        message in 0usize..5, at in 0usize..11, column in any_column(), start in 0usize..4,
    ) {
        let array = &messages()[message];
        let DataType::Struct(fields) = array.data_type() else { unreachable!() };
        let name = fields[at % fields.len()].name().clone();
        let broken = with_column(array, &name, column);
        let _whatever = decode_all(&broken);
        let _whatever = decode_all(&broken.slice(start, 4 - start));
    }

    #[test]
    fn any_metadata_is_read_or_refused(metadata in any_metadata(), window: u32) {
        let _whatever = Header::read(&metadata);
        let _whatever = TracksInfo::read(&metadata);
        let window = UInt32Array::from(vec![window]);
        let _whatever = credit::decode(&window, &metadata);
        if let Ok(info) = ImageInfo::read(&metadata) {
            prop_assert!(info.byte_len() > 0);
        }
    }

    #[test]
    fn a_part_of_a_message_is_that_part_of_its_rows(start in 0usize..5, len in 0usize..5) {
        let len = len.min(4 - start.min(4));
        let start = start.min(4);
        let [t, p, c, i, e] = messages().map(|message| message.slice(start, len));
        let part = start..start + len;
        prop_assert_eq!(tracks::decode(&t, SIZE.0, SIZE.1).unwrap(), &list(track)[part.clone()]);
        prop_assert_eq!(prompts::decode(&p).unwrap(), &list(prompt)[part.clone()]);
        prop_assert_eq!(crops::decode(&c).unwrap(), &list(crop)[part.clone()]);
        let rows = identifications::decode(&i).unwrap();
        prop_assert_eq!(rows, &list(identification)[part.clone()]);
        prop_assert_eq!(stream_events::decode(&e).unwrap(), &list(event)[part]);
    }
}

/// The error of the decoder for this message.
fn refusal(message: usize, name: &str, column: ArrayRef) -> String {
    let broken = with_column(&messages()[message], name, column);
    decode_all(&broken)[message]
        .clone()
        .unwrap_err()
        .to_string()
}

#[test]
fn each_decoder_takes_its_own_message_and_names_what_another_lacks() {
    for (at, message) in messages().iter().enumerate() {
        for (decoder, result) in decode_all(message).into_iter().enumerate() {
            match result {
                Ok(rows) => assert_eq!((decoder, rows), (at, 4)),
                Err(SchemaError::MissingColumn { .. }) => assert_ne!(decoder, at),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn columns_of_later_versions_are_passed_over() {
    for (at, message) in messages().into_iter().enumerate() {
        let message = message.as_any().downcast_ref::<StructArray>().unwrap();
        let (fields, mut columns, nulls) = message.clone().into_parts();
        let mut fields = fields.to_vec();
        fields.push(Field::new("later", DataType::UInt32, false).into());
        columns.push(Arc::new(UInt32Array::from(vec![1; 4])));
        let wider = StructArray::new(fields.into(), columns, nulls);
        assert_eq!(decode_all(&wider)[at], Ok(4));
    }
}

#[test]
fn numbers_that_are_none_are_refused_by_name() {
    for (message, column) in [
        (0, "score"),
        (1, "score"),
        (2, "sharpness"),
        (3, "confidence"),
    ] {
        for number in [f32::NAN, f32::INFINITY] {
            let numbers = Float32Array::from(vec![0.5, number, 0.5, 0.5]);
            let error = refusal(message, column, Arc::new(numbers));
            assert!(
                error.starts_with(&format!("`{column}` should be finite")),
                "{error}"
            );
        }
    }
}

#[test]
fn nulls_inside_boxes_and_points_are_refused_by_name() {
    let holes = |count: usize| -> ArrayRef {
        let numbers = (0..count).map(|i| (i != 5).then_some(1.0));
        Arc::new(numbers.collect::<Float32Array>())
    };
    for (message, column) in [(0, "bbox"), (1, "box"), (2, "bbox")] {
        let error = refusal(message, column, fixed_list(holes(16), 4));
        assert_eq!(error, format!("`{column}` is null in row 1"));
    }
    let broken = with_column(&messages()[1], "points", nested(fixed_list(holes(8), 2)));
    let one_label = nested(Arc::new(Int8Array::from(vec![1; 4])));
    let broken = with_column(&broken, "labels", one_label);
    let error = prompts::decode(&broken).unwrap_err().to_string();
    assert_eq!(error, "`points` is null in row 2");
}

#[test]
fn a_crop_is_never_larger_than_its_pixels() {
    for side in [0, 16_385, u32::MAX] {
        let sides = Arc::new(UInt32Array::from(vec![side; 4]));
        let error = refusal(2, "width", sides);
        assert!(error.starts_with("`width` should be 1 to 16384"), "{error}");
    }
    // In 64 bits, 3 * width * height wraps round to 13.
    let wrapped = Crop {
        width: 2_900_561_549,
        height: 4_239_809_835,
        pixels: vec![0; 13],
        ..crop(0)
    };
    assert!(crops::decode(&crops::encode(&[wrapped])).is_err());
}

#[test]
fn a_keyframe_mark_of_another_type_is_refused_by_name() {
    let mut metadata = Metadata::default();
    ImageInfo::new(4, 2, PixelEncoding::Rgb8).write(&mut metadata);
    metadata.insert(keys::KEYFRAME, Value::Int(1));
    let error = ImageInfo::read(&metadata).unwrap_err().to_string();
    assert_eq!(error, "`keyframe` should be a bool, is an int");
}
