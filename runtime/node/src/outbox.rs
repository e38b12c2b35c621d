//! The sending half of flow control: what has been produced and is not yet acknowledged.
//!
//! Dora's queues drop when full and forget when a receiver dies, so every message that must arrive
//! stays here until all consumers have acknowledged it. Like a transport protocol's sender: a
//! window limits what is on its way, acknowledgements are cumulative per stream and epoch, and a
//! consumer that says `hello` (it has just started, or noticed a gap) gets everything again that it
//! has not acknowledged. Plain data and decisions, no I/O: the event loop does the sending.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tracklens_schemas::{Credit, Epoch, FrameId, FrameIndex, Header, Shard, StreamId};

/// What happens to a message when consumers cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// Wait for credit; keep until acknowledged.
    #[default]
    Reliable,
    /// Wait for credit, but only the newest unsent message of a stream waits: older ones are
    /// dropped. Nothing is sent twice.
    Newest,
    /// Send at once and forget.
    Free,
}

#[derive(Debug, Default)]
struct Consumer {
    ready: bool,
    gone: bool,
    window: usize,
    /// The part of all streams that it takes.
    shard: Option<Shard>,
    acknowledged: BTreeMap<StreamId, (Epoch, FrameIndex)>,
}

impl Consumer {
    fn takes(&self, stream: &StreamId) -> bool {
        self.shard.is_none_or(|shard| shard.owns(stream))
    }

    fn has(&self, id: &FrameId) -> bool {
        self.gone
            || !self.takes(&id.stream)
            || self
                .acknowledged
                .get(&id.stream)
                .is_some_and(|last| *last >= (id.epoch, id.frame))
    }
}

#[derive(Debug)]
struct Entry<P> {
    header: Header,
    parcel: P,
}

/// A message to be sent.
#[derive(Debug)]
pub struct Sending<'a, P> {
    /// Its header.
    pub header: &'a Header,
    /// What was kept of it.
    pub parcel: &'a P,
    /// Everything before it in its epoch is acknowledged: a receiver may begin here.
    pub start: bool,
    /// Messages on their way at most, over all streams; said where a receiver may not know it.
    pub window: Option<usize>,
}

/// The unacknowledged messages of one stream; the first `sent` of them are on their way.
#[derive(Debug)]
struct Lane<P> {
    entries: VecDeque<Entry<P>>,
    sent: usize,
}

impl<P> Default for Lane<P> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
        }
    }
}

/// Unacknowledged messages of all streams of one output.
#[derive(Debug)]
pub struct Outbox<P> {
    policy: Policy,
    /// What was asked for, and as much of it as there is room for.
    asked: usize,
    window: usize,
    /// What was said of it last.
    told: Option<usize>,
    consumers: BTreeMap<String, Consumer>,
    lanes: BTreeMap<StreamId, Lane<P>>,
    last_served: Option<StreamId>,
    finished: Vec<Header>,
    dropped: Vec<Header>,
}

impl<P> Outbox<P> {
    /// An outbox for the consumers named (the ids of the node's `credit_*` inputs).
    ///
    /// `window` bounds the messages on their way, over all streams; a consumer may ask for less.
    pub fn new(policy: Policy, window: usize, consumers: impl IntoIterator<Item = String>) -> Self {
        let window = window.max(1);
        Self {
            policy,
            asked: window,
            window,
            told: None,
            consumers: consumers
                .into_iter()
                .map(|name| (name, Consumer::default()))
                .collect(),
            lanes: BTreeMap::new(),
            last_served: None,
            finished: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// There is room for no more than so many messages on their way.
    pub fn limit(&mut self, most: usize) {
        self.window = self.asked.min(most).max(1);
    }

    /// Adds a message behind those of its stream.
    pub fn queue(&mut self, header: Header, parcel: P) {
        let lane = self.lanes.entry(header.id.stream.clone()).or_default();
        if self.policy == Policy::Newest {
            while lane.entries.len() > lane.sent {
                if let Some(stale) = lane.entries.pop_back() {
                    self.dropped.push(stale.header.clone());
                    self.finished.push(stale.header);
                }
            }
        }
        lane.entries.push_back(Entry { header, parcel });
    }

    /// Whether a producer should go on producing for this stream: fewer than a window's worth of
    /// its messages are unacknowledged.
    #[must_use]
    pub fn room(&self, stream: &StreamId) -> bool {
        self.lanes
            .get(stream)
            .is_none_or(|lane| lane.entries.len() < self.window)
    }

    /// Whether a slow consumer makes producers wait, rather than lose messages.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.policy == Policy::Reliable
    }

    /// Whether a message of this stream is still to be sent.
    #[must_use]
    pub fn is_waiting(&self, stream: &StreamId) -> bool {
        self.lanes
            .get(stream)
            .is_some_and(|lane| lane.sent < lane.entries.len())
    }

    /// Whether everything queued for this stream up to this epoch has been acknowledged.
    #[must_use]
    pub fn is_clear_up_to(&self, stream: &StreamId, epoch: Epoch) -> bool {
        self.lanes.get(stream).is_none_or(|lane| {
            lane.entries
                .front()
                .is_none_or(|oldest| oldest.header.id.epoch > epoch)
        })
    }

    /// Whether everything queued for this stream has been acknowledged.
    #[must_use]
    pub fn is_clear(&self, stream: &StreamId) -> bool {
        self.lanes
            .get(stream)
            .is_none_or(|lane| lane.entries.is_empty())
    }

    /// Whether everything queued has been acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.entries.is_empty())
    }

    /// Whether anything has been sent that is not acknowledged.
    #[must_use]
    pub fn is_any_on_its_way(&self) -> bool {
        self.lanes.values().any(|lane| lane.sent > 0)
    }

    /// Whether any consumer is left to wait for.
    #[must_use]
    pub fn has_consumers(&self) -> bool {
        self.consumers.values().any(|consumer| !consumer.gone)
    }

    /// The next message to send, marked as sent; streams take turns.
    ///
    /// `None` while nothing waits, a consumer has not said hello yet, or the windows of all consumers
    /// that take what waits are full.
    pub fn next_to_send(&mut self) -> Option<Sending<'_, P>> {
        let mut full = Vec::new();
        let mut window = self.window;
        if self.policy != Policy::Free {
            for consumer in self.consumers.values().filter(|c| !c.gone) {
                if !consumer.ready {
                    return None;
                }
                let lanes = self.lanes.iter();
                let on_their_way: usize = lanes
                    .filter(|(stream, lane)| lane.sent > 0 && consumer.takes(stream))
                    .map(|(_, lane)| lane.sent)
                    .sum();
                if on_their_way >= self.window.min(consumer.window) {
                    full.push(consumer);
                }
                window = window.min(consumer.window);
            }
        }
        let stream = self.next_stream(&full)?;
        self.last_served = Some(stream.clone());
        let lane = self.lanes.get_mut(&stream)?;
        lane.sent += 1;
        let entry = lane.entries.get(lane.sent - 1)?;
        let start = lane.sent == 1;
        let told = self.told.replace(window);
        Some(Sending {
            header: &entry.header,
            parcel: &entry.parcel,
            start,
            window: (start || told != Some(window)).then_some(window),
        })
    }

    /// The next stream of which something waits that none of the `full` consumers takes.
    fn next_stream(&self, full: &[&Consumer]) -> Option<StreamId> {
        let waiting = |(stream, lane): &(&StreamId, &Lane<P>)| {
            lane.sent < lane.entries.len() && !full.iter().any(|c| c.takes(stream))
        };
        let after = self.last_served.as_ref().and_then(|last| {
            self.lanes
                .range::<StreamId, _>((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded))
                .find(waiting)
        });
        after
            .or_else(|| self.lanes.iter().find(waiting))
            .map(|(stream, _)| stream.clone())
    }

    /// Takes in what a consumer says. Whether it had not been heard before, or was gone.
    pub fn credit(&mut self, consumer: &str, credit: &Credit) -> bool {
        let Some(known) = self.consumers.get_mut(consumer) else {
            return false;
        };
        let newcomer = known.gone || !known.ready;
        known.gone = false;
        known.window = credit.window.max(1) as usize;
        match &credit.consumed {
            Some(id) => {
                known.ready = true;
                let last = known
                    .acknowledged
                    .entry(id.stream.clone())
                    .or_insert((id.epoch, id.frame));
                *last = (*last).max((id.epoch, id.frame));
            }
            None => {
                known.ready = true;
                known.shard = credit.shard;
                self.rewind(consumer);
            }
        }
        newcomer
    }

    /// Every stream of which this consumer has not acknowledged all will be sent again from the
    /// oldest message kept (or, under [`Policy::Newest`], what was sent counts as lost). From the
    /// oldest, so that a consumer that knows nothing learns from [`Sending::start`] that none is
    /// missing before it.
    fn rewind(&mut self, consumer: &str) {
        let Some(consumer) = self.consumers.get(consumer) else {
            return;
        };
        let lanes = self.lanes.iter_mut();
        for (_, lane) in lanes.filter(|(stream, _)| consumer.takes(stream)) {
            if self.policy == Policy::Newest {
                for entry in lane.entries.drain(..lane.sent) {
                    self.finished.push(entry.header);
                }
                lane.sent = 0;
            } else if lane.entries.iter().any(|e| !consumer.has(&e.header.id)) {
                lane.sent = 0;
            }
        }
    }

    /// A consumer has exited and will not come back: nothing waits for it any more.
    pub fn consumer_gone(&mut self, consumer: &str) {
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.gone = true;
        }
    }

    /// Removes what needs keeping no longer and returns its headers: sent and acknowledged by all
    /// consumers, or dropped. To be called after sending and after credit.
    pub fn take_finished(&mut self) -> Vec<Header> {
        let consumers: Vec<&Consumer> = self.consumers.values().filter(|c| !c.gone).collect();
        for lane in self.lanes.values_mut() {
            // What a consumer acknowledges although it is to be sent again need not be sent again;
            // without consumers, sending is all there is to wait for.
            while lane.entries.front().is_some_and(|entry| {
                if self.policy == Policy::Free || consumers.is_empty() {
                    lane.sent > 0
                } else {
                    consumers.iter().all(|c| c.has(&entry.header.id))
                }
            }) {
                lane.sent = lane.sent.saturating_sub(1);
                if let Some(entry) = lane.entries.pop_front() {
                    self.finished.push(entry.header);
                }
            }
        }
        std::mem::take(&mut self.finished)
    }

    /// Headers of messages dropped since the last call, for counting ([`Policy::Newest`]).
    pub fn take_dropped(&mut self) -> Vec<Header> {
        std::mem::take(&mut self.dropped)
    }

    /// Forgets a stream that has ended, once it is clear.
    pub fn forget(&mut self, stream: &StreamId) {
        if self.is_clear(stream) {
            self.lanes.remove(stream);
            for consumer in self.consumers.values_mut() {
                consumer.acknowledged.remove(stream);
            }
        }
    }

    /// The streams that have unacknowledged messages.
    pub fn streams(&self) -> BTreeSet<&StreamId> {
        self.lanes
            .iter()
            .filter(|(_, lane)| !lane.entries.is_empty())
            .map(|(stream, _)| stream)
            .collect()
    }
}

#[cfg(test)]
mod tests;
