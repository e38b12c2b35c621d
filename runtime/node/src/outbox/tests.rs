#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tracklens_schemas::{Credit, Epoch, FrameId, FrameIndex, Header, StreamId};

use super::{Outbox, Policy};
use crate::inbox::{Arrival, Inbox};

fn header(stream: &str, frame: u64) -> Header {
    Header {
        id: FrameId {
            stream: stream.parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(frame),
        },
        pts_ns: 0,
        capture_ns: 0,
    }
}

fn hello() -> Credit {
    Credit {
        window: 100,
        consumed: None,
        shard: None,
    }
}

fn consumed(header: &Header) -> Credit {
    Credit {
        window: 100,
        consumed: Some(header.id.clone()),
        shard: None,
    }
}

fn frames(outbox: &mut Outbox<()>) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next_to_send().map(|s| s.header.id.frame.0)).collect()
}

fn outbox(policy: Policy, window: usize, consumers: &[&str]) -> Outbox<()> {
    Outbox::new(policy, window, consumers.iter().map(|c| (*c).to_string()))
}

#[test]
fn waits_for_hello_then_sends_a_window() {
    let mut outbox = outbox(Policy::Reliable, 3, &["credit_a"]);
    (0..5).for_each(|frame| outbox.queue(header("s", frame), ()));
    assert!(frames(&mut outbox).is_empty());
    outbox.credit("credit_a", &hello());
    assert_eq!(frames(&mut outbox), [0, 1, 2]);
    outbox.credit("credit_a", &consumed(&header("s", 1)));
    assert_eq!(outbox.take_finished().len(), 2);
    assert_eq!(frames(&mut outbox), [3, 4]);
}

#[test]
fn there_may_be_room_for_less_than_a_window() {
    let mut outbox = outbox(Policy::Reliable, 3, &["credit_a"]);
    (0..9).for_each(|frame| outbox.queue(header("s", frame), ()));
    outbox.credit("credit_a", &hello());
    let windows = |outbox: &mut Outbox<()>| -> Vec<Option<usize>> {
        std::iter::from_fn(|| outbox.next_to_send().map(|sending| sending.window)).collect()
    };
    outbox.limit(0);
    assert_eq!(windows(&mut outbox), [Some(1)], "one is always sent");
    outbox.limit(2);
    assert_eq!(windows(&mut outbox), [Some(2)], "a change is told");
    outbox.limit(100);
    assert_eq!(windows(&mut outbox), [Some(3)], "not more than asked for");
    outbox.credit("credit_a", &consumed(&header("s", 0)));
    assert_eq!(outbox.take_finished().len(), 1);
    assert_eq!(windows(&mut outbox), [None], "told already");
    outbox.limit(2);
    outbox.credit("credit_a", &consumed(&header("s", 1)));
    assert_eq!(outbox.take_finished().len(), 1);
    assert!(
        frames(&mut outbox).is_empty(),
        "what was sent before counts"
    );
}

#[test]
fn the_slowest_consumer_decides() {
    let mut outbox = outbox(Policy::Reliable, 2, &["credit_a", "credit_b"]);
    outbox.credit("credit_a", &hello());
    outbox.credit("credit_b", &hello());
    (0..4).for_each(|frame| outbox.queue(header("s", frame), ()));
    assert_eq!(frames(&mut outbox), [0, 1]);
    outbox.credit("credit_a", &consumed(&header("s", 1)));
    assert!(outbox.take_finished().is_empty());
    assert!(frames(&mut outbox).is_empty());
    outbox.consumer_gone("credit_b");
    assert_eq!(outbox.take_finished().len(), 2);
    assert_eq!(frames(&mut outbox), [2, 3]);
}

#[test]
fn hello_repeats_what_that_consumer_has_not_acknowledged() {
    let mut outbox = outbox(Policy::Reliable, 8, &["credit_a", "credit_b"]);
    outbox.credit("credit_a", &hello());
    outbox.credit("credit_b", &hello());
    (0..4).for_each(|frame| outbox.queue(header("s", frame), ()));
    assert_eq!(frames(&mut outbox), [0, 1, 2, 3]);
    outbox.credit("credit_a", &consumed(&header("s", 2)));
    outbox.credit("credit_a", &hello());
    assert_eq!(frames(&mut outbox), [0, 1, 2, 3]);
    outbox.credit("credit_a", &consumed(&header("s", 3)));
    outbox.credit("credit_a", &hello());
    assert!(frames(&mut outbox).is_empty());
}

#[test]
fn streams_take_turns() {
    let mut outbox = outbox(Policy::Reliable, 8, &[]);
    for stream in ["a", "b"] {
        (0..2).for_each(|frame| outbox.queue(header(stream, frame), ()));
    }
    let order: Vec<String> = std::iter::from_fn(|| {
        outbox
            .next_to_send()
            .map(|s| s.header.id.stream.to_string())
    })
    .collect();
    assert_eq!(order, ["a", "b", "a", "b"]);
}

#[test]
fn without_consumers_everything_is_finished_once_sent() {
    let mut outbox = outbox(Policy::Reliable, 1, &[]);
    (0..3).for_each(|frame| outbox.queue(header("s", frame), ()));
    assert_eq!(frames(&mut outbox).len(), 3);
    assert_eq!(outbox.take_finished().len(), 3);
    assert!(outbox.is_empty());
}

#[test]
fn live_keeps_only_the_newest_waiting_frame() {
    let mut outbox = outbox(Policy::Newest, 1, &["credit_a"]);
    outbox.credit("credit_a", &hello());
    (0..3).for_each(|frame| outbox.queue(header("s", frame), ()));
    assert_eq!(frames(&mut outbox), [2]);
    (3..6).for_each(|frame| outbox.queue(header("s", frame), ()));
    assert!(frames(&mut outbox).is_empty());
    outbox.credit("credit_a", &consumed(&header("s", 2)));
    outbox.take_finished();
    assert_eq!(frames(&mut outbox), [5]);
    let dropped: Vec<u64> = outbox.take_dropped().iter().map(|h| h.id.frame.0).collect();
    assert_eq!(dropped, [0, 1, 3, 4]);
}

/// What may happen between a sender and a receiver, in any order.
#[derive(Clone, Debug)]
enum Step {
    Send,
    /// The receiver takes the oldest message on its way.
    Receive,
    /// The oldest message on its way is lost.
    Lose,
    /// The receiver finishes its oldest open frame and acknowledges.
    Finish,
    /// The receiver is killed; it comes back knowing nothing.
    Kill,
    /// The receiver has been idle: it says hello again.
    Hello,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Send),
        4 => Just(Step::Receive),
        1 => Just(Step::Lose),
        3 => Just(Step::Finish),
        1 => Just(Step::Kill),
        1 => Just(Step::Hello),
    ]
}

proptest! {
    /// Whatever is lost or killed: each frame is finished at least once, in order, and what the
    /// sender forgets has been finished.
    #[test]
    fn nothing_is_lost_between_outbox_and_inbox(
        steps in prop::collection::vec(step(), 0..200),
        total in 1u64..20,
        window in 1usize..6,
    ) {
        let stream: StreamId = "s".parse().unwrap();
        let mut outbox: Outbox<()> =
            Outbox::new(Policy::Reliable, window, ["credit_a".to_string()]);
        let mut inbox = Inbox::new(true);
        let mut on_their_way: Vec<(FrameId, bool)> = Vec::new();
        let mut open: Vec<FrameId> = Vec::new();
        let mut finished: Vec<u64> = Vec::new();
        (0..total).for_each(|frame| outbox.queue(header("s", frame), ()));
        outbox.credit("credit_a", &hello());

        let mut apply = |step: Step, outbox: &mut Outbox<()>| {
            match step {
                Step::Send => {
                    if let Some(sending) = outbox.next_to_send() {
                        on_their_way.push((sending.header.id.clone(), sending.start));
                    }
                }
                Step::Receive if !on_their_way.is_empty() => {
                    let (id, start) = on_their_way.remove(0);
                    inbox.window_is(window);
                    match inbox.arrive(&id, start) {
                        Arrival::New => open.push(id),
                        Arrival::Duplicate => {
                            for id in inbox.acknowledgements() {
                                outbox.credit("credit_a", &Credit { window: 100, consumed: Some(id), shard: None });
                            }
                        }
                        Arrival::Gap => {
                            outbox.credit("credit_a", &hello());
                        }
                    }
                }
                Step::Lose if !on_their_way.is_empty() => {
                    on_their_way.remove(0);
                }
                Step::Finish if !open.is_empty() => {
                    let id = open.remove(0);
                    inbox.done(&id);
                    finished.push(id.frame.0);
                    for id in inbox.take_acknowledgements(false) {
                        outbox.credit("credit_a", &Credit { window: 100, consumed: Some(id), shard: None });
                    }
                }
                Step::Kill => {
                    open.clear();
                    inbox = Inbox::new(true);
                    on_their_way.clear();
                    outbox.credit("credit_a", &hello());
                }
                Step::Hello if open.is_empty() => {
                    for id in inbox.take_acknowledgements(true) {
                        outbox.credit("credit_a", &Credit { window: 100, consumed: Some(id), shard: None });
                    }
                    outbox.credit("credit_a", &hello());
                }
                _ => {}
            }
            for header in outbox.take_finished() {
                assert!(finished.contains(&header.id.frame.0), "forgot an unfinished frame");
            }
        };

        for step in steps {
            apply(step, &mut outbox);
        }
        // Left alone, everything arrives: first what is still on its way, as much as may be.
        for _ in 0..200 {
            apply(Step::Receive, &mut outbox);
            apply(Step::Finish, &mut outbox);
        }
        for _ in 0..4 * total {
            for step in [Step::Hello, Step::Send, Step::Receive, Step::Finish] {
                apply(step, &mut outbox);
            }
        }
        prop_assert!(outbox.is_clear(&stream));
        for frame in 0..total {
            prop_assert!(finished.contains(&frame));
        }
        for pair in finished.windows(2) {
            prop_assert!(pair[1] <= pair[0] + 1, "skipped a frame: {finished:?}");
        }
    }
}

#[test]
fn a_consumer_that_is_stuck_holds_back_only_its_own_part_of_the_streams() {
    let part = |index: u32| Credit {
        shard: Some(format!("{index}/2").parse().unwrap()),
        ..hello()
    };
    let mut outbox = outbox(Policy::Reliable, 2, &["credit_a", "credit_b"]);
    outbox.credit("credit_a", &part(0));
    outbox.credit("credit_b", &part(1));
    let names: Vec<String> = (0..8).map(|at| format!("camera-{at}")).collect();
    for frame in 0..4 {
        names
            .iter()
            .for_each(|name| outbox.queue(header(name, frame), ()));
    }
    let of_b = |stream: &StreamId| part(1).shard.is_some_and(|shard| shard.owns(stream));
    let mut seen = 0;
    // The first never acknowledges anything.
    loop {
        let sent: Vec<Header> =
            std::iter::from_fn(|| outbox.next_to_send().map(|s| s.header.clone())).collect();
        let taken: Vec<&Header> = sent.iter().filter(|h| of_b(&h.id.stream)).collect();
        if taken.is_empty() {
            break;
        }
        for header in taken {
            outbox.credit("credit_b", &consumed(header));
            seen += 1;
        }
        outbox.take_finished();
    }
    let streams_of_b = names.iter().filter(|name| of_b(&name.parse().unwrap()));
    assert_eq!(seen, 4 * streams_of_b.count());
    assert_eq!(
        outbox.lanes.values().map(|lane| lane.sent).sum::<usize>(),
        2
    );
}
