//! The recorder as a consumer that takes part in credit: what it has written, and what it must be sent
//! again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracklens_node::{Arrival, Inbox};
use tracklens_schemas::{Credit, FrameId};

/// Frames on their way to the recorder; fewer than its queue holds, more than any sender sends.
const WINDOW: u32 = 64;
/// So many frames are worth an acknowledgement while others wait.
const WORTH: u64 = 2;
/// A silent sender is asked for what was lost on the way.
const IDLE: Duration = Duration::from_secs(1);

struct Receipt {
    inbox: Inbox,
    last: Option<Instant>,
    /// Something has been lost, or comes for the second time.
    hello: bool,
    repeat: bool,
}

/// The inputs on which credit is given.
#[derive(Default)]
pub struct Receipts(BTreeMap<String, Receipt>);

impl Receipts {
    /// For inputs of lossless edges.
    pub fn new(inputs: impl IntoIterator<Item = String>) -> Self {
        let receipt = || Receipt {
            inbox: Inbox::new(true),
            last: None,
            hello: true,
            repeat: false,
        };
        Self(inputs.into_iter().map(|id| (id, receipt())).collect())
    }

    /// Takes note of a frame: whether it is to be written. One that has been written already, or before
    /// which one is missing, is not: it comes again.
    pub fn arrive(&mut self, input: &str, id: &FrameId, start: bool, now: Instant) -> bool {
        let Some(receipt) = self.0.get_mut(input) else {
            return true;
        };
        receipt.last = Some(now);
        match receipt.inbox.arrive(id, start) {
            Arrival::New => {
                receipt.inbox.done(id);
                return true;
            }
            Arrival::Duplicate => receipt.repeat = true,
            Arrival::Gap => receipt.hello = true,
        }
        false
    }

    /// What is to be said to the senders, by input; `idle`: nothing else is to be done.
    pub fn due(&mut self, idle: bool, now: Instant) -> Vec<(String, Credit)> {
        let mut due = Vec::new();
        for (input, receipt) in &mut self.0 {
            let Receipt { inbox, last, .. } = receipt;
            let silent = last.is_none_or(|at| now.duration_since(at) >= IDLE);
            let hello = std::mem::take(&mut receipt.hello) || (idle && silent);
            let repeat = std::mem::take(&mut receipt.repeat) || hello;
            let ids = match repeat {
                _ if idle || repeat || inbox.unacknowledged() >= WORTH => {
                    let mut ids = inbox.take_acknowledgements(true);
                    if repeat {
                        ids = inbox.acknowledgements();
                    }
                    ids
                }
                _ => Vec::new(),
            };
            let consumed = ids.into_iter().map(Some).chain(hello.then_some(None));
            due.extend(consumed.map(|consumed| (input.clone(), credit(consumed))));
            if hello {
                *last = Some(now);
            }
        }
        due
    }
}

fn credit(consumed: Option<FrameId>) -> Credit {
    Credit {
        window: WINDOW,
        consumed,
        shard: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::{Epoch, FrameIndex};

    fn frame(number: u64) -> FrameId {
        FrameId {
            stream: "a".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(number),
        }
    }

    #[test]
    fn frames_are_written_once_and_in_order_and_what_is_lost_is_asked_for() {
        let now = Instant::now();
        let mut receipts = Receipts::new(["f".to_string()]);
        let said = |due: Vec<(String, Credit)>| -> Vec<Option<u64>> {
            let frames = due.into_iter().map(|(_, credit)| credit.consumed);
            frames.map(|id| id.map(|id| id.frame.0)).collect()
        };
        assert_eq!(said(receipts.due(false, now)), [None], "hello");
        assert!(receipts.arrive("f", &frame(0), true, now));
        assert!(receipts.arrive("f", &frame(1), false, now));
        assert_eq!(said(receipts.due(true, now)), [Some(1)]);
        assert!(!receipts.arrive("f", &frame(3), false, now), "a gap");
        assert_eq!(said(receipts.due(false, now)), [Some(1), None]);
        assert!(!receipts.arrive("f", &frame(1), false, now), "again");
        assert!(receipts.arrive("f", &frame(2), false, now));
        assert!(receipts.arrive("f", &frame(3), false, now));
        assert_eq!(said(receipts.due(false, now)), [Some(3)]);
        assert!(receipts.due(true, now).is_empty());
        assert_eq!(said(receipts.due(true, now + IDLE)), [Some(3), None]);
    }

    #[test]
    fn other_inputs_are_written_as_they_come() {
        let mut receipts = Receipts::default();
        assert!(receipts.arrive("f", &frame(7), false, Instant::now()));
        assert!(receipts.due(true, Instant::now()).is_empty());
    }
}
