#![allow(clippy::unwrap_used)]
use super::*;
use std::sync::Arc;
use std::time::Duration;

use dora_node_api::DoraArray;
use dora_node_api::arrow_utils::encode_arrow_ipc;
use tracklens_schemas::arrow::array::{ArrayRef, UInt8Array};
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Mask, PixelEncoding, StreamEvent, StreamEventKind, TrackId,
    TrackState, TracksStatus,
};

fn record(output: &str, more: impl FnOnce(&mut Metadata), array: ArrayRef) -> Record {
    let header = Header {
        id: FrameId {
            stream: "door".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(7),
        },
        pts_ns: 40,
        capture_ns: 5_000_000_001,
    };
    let mut metadata = Metadata::default();
    header.write(&mut metadata);
    more(&mut metadata);
    Record {
        node: "n".into(),
        output: output.into(),
        offset: Duration::ZERO,
        parameters: tracklens_node::parameters_of(&metadata),
        payload: encode_arrow_ipc(&DoraArray::from(array)).unwrap(),
        position: 0,
        size: 0,
        verified: true,
    }
}

fn frame() -> Record {
    let info = ImageInfo::new(64, 32, PixelEncoding::Rgb8);
    let pixels = UInt8Array::from(vec![200; info.byte_len()]);
    record("frames", |metadata| info.write(metadata), Arc::new(pixels))
}

fn tracks_of_one() -> Record {
    let mask = Mask::from_runs(vec![0, 4, 28], 8, 4).unwrap();
    let track = Track {
        track_id: TrackId(3),
        bbox: BBox {
            x0: 0.0,
            y0: 0.0,
            x1: 1.0,
            y1: 4.0,
        },
        mask,
        area: 4,
        score: 0.5,
        visible: true,
        state: TrackState::Tracked,
        age: 2,
    };
    let info = TracksInfo {
        width: 8,
        height: 4,
        status: TracksStatus::Ok,
        processing_ms: 1.0,
        model: "m".into(),
    };
    record(
        "tracks",
        |metadata| info.write(metadata),
        tracks::encode(&[track]),
    )
}

#[test]
fn a_frame_becomes_a_picture_that_is_no_wider_than_asked_for() {
    let messages = Converter::new(32)
        .messages(&frame(), 7_000_000_009)
        .unwrap();
    let [message] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!(message.topic, "/door/n/frames");
    assert_eq!(message.sent, Some(5_000_000_001));
    assert_eq!(message.body["timestamp"], json!({"sec": 7, "nsec": 9}));
    let jpeg = STANDARD
        .decode(message.body["data"].as_str().unwrap())
        .unwrap();
    assert_eq!(jpeg[..3], [0xff, 0xd8, 0xff]);
}

#[test]
fn tracks_become_rows_and_what_can_be_drawn() {
    let messages = Converter::new(32).messages(&tracks_of_one(), 0).unwrap();
    let [rows, drawn] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!(rows.body["frame"], 7);
    assert_eq!(rows.body["tracks"][0]["track_id"], 3);
    assert_eq!(rows.body["tracks"][0]["mask"]["size"], json!([4, 8]));
    assert_eq!(drawn.topic, "/door/n/annotations");
    assert_eq!(
        drawn.body["points"][0]["points"][2],
        json!({"x": 1.0, "y": 4.0})
    );
    assert_eq!(drawn.body["texts"][0]["text"], "3");
}

#[test]
fn events_are_told_and_what_has_no_form_is_left_out_with_a_reason() {
    let event = StreamEvent {
        event: StreamEventKind::Opened,
        detail: "{}".into(),
    };
    let event = record("stream_events", |_| (), stream_events::encode(&[event]));
    let mut converter = Converter::new(32);
    let messages = converter.messages(&event, 0).unwrap();
    assert_eq!(messages[0].body["events"][0]["event"], "opened");
    let chunk = record("chunks", |_| (), Arc::new(UInt8Array::from(vec![1])));
    assert!(
        converter
            .messages(&chunk, 0)
            .unwrap_err()
            .contains("coded video")
    );
    let mut broken = frame();
    broken.output = "tracks".into();
    assert!(converter.messages(&broken, 0).is_err());
}

#[test]
fn every_schema_is_json_of_its_name() {
    for (name, schema) in [IMAGE, ANNOTATIONS, TRACKS, IDENTIFICATIONS, PROMPTS, EVENTS] {
        let schema: Value = serde_json::from_str(schema).unwrap();
        assert_eq!(schema["title"], name);
    }
}
