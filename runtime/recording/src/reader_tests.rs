#![allow(clippy::unwrap_used)]
use super::*;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use dora_message::metadata::Metadata;
use dora_node_api::DoraArray;
use dora_node_api::arrow_v59::array::UInt8Array;
use dora_recording::{FORMAT_VERSION, RecordingHeader, RecordingWriter};
use proptest::prelude::*;

use crate::event;

/// A recording of `count` frames of 3 kB, and where each of its records begins.
fn recording(count: u8) -> (Vec<u8>, Vec<u64>) {
    let header = RecordingHeader {
        version: FORMAT_VERSION,
        start_nanos: 5,
        dataflow_id: dora_node_api::uuid::Uuid::nil(),
        descriptor_yaml: b"nodes: []".to_vec(),
    };
    let mut bytes = Vec::new();
    let mut writer = RecordingWriter::new(&mut bytes, &header).unwrap();
    for number in 0..count {
        let parameters = MetadataParameters::from([
            ("stream_id".into(), Parameter::String("door".into())),
            ("frame".into(), Parameter::Integer(number.into())),
        ]);
        let clock = dora_message::uhlc::HLC::default();
        let metadata = Metadata::from_parameters(clock.new_timestamp(), parameters);
        let pixels = UInt8Array::from(vec![number; 3000]);
        let data = DoraArray::from(Arc::new(pixels) as dora_node_api::arrow_v59::array::ArrayRef);
        let offset = u64::from(number) * 40_000_000;
        let (node, output) = ("camera".parse().unwrap(), "frames".parse().unwrap());
        let entry = RecordEntry {
            node_id: "camera".into(),
            output_id: "frames".into(),
            timestamp_offset_nanos: offset,
            event_bytes: event(&node, &output, metadata, &data, offset).unwrap(),
        };
        writer.write_entry(&entry).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = Reader::new(Cursor::new(&bytes), "a.drec").unwrap();
    let mut begins = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        begins.push(record.position);
    }
    assert_eq!(reader.end(), Some(&End::Whole));
    (bytes, begins)
}

/// One that is a little over 100 kB.
fn long() -> &'static (Vec<u8>, Vec<u64>) {
    static LONG: OnceLock<(Vec<u8>, Vec<u64>)> = OnceLock::new();
    LONG.get_or_init(|| recording(36))
}

/// The frames that are read, and what is said then.
fn read(bytes: &[u8]) -> (u8, Option<String>) {
    let mut reader = match Reader::new(Cursor::new(bytes), "a.drec") {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error.to_string())),
    };
    let mut count = 0;
    loop {
        match reader.next() {
            Ok(Some(record)) => {
                assert_good(&record, count);
                count += 1;
            }
            Ok(None) => break,
            Err(fault) => {
                assert_eq!(fault.record, u64::from(count));
                assert!(reader.next().is_err(), "it stays at the fault");
                return (count, Some(fault.to_string()));
            }
        }
    }
    match reader.end().unwrap() {
        End::Whole => (count, None),
        End::Cut { reason, .. } => (count, Some(reason.clone())),
    }
}

fn assert_good(record: &Record, number: u8) {
    assert!(record.verified);
    assert_eq!((&*record.node, &*record.output), ("camera", "frames"));
    assert_eq!(record.offset.as_millis(), u128::from(number) * 40);
    assert_eq!(
        record.parameters["frame"],
        Parameter::Integer(number.into())
    );
    assert_eq!(record.parameters.len(), 2, "no checksum");
    let data = record.data().unwrap();
    let pixels: &[u8] = <&[u8]>::try_from(&data).unwrap();
    assert_eq!(pixels, vec![number; 3000]);
}

#[test]
fn what_was_written_is_read_and_the_end_is_seen() {
    let (bytes, _) = recording(3);
    assert_eq!(read(&bytes), (3, None));
    let reader = Reader::new(Cursor::new(&bytes), "a.drec").unwrap();
    assert_eq!(
        (reader.descriptor(), reader.start_nanos()),
        ("nodes: []", 5)
    );
}

#[test]
fn a_recording_that_is_cut_anywhere_is_read_up_to_the_cut() {
    let (bytes, begins) = long();
    let footer = bytes.len() - FOOTER as usize;
    assert!(bytes.len() > 100_000);
    for length in (bytes.len() - 100_000..bytes.len()).step_by(10) {
        let (count, reason) = read(&bytes[..length]);
        let whole = begins
            .iter()
            .skip(1)
            .filter(|begin| **begin <= length as u64)
            .count();
        let expected = if length >= footer {
            begins.len()
        } else {
            whole
        };
        assert_eq!(usize::from(count), expected, "cut at {length}");
        let reason = reason.unwrap();
        assert!(
            reason.contains("footer") || reason.contains("no whole record"),
            "{reason}"
        );
    }
}

#[test]
fn what_is_no_recording_of_this_version_is_refused_by_name() {
    let (bytes, _) = recording(1);
    let mut other = bytes.clone();
    other[8] = 9;
    for (bytes, expected) in [
        (&other[..], "version 9"),
        (b"nothing", "recording"),
        (b"", "recording"),
    ] {
        let error = Reader::new(Cursor::new(bytes), "a.drec")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("a.drec: ") && error.contains(expected),
            "{error}"
        );
    }
}

proptest! {
    /// Whatever byte behind the first record is changed, all before its record is read and the change
    /// is seen. (What shows that there are checksums at all is the first.)
    #[test]
    fn a_changed_byte_ends_the_recording_at_its_record(at in 0.0..1.0_f64, flip in 1..=255_u8) {
        let (bytes, begins) = long();
        let first = begins[1] as usize;
        let at = first + ((bytes.len() - FOOTER as usize - first) as f64 * at) as usize;
        let mut changed = bytes.clone();
        changed[at] ^= flip;
        let of = begins.iter().filter(|begin| **begin <= at as u64).count() - 1;
        let (count, reason) = read(&changed);
        // Dora's own time stamps and ids inside a record are not under the checksum: nothing uses them.
        let unused = reason.is_none() && usize::from(count) == begins.len();
        prop_assert!(unused || usize::from(count) == of || usize::from(count) == of + 1, "{count} of {of}");
        prop_assert!(unused || reason.is_some());
    }
}
