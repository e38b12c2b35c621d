#![allow(clippy::unwrap_used)]
use super::*;
use dora_node_api::DoraArray;
use dora_node_api::arrow_utils::encode_arrow_ipc;
use std::sync::Arc;
use tracklens_schemas::arrow::array::UInt8Array;

fn record(output: &str, of: (u32, u64), offset: u64, array: ArrayRef) -> Record {
    let parameters = MetadataParameters::from([
        (keys::STREAM_ID.to_string(), Parameter::String("a".into())),
        (keys::EPOCH.to_string(), Parameter::Integer(of.0.into())),
        (keys::FRAME.to_string(), Parameter::Integer(of.1 as i64)),
        (keys::PTS_NS.to_string(), Parameter::Integer(0)),
        (keys::CAPTURE_NS.to_string(), Parameter::Integer(0)),
    ]);
    Record {
        node: "camera".into(),
        output: output.into(),
        offset: Duration::from_millis(offset),
        parameters,
        payload: encode_arrow_ipc(&DoraArray::from(array)).unwrap().to_vec(),
        position: 0,
        size: 0,
        verified: true,
    }
}

fn frame(of: (u32, u64), offset: u64) -> Record {
    record(
        "frames",
        of,
        offset,
        Arc::new(UInt8Array::from(vec![1, 2, 3])),
    )
}

fn event(kind: StreamEventKind, of: (u32, u64), offset: u64) -> Record {
    let event = StreamEvent {
        event: kind,
        detail: String::new(),
    };
    record("stream_events", of, offset, stream_events::encode(&[event]))
}

fn script(from: u64, stream: Option<&str>) -> Script {
    let from = Duration::from_millis(from);
    let stream = stream.map(|id| id.parse().unwrap());
    Script::new("camera", Some("frames".into()), from, stream)
}

/// What comes out, in short: `0/3` is a frame, with its epoch.
fn play(script: &mut Script, records: &[Record]) -> Vec<String> {
    let steps = records
        .iter()
        .flat_map(|record| script.steps(record).unwrap());
    let steps: Vec<Step> = steps.collect();
    steps.iter().chain(&script.end()).map(told).collect()
}

fn told(step: &Step) -> String {
    let at = |header: &Header| format!("{}/{}", header.id.epoch.0, header.id.frame.0);
    match step {
        Step::Frame(header, parcel) => {
            assert_eq!(parcel.array.len(), 3);
            let (sent, _) = header_of(&parcel.parameters).unwrap();
            assert_eq!(at(&sent), at(header), "the epoch is that of the metadata");
            at(header)
        }
        Step::Free(parcel) => parcel.output.clone(),
        Step::Event(header, event) => format!("{} {}", event.event.as_str(), at(header)),
    }
}

use StreamEventKind::{Closed, Exhausted, Opened};

#[test]
fn what_was_sent_again_is_played_once() {
    let records = [
        event(Opened, (0, 0), 0),
        frame((0, 0), 1),
        event(Opened, (0, 0), 2),
        frame((0, 1), 3),
        frame((0, 0), 4),
        frame((0, 2), 5),
        event(Closed, (0, 3), 6),
        event(Closed, (0, 3), 7),
        event(Opened, (0, 0), 8),
        event(Exhausted, (0, 0), 9),
    ];
    let expected = ["opened 0/0", "0/0", "0/1", "0/2", "closed 0/3"];
    assert_eq!(play(&mut script(0, None), &records), expected);
}

#[test]
fn a_recording_that_breaks_off_is_closed_and_the_next_round_has_epochs_of_its_own() {
    let records = [event(Opened, (2, 0), 0), frame((2, 0), 1), frame((2, 1), 2)];
    let mut script = script(0, None);
    let first = ["opened 2/0", "2/0", "2/1", "closed 2/2"];
    assert_eq!(play(&mut script, &records), first);
    let second = ["opened 5/0", "5/0", "5/1", "closed 5/2"];
    assert_eq!(play(&mut script, &records), second);
}

#[test]
fn from_a_time_on_frames_are_played_of_streams_that_were_opened_before() {
    let records = [
        event(Opened, (0, 0), 0),
        frame((0, 0), 10),
        frame((0, 1), 20),
    ];
    let expected = ["opened 0/0", "0/1", "closed 0/2"];
    assert_eq!(play(&mut script(15, None), &records), expected);
}

#[test]
fn one_stream_can_be_played_alone_and_other_outputs_wait_for_nothing() {
    let mut other = frame((0, 0), 0);
    let name = Parameter::String("b".into());
    other.parameters.insert(keys::STREAM_ID.into(), name);
    let mut crops = frame((0, 0), 0);
    crops.output = "crops".into();
    let mut strange = frame((0, 0), 0);
    strange.parameters.clear();
    let records = [other, frame((0, 0), 0), crops, strange];
    let expected = ["0/0", "crops", "frames", "closed 0/1"];
    assert_eq!(play(&mut script(0, Some("a")), &records), expected);
}

#[test]
fn a_payload_that_is_none_is_a_fault() {
    let mut broken = frame((0, 0), 0);
    broken.payload.truncate(7);
    assert!(script(0, None).steps(&broken).is_err());
}
