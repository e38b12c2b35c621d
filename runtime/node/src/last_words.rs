//! The last word on each stream, repeated to consumers that start late or have lost it.
//!
//! A consumer that says hello may have missed any word, and cannot know. So every word is repeated
//! when hellos come, soon after it was said and then less and less often; a consumer that has just
//! started gets all of them. What is said of streams that are over is forgotten after a while, so
//! that a graph that runs for years repeats no more than one that has just begun.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracklens_schemas::{FrameId, Header, StreamEvent, StreamEventKind, StreamId};

/// How long the end of a stream is kept in mind: longer than a node takes to start.
const KEPT: Duration = Duration::from_secs(120);
/// The first pause between two repetitions of a word; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

#[derive(Debug)]
struct Word {
    header: Header,
    event: StreamEvent,
    said: Instant,
    due: Instant,
    pause: Duration,
}

/// The words on all streams.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    streams: BTreeMap<StreamId, Vec<Word>>,
    /// That no stream will come any more has been said.
    pub(crate) exhausted: bool,
}

impl LastWords {
    /// A word has been said.
    pub(crate) fn keep(&mut self, header: &Header, event: &StreamEvent, now: Instant) {
        let words = self.streams.entry(header.id.stream.clone()).or_default();
        words
            .retain(|old| old.header.id.epoch == header.id.epoch && old.event.event != event.event);
        words.push(Word {
            header: header.clone(),
            event: event.clone(),
            said: now,
            due: now + FIRST_PAUSE,
            pause: FIRST_PAUSE,
        });
    }

    /// What went wrong in this epoch of a stream.
    pub(crate) fn errors(&self, id: &FrameId) -> Vec<StreamEvent> {
        let words = self.streams.get(&id.stream).into_iter().flatten();
        words
            .filter(|word| word.header.id.epoch == id.epoch)
            .filter(|word| word.event.event == StreamEventKind::Error)
            .map(|word| word.event.clone())
            .collect()
    }

    /// Somebody has just started and knows nothing.
    pub(crate) fn all_due(&mut self, now: Instant) {
        for word in self.streams.values_mut().flatten() {
            word.due = now;
        }
    }

    /// What is to be said again to one that says hello now.
    pub(crate) fn repeat(&mut self, now: Instant) -> Vec<(Header, StreamEvent)> {
        self.streams.retain(|_, words| {
            !words.iter().any(|word| {
                word.event.event == StreamEventKind::Closed
                    && now.saturating_duration_since(word.said) > KEPT
            })
        });
        let mut again = Vec::new();
        for word in self.streams.values_mut().flatten() {
            if word.due <= now {
                word.pause = (2 * word.pause).min(LONGEST_PAUSE);
                word.due = now + word.pause;
                again.push((word.header.clone(), word.event.clone()));
            }
        }
        again
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::{Epoch, FrameIndex};

    fn header(stream: &str, epoch: u32) -> Header {
        Header {
            id: FrameId {
                stream: stream.parse().unwrap(),
                epoch: Epoch(epoch),
                frame: FrameIndex(0),
            },
            pts_ns: 0,
            capture_ns: 0,
        }
    }

    fn event(event: StreamEventKind) -> StreamEvent {
        StreamEvent {
            event,
            detail: String::new(),
        }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_went_wrong_in_an_epoch_is_kept_for_its_end() {
        let start = Instant::now();
        let mut words = LastWords::default();
        let id = |epoch| header("a", epoch).id;
        words.keep(&header("a", 0), &event(StreamEventKind::Opened), start);
        assert!(words.errors(&id(0)).is_empty());
        words.keep(&header("a", 0), &event(StreamEventKind::Error), start);
        assert_eq!(words.errors(&id(0)), [event(StreamEventKind::Error)]);
        assert!(words.errors(&id(1)).is_empty());
    }

    #[test]
    fn a_word_is_repeated_less_and_less_often_and_to_a_newcomer_at_once() {
        let start = Instant::now();
        let mut words = LastWords::default();
        words.keep(&header("a", 0), &event(StreamEventKind::Opened), start);
        let repeated: Vec<u64> = (0..60)
            .filter(|&second| !words.repeat(at(start, second)).is_empty())
            .collect();
        assert_eq!(repeated, [1, 2, 4, 8, 16, 32]);
        words.all_due(at(start, 61));
        assert_eq!(words.repeat(at(start, 61)).len(), 1);
    }

    #[test]
    fn only_the_last_epoch_counts_and_ends_are_forgotten() {
        let start = Instant::now();
        let mut words = LastWords::default();
        words.keep(&header("a", 0), &event(StreamEventKind::Opened), start);
        words.keep(&header("a", 1), &event(StreamEventKind::Opened), start);
        words.keep(&header("a", 1), &event(StreamEventKind::Closed), start);
        words.keep(&header("b", 0), &event(StreamEventKind::Opened), start);
        words.all_due(start);
        assert_eq!(words.repeat(start).len(), 3);
        words.all_due(at(start, 500));
        let left = words.repeat(at(start, 500));
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].0.id.stream.as_str(), "b");
    }
}
