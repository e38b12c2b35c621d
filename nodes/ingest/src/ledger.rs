//! Messages of a broker between delivery and acknowledgement, across reconnects.
//!
//! A connection that breaks leaves behind messages that are being worked on. The broker delivers
//! them again, in the same order; they are known by what is in them, are not worked on twice, and are
//! acknowledged over the new connection once their first copy is done.

use std::collections::{BTreeMap, VecDeque};

/// Names a message as long as it is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivery(u64);

/// What a message that has just been delivered is.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivered<A> {
    /// New: to be worked on under this name.
    New(Delivery),
    /// Its first copy is still being worked on.
    InWork,
    /// Its first copy is done: to be acknowledged at once.
    Done(A),
}

#[derive(Debug)]
struct Entry<A> {
    fingerprint: u64,
    acker: A,
}

/// The messages that have been delivered; `A` is what acknowledges one.
#[derive(Debug)]
pub struct Ledger<A> {
    prefetch: usize,
    next: u64,
    in_work: BTreeMap<Delivery, Entry<A>>,
    /// The last that were acknowledged: the broker may not have heard.
    acknowledged: VecDeque<(Delivery, u64)>,
    /// Delivered before the connection broke, in order.
    before: VecDeque<(Delivery, u64)>,
}

impl<A> Ledger<A> {
    /// An empty ledger for at most `prefetch` unacknowledged messages.
    #[must_use]
    pub fn new(prefetch: usize) -> Self {
        Self {
            prefetch: prefetch.max(1),
            next: 0,
            in_work: BTreeMap::new(),
            acknowledged: VecDeque::new(),
            before: VecDeque::new(),
        }
    }

    /// A message has been delivered. `redelivered` is the broker's word for "not for the first
    /// time"; the fingerprint covers everything in the message.
    pub fn deliver(&mut self, fingerprint: u64, redelivered: bool, acker: A) -> Delivered<A> {
        let known = self
            .before
            .iter()
            .position(|(_, before)| redelivered && *before == fingerprint)
            .and_then(|at| self.before.remove(at));
        if let Some((delivery, _)) = known {
            return match self.in_work.get_mut(&delivery) {
                Some(entry) => {
                    entry.acker = acker;
                    Delivered::InWork
                }
                None => {
                    self.remember(delivery, fingerprint);
                    Delivered::Done(acker)
                }
            };
        }
        let delivery = Delivery(self.next);
        self.next += 1;
        self.in_work.insert(delivery, Entry { fingerprint, acker });
        Delivered::New(delivery)
    }

    /// The work on a message is done: what acknowledges it.
    pub fn done(&mut self, delivery: Delivery) -> Option<A> {
        let entry = self.in_work.remove(&delivery)?;
        self.remember(delivery, entry.fingerprint);
        Some(entry.acker)
    }

    /// Keeps in mind a message that was acknowledged over this connection, unless it is one that
    /// has yet to come again.
    fn remember(&mut self, delivery: Delivery, fingerprint: u64) {
        if self.before.iter().any(|(before, _)| *before == delivery) {
            return;
        }
        self.acknowledged.push_back((delivery, fingerprint));
        if self.acknowledged.len() > self.prefetch {
            self.acknowledged.pop_front();
        }
    }

    /// The connection has broken: what was delivered over it will come again.
    pub fn disconnected(&mut self) {
        let in_work = self
            .in_work
            .iter()
            .map(|(delivery, entry)| (*delivery, entry.fingerprint));
        // What has not come again since the last break may still come.
        let mut before: Vec<(Delivery, u64)> = self
            .before
            .drain(..)
            .chain(self.acknowledged.drain(..))
            .chain(in_work)
            .collect();
        before.sort_by_key(|(delivery, _)| *delivery);
        before.dedup();
        let kept = before.len().saturating_sub(4 * self.prefetch);
        self.before = before.split_off(kept).into();
    }

    /// Messages that are being worked on.
    #[must_use]
    pub fn in_work(&self) -> usize {
        self.in_work.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_in_work_is_not_worked_on_twice() {
        let mut ledger = Ledger::new(8);
        let Delivered::New(first) = ledger.deliver(1, false, "old") else {
            panic!("new");
        };
        ledger.disconnected();
        assert_eq!(ledger.deliver(1, true, "new"), Delivered::InWork);
        assert_eq!(ledger.done(first), Some("new"));
        assert_eq!(ledger.in_work(), 0);
    }

    #[test]
    fn what_was_done_is_acknowledged_again() {
        let mut ledger = Ledger::new(8);
        let Delivered::New(first) = ledger.deliver(1, false, "old") else {
            panic!("new");
        };
        ledger.done(first);
        ledger.disconnected();
        assert_eq!(ledger.deliver(1, true, "new"), Delivered::Done("new"));
        // The same bytes as a new message are a new message.
        assert!(matches!(ledger.deliver(1, false, "new"), Delivered::New(_)));
    }

    proptest! {
        /// A broker with a queue of messages, some alike; connections that break at any time, with
        /// acknowledgements lost on the way; a worker that finishes in any order.
        #[test]
        fn every_message_is_worked_on_once(
            messages in prop::collection::vec(0u64..5, 1..40),
            steps in prop::collection::vec((0u8..4, any::<u16>()), 0..200),
        ) {
            const PREFETCH: usize = 6;
            // The broker: (fingerprint, delivered before); `out` are unacknowledged, by index.
            let mut queue: VecDeque<(usize, bool)> = (0..messages.len()).map(|at| (at, false)).collect();
            let mut out: VecDeque<usize> = VecDeque::new();
            // Acknowledgements are on their way: the broker will not hear them before the break.
            let mut deaf = false;
            let mut ledger: Ledger<usize> = Ledger::new(PREFETCH);
            let mut working: Vec<Delivery> = Vec::new();
            let mut worked = 0;
            let end = std::iter::repeat_n([(0u8, 0u16), (1, 0)], 4 * messages.len()).flatten();
            for (step, number) in steps.into_iter().chain([(3, 0)]).chain(end) {
                match step {
                    0 if out.len() < PREFETCH => {
                        if let Some((at, again)) = queue.pop_front() {
                            out.push_back(at);
                            match ledger.deliver(messages[at], again, at) {
                                Delivered::New(delivery) => { worked += 1; working.push(delivery); }
                                Delivered::InWork => {}
                                Delivered::Done(_) if deaf => {}
                                Delivered::Done(acked) => out.retain(|other| *other != acked),
                            }
                        }
                    }
                    1 | 2 if !working.is_empty() => {
                        deaf |= step == 2;
                        let delivery = working.remove(number as usize % working.len());
                        if let Some(acked) = ledger.done(delivery) && !deaf {
                            out.retain(|other| *other != acked);
                        }
                    }
                    3 => {
                        for at in out.drain(..).rev() {
                            queue.push_front((at, true));
                        }
                        deaf = false;
                        ledger.disconnected();
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(worked, messages.len());
        }
    }
}
