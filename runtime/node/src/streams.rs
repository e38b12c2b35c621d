//! The streams a node knows: opened, stale, active, closed, each with its epoch.
//!
//! Frames and stream events travel on different edges, so neither may be trusted to come first:
//! the first sign of a stream opens it, and `closed` takes effect only after the stream's last
//! frame has been seen (or has not come within a grace period).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracklens_schemas::{Epoch, FrameId, FrameIndex, StreamEvent, StreamEventKind, StreamId};

/// How long a `closed` waits for frames that were announced and do not come.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Closed streams remembered, so that late messages do not open them again.
const REMEMBERED: usize = 4096;

/// A change in the life of a stream, as it takes effect at this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChange {
    /// The stream.
    pub stream: StreamId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What happened: opened (again with its detail, once known), stale, active, error or closed.
    pub event: StreamEventKind,
    /// `opened`: JSON about the source, or empty; `error`: what is wrong.
    pub detail: String,
    /// `closed`: the number of frames in the epoch; otherwise 0.
    pub frames: u64,
}

/// When streams are considered stale, and whether they are closed for it.
#[derive(Clone, Copy, Debug)]
pub struct LifeCycle {
    /// Without frames for this long: stale.
    pub stale_after: Duration,
    /// Stale for this long: closed. `None`: never by time (lossless).
    pub close_after: Option<Duration>,
}

#[derive(Debug)]
struct Stream {
    epoch: Epoch,
    detail: String,
    last_error: String,
    opened_at: Instant,
    last_frame: Instant,
    stale: bool,
    closing: Option<Closing>,
}

#[derive(Debug)]
struct Closing {
    frames: u64,
    detail: String,
    since: Instant,
}

/// All open streams of a node.
#[derive(Debug)]
pub struct StreamTable {
    life_cycle: LifeCycle,
    open: BTreeMap<StreamId, Stream>,
    closed: BTreeMap<StreamId, Epoch>,
}

impl StreamTable {
    /// An empty table.
    #[must_use]
    pub fn new(life_cycle: LifeCycle) -> Self {
        Self {
            life_cycle,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }

    /// Whoever told of the streams' ends is gone: a stream without frames for long is at its end, in
    /// lossless graphs, too.
    pub fn orphan(&mut self) {
        self.life_cycle.close_after.get_or_insert(Duration::ZERO);
    }

    /// Open streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How long each open stream has been open, and whether it is stale.
    pub fn ages(&self, now: Instant) -> impl Iterator<Item = (&StreamId, Duration, bool)> {
        self.open.iter().map(move |(id, stream)| {
            let age = now.duration_since(stream.opened_at);
            (id, age, stream.stale)
        })
    }

    /// Whether this epoch of the stream is over.
    #[must_use]
    pub fn is_over(&self, stream: &StreamId, epoch: Epoch) -> bool {
        self.closed.get(stream).is_some_and(|last| epoch <= *last)
            || self.open.get(stream).is_some_and(|open| epoch < open.epoch)
    }

    /// A frame has been seen.
    pub fn frame(&mut self, id: &FrameId, now: Instant) -> Vec<StreamChange> {
        let mut changes = self.sight(&id.stream, id.epoch, now);
        if let Some(stream) = self.open.get_mut(&id.stream) {
            stream.last_frame = now;
            if std::mem::take(&mut stream.stale) {
                changes.push(change(&id.stream, id.epoch, StreamEventKind::Active, ""));
            }
        }
        changes
    }

    fn sight(&mut self, id: &StreamId, epoch: Epoch, now: Instant) -> Vec<StreamChange> {
        if self.is_over(id, epoch) || self.open.get(id).is_some_and(|s| s.epoch == epoch) {
            return Vec::new();
        }
        self.open.insert(
            id.clone(),
            Stream {
                epoch,
                detail: String::new(),
                last_error: String::new(),
                opened_at: now,
                last_frame: now,
                stale: false,
                closing: None,
            },
        );
        vec![change(id, epoch, StreamEventKind::Opened, "")]
    }

    /// An event about a stream has come in; repeated ones change nothing. `id.frame` of a `closed`
    /// event is the number of frames in the epoch.
    pub fn event(&mut self, id: &FrameId, event: &StreamEvent, now: Instant) -> Vec<StreamChange> {
        if self.is_over(&id.stream, id.epoch) {
            return Vec::new();
        }
        let mut changes = self.sight(&id.stream, id.epoch, now);
        let Some(stream) = self.open.get_mut(&id.stream) else {
            return changes;
        };
        match event.event {
            StreamEventKind::Opened => {
                if stream.detail != event.detail {
                    stream.detail.clone_from(&event.detail);
                    changes.clear();
                    changes.push(change(
                        &id.stream,
                        id.epoch,
                        StreamEventKind::Opened,
                        &event.detail,
                    ));
                }
            }
            StreamEventKind::Error => {
                if stream.last_error != event.detail {
                    stream.last_error.clone_from(&event.detail);
                    changes.push(change(
                        &id.stream,
                        id.epoch,
                        StreamEventKind::Error,
                        &event.detail,
                    ));
                }
            }
            StreamEventKind::Closed => {
                if stream.closing.is_none() {
                    stream.closing = Some(Closing {
                        frames: id.frame.0,
                        detail: event.detail.clone(),
                        since: now,
                    });
                }
            }
            StreamEventKind::Stale
            | StreamEventKind::Active
            | StreamEventKind::Closing
            | StreamEventKind::Exhausted => {}
        }
        changes
    }

    /// What has become due: streams gone stale, and closes whose last frame has been seen. `seen`
    /// tells the last frame seen of a stream.
    pub fn due(
        &mut self,
        now: Instant,
        seen: impl Fn(&StreamId) -> Option<(Epoch, FrameIndex)>,
    ) -> Vec<StreamChange> {
        let mut changes = Vec::new();
        let mut over = Vec::new();
        for (id, stream) in &mut self.open {
            if let Some(closing) = &stream.closing {
                let complete = closing.frames == 0
                    || seen(id).is_some_and(|(epoch, frame)| {
                        epoch > stream.epoch
                            || (epoch == stream.epoch && frame.0 + 1 >= closing.frames)
                    });
                let quiet = now.duration_since(stream.last_frame.max(closing.since));
                if complete || quiet > CLOSE_GRACE {
                    over.push(id.clone());
                }
                continue;
            }
            let silent = now.duration_since(stream.last_frame);
            if !stream.stale && silent > self.life_cycle.stale_after {
                stream.stale = true;
                changes.push(change(id, stream.epoch, StreamEventKind::Stale, ""));
            }
            if let Some(close_after) = self.life_cycle.close_after
                && silent > self.life_cycle.stale_after + close_after
            {
                stream.closing = Some(Closing {
                    frames: 0,
                    detail: "no frames for too long".into(),
                    since: now,
                });
                over.push(id.clone());
            }
        }
        for id in over {
            if let Some(stream) = self.open.remove(&id) {
                let closing = stream.closing;
                changes.push(StreamChange {
                    frames: closing.as_ref().map_or(0, |closing| closing.frames),
                    ..change(
                        &id,
                        stream.epoch,
                        StreamEventKind::Closed,
                        closing.as_ref().map_or("", |closing| &closing.detail),
                    )
                });
                self.closed.insert(id, stream.epoch);
                if self.closed.len() > REMEMBERED {
                    self.closed.pop_first();
                }
            }
        }
        changes
    }
}

fn change(stream: &StreamId, epoch: Epoch, event: StreamEventKind, detail: &str) -> StreamChange {
    StreamChange {
        stream: stream.clone(),
        epoch,
        event,
        detail: detail.into(),
        frames: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LOSSLESS: LifeCycle = LifeCycle {
        stale_after: Duration::from_secs(30),
        close_after: None,
    };

    fn id(epoch: u32, frame: u64) -> FrameId {
        FrameId {
            stream: "cam".parse().unwrap(),
            epoch: Epoch(epoch),
            frame: FrameIndex(frame),
        }
    }

    #[test]
    fn lossless_streams_are_closed_by_time_only_when_nobody_else_will() {
        let now = Instant::now();
        let mut table = StreamTable::new(LOSSLESS);
        table.frame(&id(0, 0), now);
        let late = now + Duration::from_secs(31);
        assert_eq!(kinds(&table.due(late, |_| None)), [StreamEventKind::Stale]);
        assert!(table.due(late, |_| None).is_empty());
        table.orphan();
        assert_eq!(kinds(&table.due(late, |_| None)), [StreamEventKind::Closed]);
    }

    fn event(kind: StreamEventKind, detail: &str) -> StreamEvent {
        StreamEvent {
            event: kind,
            detail: detail.into(),
        }
    }

    fn kinds(changes: &[StreamChange]) -> Vec<StreamEventKind> {
        changes.iter().map(|change| change.event).collect()
    }

    #[test]
    fn the_first_sign_opens_a_stream_once() {
        let now = Instant::now();
        let mut table = StreamTable::new(LOSSLESS);
        assert_eq!(
            kinds(&table.frame(&id(0, 0), now)),
            [StreamEventKind::Opened]
        );
        assert!(table.frame(&id(0, 1), now).is_empty());
        let detail = table.event(&id(0, 0), &event(StreamEventKind::Opened, "{}"), now);
        assert_eq!(detail[0].detail, "{}");
        assert!(
            table
                .event(&id(0, 0), &event(StreamEventKind::Opened, "{}"), now)
                .is_empty()
        );
    }

    #[test]
    fn closed_waits_for_the_last_frame() {
        let now = Instant::now();
        let mut table = StreamTable::new(LOSSLESS);
        table.frame(&id(0, 0), now);
        table.event(&id(0, 3), &event(StreamEventKind::Closed, ""), now);
        assert!(
            table
                .due(now, |_| Some((Epoch(0), FrameIndex(1))))
                .is_empty()
        );
        let closed = table.due(now, |_| Some((Epoch(0), FrameIndex(2))));
        assert_eq!(kinds(&closed), [StreamEventKind::Closed]);
        assert_eq!(closed[0].frames, 3);
        assert!(table.is_over(&"cam".parse().unwrap(), Epoch(0)));
        assert!(table.frame(&id(0, 2), now).is_empty());
        assert_eq!(
            kinds(&table.frame(&id(1, 0), now)),
            [StreamEventKind::Opened]
        );
    }

    #[test]
    fn closed_does_not_wait_for_ever() {
        let now = Instant::now();
        let mut table = StreamTable::new(LOSSLESS);
        table.event(&id(0, 9), &event(StreamEventKind::Closed, ""), now);
        let later = now + CLOSE_GRACE + Duration::from_secs(1);
        assert_eq!(
            kinds(&table.due(later, |_| None)),
            [StreamEventKind::Closed]
        );
    }

    #[test]
    fn silence_makes_stale_then_closed_and_a_frame_active() {
        let now = Instant::now();
        let mut table = StreamTable::new(LifeCycle {
            stale_after: Duration::from_secs(1),
            close_after: Some(Duration::from_secs(2)),
        });
        table.frame(&id(0, 0), now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(kinds(&table.due(at(2), |_| None)), [StreamEventKind::Stale]);
        let ages: Vec<_> = table
            .ages(at(2))
            .map(|(_, age, stale)| (age, stale))
            .collect();
        assert_eq!(ages, [(Duration::from_secs(2), true)]);
        assert!(table.due(at(2), |_| None).is_empty());
        assert_eq!(
            kinds(&table.frame(&id(0, 1), at(2))),
            [StreamEventKind::Active]
        );
        table.due(at(4), |_| None);
        assert_eq!(
            kinds(&table.due(at(6), |_| None)),
            [StreamEventKind::Closed]
        );
        assert!(table.is_empty());
    }
}
