//! Kills at any step, with everything sent again that was not acknowledged.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tracklens_schemas::Header;
use tracklens_schemas::jsonl::write_track_row;

use super::*;
use crate::order::tests::{frames, header, track};

const ROOM: Room = Room {
    segment: 900,
    total: 1 << 20,
};

fn open(folder: &Path, resume: bool) -> (Outbox, Ledger) {
    Outbox::open(folder, "run", resume, ROOM).unwrap()
}

fn append(outbox: &mut Outbox, header: &Header, tracks: &[tracklens_schemas::Track]) {
    let mut lines = Vec::new();
    let mut rows = 0;
    for track in outbox.order().missing(&header.id, tracks) {
        write_track_row(&mut lines, header, track);
        rows += 1;
    }
    outbox.append(Some(&header.id), &lines, rows).unwrap();
}

/// What happens between two frames.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Confirm(prop::sample::Index),
    Disconnect,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..900).prop_map(Step::Read),
        3 => any::<prop::sample::Index>().prop_map(Step::Confirm),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every row is sent; whatever is sent a second time says so; the outbox ends empty.
    #[test]
    fn every_row_is_sent_and_only_marked_ones_twice(
        frames in frames(), steps in prop::collection::vec(prop::collection::vec(step(), 0..4), 14),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut outbox, mut ledger) = open(folder.path(), false);
        let mut sent: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        let mut unconfirmed: Vec<Row> = Vec::new();
        let take = |rows: Vec<Row>, sent: &mut BTreeMap<Vec<u8>, u32>| {
            for row in &rows {
                let times = sent.entry(row.text.clone()).or_default();
                *times += 1;
                assert!(*times == 1 || row.again, "twice, unmarked");
            }
            rows
        };
        for (index, (header, tracks)) in frames.iter().enumerate() {
            append(&mut outbox, header, tracks);
            ledger.extend(outbox.end());
            for step in &steps[index] {
                match step {
                    Step::Read(bytes) => {
                        unconfirmed.extend(take(ledger.read(*bytes).unwrap(), &mut sent));
                    }
                    Step::Confirm(count) if !unconfirmed.is_empty() => {
                        let count = count.index(unconfirmed.len()) + 1;
                        let last = unconfirmed.drain(..count).next_back().unwrap();
                        ledger.confirm(last.end, count as u64).unwrap();
                    }
                    Step::Confirm(_) => {}
                    Step::Disconnect => {
                        unconfirmed.clear();
                        ledger.rewind();
                    }
                    Step::Kill => {
                        unconfirmed.clear();
                        drop((outbox, ledger));
                        (outbox, ledger) = open(folder.path(), true);
                        for (header, tracks) in &frames[..=index] {
                            append(&mut outbox, header, tracks);
                        }
                        ledger.extend(outbox.end());
                    }
                }
            }
        }
        loop {
            let rows = take(ledger.read(500).unwrap(), &mut sent);
            let Some(last) = rows.last() else { break };
            let count = (unconfirmed.len() + rows.len()) as u64;
            unconfirmed.clear();
            ledger.confirm(last.end, count).unwrap();
        }
        let wanted: usize = frames.iter().map(|(_, tracks)| tracks.len()).sum();
        prop_assert_eq!(sent.len(), wanted);
        if unconfirmed.is_empty() {
            prop_assert!(ledger.is_clear());
            prop_assert_eq!(segments(folder.path()).unwrap().len(), 1);
        }
    }
}

#[test]
fn a_full_outbox_says_so_and_takes_rows_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let room = Room {
        segment: 300,
        total: 1200,
    };
    let (mut outbox, mut ledger) = Outbox::open(folder.path(), "run", false, room).unwrap();
    let line = [
        b"{\"stream_id\":\"cam\",\"epoch\":0,\"frame\":1,\"track_id\":1,\"x\":\"",
        &[b'x'; 200][..],
        b"\"}\n",
    ]
    .concat();
    let mut taken = 0;
    let error = loop {
        match outbox.append(None, &line, 1) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10);
    };
    assert!(
        error.to_string().contains("raise AMQP_SINK_OUTBOX_MB"),
        "{error}"
    );
    ledger.extend(outbox.end());
    let mut read = 0;
    loop {
        let rows = ledger.read(1000).unwrap();
        let Some(last) = rows.last() else { break };
        assert!(rows.iter().all(|row| !row.again));
        read += rows.len();
        ledger.confirm(last.end, rows.len() as u64).unwrap();
    }
    assert!(read == taken && ledger.is_clear());
    outbox.append(None, &line, 1).unwrap();
}

#[test]
fn rows_of_an_earlier_run_are_sent_and_a_new_run_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (mut outbox, ledger) = open(folder.path(), false);
    append(&mut outbox, &header("cam", 0, 5), &[track(1)]);
    drop((outbox, ledger));
    let (mut outbox, mut ledger) = Outbox::open(folder.path(), "next", false, ROOM).unwrap();
    append(&mut outbox, &header("cam", 0, 0), &[track(1)]);
    ledger.extend(outbox.end());
    let mut rows = Vec::new();
    loop {
        let more = ledger.read(10_000).unwrap();
        if more.is_empty() {
            break;
        }
        rows.extend(more);
    }
    let runs: Vec<_> = rows.iter().map(|row| (&*row.run, row.again)).collect();
    assert_eq!(runs, [("run", true), ("next", false)]);
}
