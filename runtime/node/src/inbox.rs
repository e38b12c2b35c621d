//! The receiving half of flow control, for one input: what has been seen, what is still being
//! worked on, and therefore what can be acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use tracklens_schemas::{Epoch, FrameId, FrameIndex, StreamId};

/// What a message that has just come in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// New and in order.
    New,
    /// Seen before, or of an epoch that is over: not to be handled again.
    Duplicate,
    /// Messages before it are missing: it is not taken, the sender must repeat.
    Gap,
}

#[derive(Debug)]
struct Cursor {
    epoch: Epoch,
    /// Last frame seen in this epoch.
    seen: Option<FrameIndex>,
    /// Last acknowledgement sent.
    acknowledged: Option<FrameIndex>,
    /// Seen and not done.
    open: BTreeSet<FrameIndex>,
}

/// Cursors of all streams on one input.
#[derive(Debug)]
pub struct Inbox {
    strict: bool,
    /// Messages that the sender has on their way at most; `None`: it has not said.
    window: Option<usize>,
    cursors: BTreeMap<StreamId, Cursor>,
}

impl Inbox {
    /// `strict`: frames of an epoch must come without gaps (lossless edges).
    #[must_use]
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            window: None,
            cursors: BTreeMap::new(),
        }
    }

    /// The sender has at most so many messages on their way, over all streams.
    pub fn window_is(&mut self, window: usize) {
        self.window = Some(window);
    }

    /// How many messages the sender has on their way at most, if it has said so.
    #[must_use]
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// Takes note of a message. `start`: the sender says that everything before it has been
    /// acknowledged, so a receiver that knows nothing of the epoch may begin with it.
    pub fn arrive(&mut self, id: &FrameId, start: bool) -> Arrival {
        let cursor = self
            .cursors
            .entry(id.stream.clone())
            .or_insert_with(|| Cursor::new(id.epoch));
        if id.epoch < cursor.epoch {
            return Arrival::Duplicate;
        }
        if id.epoch > cursor.epoch {
            *cursor = Cursor::new(id.epoch);
        }
        if let Some(seen) = cursor.seen {
            if id.frame <= seen {
                return Arrival::Duplicate;
            }
            if self.strict && !start && id.frame.0 != seen.0 + 1 {
                return Arrival::Gap;
            }
        } else if self.strict && !start && id.frame.0 != 0 {
            return Arrival::Gap;
        }
        cursor.seen = Some(id.frame);
        cursor.open.insert(id.frame);
        Arrival::New
    }

    /// The node has finished with this frame, in whatever order.
    pub fn done(&mut self, id: &FrameId) {
        if let Some(cursor) = self.cursor(id) {
            cursor.open.remove(&id.frame);
        }
    }

    fn cursor(&mut self, id: &FrameId) -> Option<&mut Cursor> {
        self.cursors
            .get_mut(&id.stream)
            .filter(|cursor| cursor.epoch == id.epoch)
    }

    /// The last frame seen of a stream and its epoch.
    #[must_use]
    pub fn seen(&self, stream: &StreamId) -> Option<(Epoch, FrameIndex)> {
        let cursor = self.cursors.get(stream)?;
        Some((cursor.epoch, cursor.seen?))
    }

    /// Frames that were seen and are not done, over all streams.
    #[must_use]
    pub fn open(&self) -> usize {
        self.cursors.values().map(|cursor| cursor.open.len()).sum()
    }

    /// How many frames could be acknowledged that have not been.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        self.cursors
            .values()
            .filter_map(|cursor| {
                let done = cursor.done()?;
                Some(match cursor.acknowledged {
                    Some(last) => done.0.saturating_sub(last.0),
                    None => 1,
                })
            })
            .sum()
    }

    /// New acknowledgements, one per stream whose position moved since the last call; `all`: also
    /// those that are not worth a message yet.
    ///
    /// Worth a message is half of the sender's window, shared by the streams. It is counted from
    /// frame 0, so that all nodes wait for the same frames and never for each other.
    pub fn take_acknowledgements(&mut self, all: bool) -> Vec<FrameId> {
        let mut list = Vec::new();
        let share = self.window.unwrap_or(0) / 2 / self.cursors.len().max(1);
        let worth = 1_u64 << share.max(1).ilog2();
        let parts = |frame: Option<FrameIndex>| frame.map_or(0, |frame| (frame.0 + 1) / worth);
        for (stream, cursor) in &mut self.cursors {
            let done = cursor.done();
            if done > cursor.acknowledged && (all || parts(done) > parts(cursor.acknowledged)) {
                cursor.acknowledged = done;
                list.extend(cursor.position(stream));
            }
        }
        list
    }

    /// The last acknowledgement of every stream, to be repeated to a sender that restarted or
    /// resent what it need not have.
    #[must_use]
    pub fn acknowledgements(&self) -> Vec<FrameId> {
        self.cursors
            .iter()
            .filter_map(|(stream, cursor)| cursor.position(stream))
            .collect()
    }

    /// Forgets the streams that have ended and of which all is acknowledged.
    pub fn forget_ended(&mut self, is_over: impl Fn(&StreamId, Epoch) -> bool) {
        self.cursors.retain(|stream, cursor| {
            let settled = cursor.open.is_empty() && cursor.acknowledged == cursor.seen;
            !(settled && is_over(stream, cursor.epoch))
        });
    }
}

impl Cursor {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            seen: None,
            acknowledged: None,
            open: BTreeSet::new(),
        }
    }

    /// Every frame up to and including this one is done.
    fn done(&self) -> Option<FrameIndex> {
        match self.open.first() {
            Some(first) => first.0.checked_sub(1).map(FrameIndex),
            None => self.seen,
        }
    }

    fn position(&self, stream: &StreamId) -> Option<FrameId> {
        Some(FrameId {
            stream: stream.clone(),
            epoch: self.epoch,
            frame: self.acknowledged?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What is acknowledged after each of these frames is done.
    fn acknowledged(inbox: &mut Inbox, frames: &[(&str, u64)]) -> Vec<Vec<u64>> {
        let done = frames.iter().map(|(stream, frame)| {
            let id = FrameId {
                stream: stream.parse().unwrap(),
                epoch: Epoch(0),
                frame: FrameIndex(*frame),
            };
            assert_eq!(inbox.arrive(&id, true), Arrival::New);
            inbox.done(&id);
            let acknowledged = inbox.take_acknowledgements(false);
            acknowledged.iter().map(|id| id.frame.0).collect()
        });
        done.collect()
    }

    #[test]
    fn half_a_window_is_worth_an_acknowledgement() {
        let mut inbox = Inbox::new(true);
        assert_eq!(acknowledged(&mut inbox, &[("a", 0), ("a", 1)]), [[0], [1]]);
        inbox.window_is(8);
        let six = [("a", 2), ("a", 3), ("a", 4), ("a", 5), ("a", 6), ("a", 7)];
        let none = Vec::new;
        assert_eq!(
            acknowledged(&mut inbox, &six),
            [none(), vec![3], none(), none(), none(), vec![7]]
        );
        assert_eq!(acknowledged(&mut inbox, &[("a", 8)]), [none()]);
        assert_eq!(inbox.unacknowledged(), 1);
        assert_eq!(inbox.take_acknowledgements(true).len(), 1);
        assert_eq!(inbox.unacknowledged(), 0);
    }

    #[test]
    fn streams_share_the_window() {
        let mut inbox = Inbox::new(true);
        inbox.window_is(8);
        let first = acknowledged(&mut inbox, &[("a", 0), ("b", 0), ("a", 1), ("b", 1)]);
        assert_eq!(first, [vec![], vec![], vec![1], vec![1]]);
        let third = acknowledged(&mut inbox, &[("c", 0)]);
        assert_eq!(third, [[0]], "a third of four is one");
    }
}
