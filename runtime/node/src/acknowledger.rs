//! When which acknowledgements are sent: in groups, and none is held for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracklens_schemas::{Credit, FrameId, StreamId};

use crate::inbox::Inbox;

/// Acknowledgements that are not worth a message wait for so long after the last one.
const HELD: Duration = Duration::from_millis(400);

/// Decides for all inputs of a node.
#[derive(Debug)]
pub(crate) struct Acknowledger {
    window: u32,
    /// When inputs were last acknowledged.
    last: BTreeMap<String, Instant>,
    /// Inputs whose acknowledgements must be repeated: their senders resend what we have.
    repeat: BTreeSet<String>,
    /// Streams of which no frame comes any more: nothing is held.
    ending: BTreeSet<StreamId>,
}

impl Acknowledger {
    /// For a node that takes `window` frames at most before it acknowledges any.
    pub(crate) fn new(window: u32) -> Self {
        Self {
            window,
            last: BTreeMap::new(),
            repeat: BTreeSet::new(),
            ending: BTreeSet::new(),
        }
    }

    /// The acknowledgement of all frames up to this one.
    pub(crate) fn of(&self, id: FrameId) -> Credit {
        Credit {
            window: self.window,
            consumed: Some(id),
            shard: None,
        }
    }

    /// The sender of this input did not hear the last acknowledgement.
    pub(crate) fn repeat(&mut self, input: &str) {
        self.repeat.insert(input.into());
    }

    /// No frame of this stream comes any more. Returns whether that is new.
    pub(crate) fn ends(&mut self, stream: &StreamId) -> bool {
        self.ending.insert(stream.clone())
    }

    /// This stream is over, or begins anew.
    pub(crate) fn forget(&mut self, stream: &StreamId) {
        self.ending.remove(stream);
    }

    /// What is to be sent now, each with its input: what is worth a message or has been held for
    /// long; or `all`.
    pub(crate) fn take(
        &mut self,
        inboxes: &mut BTreeMap<String, Inbox>,
        all: bool,
        now: Instant,
    ) -> Vec<(String, Credit)> {
        let mut list = Vec::new();
        for (input, inbox) in inboxes {
            if self.repeat.remove(input) {
                let again = inbox.acknowledgements().into_iter();
                list.extend(again.map(|id| (input.clone(), self.of(id))));
            }
            let held = self.last.get(input);
            let long = held.is_none_or(|at| now.saturating_duration_since(*at) >= HELD);
            let new = inbox.take_acknowledgements(all || long || !self.ending.is_empty());
            if !new.is_empty() {
                self.last.insert(input.clone(), now);
            }
            list.extend(new.into_iter().map(|id| (input.clone(), self.of(id))));
        }
        list
    }

    /// All that an input has to acknowledge, sent before or not.
    pub(crate) fn take_everything(&self, inbox: &mut Inbox) -> Vec<Credit> {
        let _among_all = inbox.take_acknowledgements(true);
        let all = inbox.acknowledgements().into_iter();
        all.map(|id| self.of(id)).collect()
    }

    /// When something will have been held for long enough.
    pub(crate) fn due(&self, inboxes: &BTreeMap<String, Inbox>, now: Instant) -> Option<Instant> {
        let held = inboxes
            .iter()
            .filter(|(_, inbox)| inbox.unacknowledged() > 0);
        let last = held.map(|(input, _)| self.last.get(input));
        last.map(|at| at.map_or(now, |at| *at + HELD)).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::{Epoch, FrameIndex};

    fn frame(index: u64) -> FrameId {
        FrameId {
            stream: "clip".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(index),
        }
    }

    /// An input that has taken frame 0 and told so, whose sender has eight on their way.
    fn begun(now: Instant) -> (Acknowledger, BTreeMap<String, Inbox>) {
        let mut inboxes = BTreeMap::from([("frames".to_string(), Inbox::new(true))]);
        let mut acknowledger = Acknowledger::new(8);
        inboxes.get_mut("frames").unwrap().window_is(8);
        finish(&mut inboxes, 0);
        assert_eq!(told(acknowledger.take(&mut inboxes, false, now)), [0]);
        (acknowledger, inboxes)
    }

    fn finish(inboxes: &mut BTreeMap<String, Inbox>, index: u64) {
        let inbox = inboxes.get_mut("frames").unwrap();
        inbox.arrive(&frame(index), false);
        inbox.done(&frame(index));
    }

    fn told(list: Vec<(String, Credit)>) -> Vec<u64> {
        let consumed = list.into_iter().filter_map(|(_, credit)| credit.consumed);
        consumed.map(|id| id.frame.0).collect()
    }

    #[test]
    fn frames_are_acknowledged_in_groups_and_the_rest_after_a_while() {
        let start = Instant::now();
        let (mut acknowledger, mut inboxes) = begun(start);
        for index in 1..3 {
            finish(&mut inboxes, index);
            assert!(acknowledger.take(&mut inboxes, false, start).is_empty());
        }
        finish(&mut inboxes, 3);
        assert_eq!(told(acknowledger.take(&mut inboxes, false, start)), [3]);
        assert_eq!(acknowledger.due(&inboxes, start), None);
        finish(&mut inboxes, 4);
        assert_eq!(acknowledger.due(&inboxes, start), Some(start + HELD));
        let early = start + HELD / 2;
        assert!(acknowledger.take(&mut inboxes, false, early).is_empty());
        let late = start + HELD;
        assert_eq!(told(acknowledger.take(&mut inboxes, false, late)), [4]);
    }

    #[test]
    fn nothing_is_held_once_a_stream_ends() {
        let start = Instant::now();
        let (mut acknowledger, mut inboxes) = begun(start);
        let stream = frame(0).stream;
        assert!(acknowledger.ends(&stream));
        assert!(!acknowledger.ends(&stream));
        finish(&mut inboxes, 1);
        assert_eq!(told(acknowledger.take(&mut inboxes, false, start)), [1]);
        acknowledger.forget(&stream);
        finish(&mut inboxes, 2);
        assert!(acknowledger.take(&mut inboxes, false, start).is_empty());
    }

    #[test]
    fn a_sender_that_did_not_hear_is_told_again() {
        let start = Instant::now();
        let (mut acknowledger, mut inboxes) = begun(start);
        acknowledger.repeat("frames");
        assert_eq!(told(acknowledger.take(&mut inboxes, false, start)), [0]);
        assert!(acknowledger.take(&mut inboxes, false, start).is_empty());
        finish(&mut inboxes, 1);
        let inbox = inboxes.get_mut("frames").unwrap();
        assert_eq!(
            acknowledger.take_everything(inbox),
            [acknowledger.of(frame(1))]
        );
    }
}
