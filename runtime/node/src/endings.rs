//! Ends of streams wait for what was sent before them.
//!
//! Dora gives a node what waits on its inputs by turns, and tells first that an input is closed, so that
//! ends overtake the last messages: answers about a stream's objects, say. What one sender sends comes in
//! order, so ends are heard once nothing else waits.

use std::collections::VecDeque;

use tracklens_schemas::{Header, SchemaError, StreamEvent, StreamEventKind};

/// Events that may be handled before an end that waits, so that a node which is never idle hears it, too.
const PATIENCE: usize = 1024;

/// What a message on a `stream_events` input says.
#[derive(Debug, PartialEq)]
pub(crate) struct Words {
    pub(crate) input: String,
    pub(crate) header: Result<Header, SchemaError>,
    pub(crate) rows: Vec<StreamEvent>,
}

/// What waits.
#[derive(Debug, PartialEq)]
pub(crate) enum Ending {
    /// The end of a stream, or what was said after one.
    Words(Words),
    /// Nothing comes on this input any more.
    InputClosed(String),
}

/// Ends that wait, and all that was said after them.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    waiting: VecDeque<Ending>,
    overtaken: usize,
}

impl Endings {
    /// What is said now: gives it back where it is to be heard at once.
    pub(crate) fn hold(&mut self, words: Words) -> Option<Words> {
        let is_end = |row: &StreamEvent| row.event == StreamEventKind::Closed;
        if self.waiting.is_empty() && !words.rows.iter().any(is_end) {
            return Some(words);
        }
        self.waiting.push_back(Ending::Words(words));
        None
    }

    /// An input is closed.
    pub(crate) fn input_closed(&mut self, input: String) {
        self.waiting.push_back(Ending::InputClosed(input));
    }

    /// Another event has been handled. Whether that is enough.
    pub(crate) fn overtaken(&mut self) -> bool {
        self.overtaken = match self.waiting.is_empty() {
            true => 0,
            false => self.overtaken + 1,
        };
        self.overtaken >= PATIENCE
    }

    /// The next that is to be heard, now that nothing else waits.
    pub(crate) fn next(&mut self) -> Option<Ending> {
        self.overtaken = 0;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(event: StreamEventKind) -> Words {
        let detail = String::new();
        Words {
            input: "stream_events".into(),
            header: Err(SchemaError::Missing { key: "stream_id" }),
            rows: vec![StreamEvent { event, detail }],
        }
    }

    #[test]
    fn an_end_and_what_follows_it_wait_in_order() {
        use StreamEventKind::{Closed, Exhausted, Opened};
        let mut endings = Endings::default();
        assert!(endings.hold(words(Opened)).is_some());
        assert_eq!(endings.next(), None);
        for event in [Closed, Opened, Exhausted] {
            assert_eq!(endings.hold(words(event)), None);
        }
        endings.input_closed("tracks".into());
        for event in [Closed, Opened, Exhausted] {
            assert_eq!(endings.next(), Some(Ending::Words(words(event))));
        }
        assert_eq!(endings.next(), Some(Ending::InputClosed("tracks".into())));
        assert!(endings.hold(words(Exhausted)).is_some());
    }

    #[test]
    fn an_end_does_not_wait_for_ever() {
        let mut endings = Endings::default();
        assert!(
            (0..2 * PATIENCE).all(|_| !endings.overtaken()),
            "nothing waits"
        );
        assert_eq!(endings.hold(words(StreamEventKind::Closed)), None);
        assert_eq!((0..PATIENCE).filter(|_| endings.overtaken()).count(), 1);
        assert!(endings.next().is_some());
        assert!(!endings.overtaken());
    }
}
