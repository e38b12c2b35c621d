//! The streams that come in: each from its opening to its end, in epochs one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TryRecvError};
use tracklens_schemas::{Epoch, FrameId, FrameIndex, Header, StreamId};

use crate::amqp::Taken;
use crate::doors::{Doors, Origin, Ticket};
use crate::epochs::Epochs;
use crate::ledger::Delivery;
use crate::received::{Piece, Received};
use crate::websocket::Opened;

/// What is to be done next. Headers number the pieces of an epoch.
#[derive(Debug)]
pub enum Step {
    /// A stream is open; with JSON about it.
    Opened(Header, String),
    /// A piece; once it is acknowledged, so is the message named with it.
    Piece(Header, Piece, Option<Delivery>),
    /// The epoch is over; the header's frame is the number of its pieces. Its place is to be kept
    /// until they are acknowledged.
    Closed(Header, Option<Ticket>),
}

#[derive(Debug)]
enum Source {
    WebSocket(mpsc::Receiver<Received>),
    Amqp {
        /// Bounded by the prefetch count.
        waiting: VecDeque<(Delivery, Received)>,
        /// The last message is known.
        ended: bool,
    },
}

#[derive(Debug)]
struct Session {
    source: Source,
    ticket: Option<Ticket>,
    /// Set when its turn has come.
    epoch: Option<Epoch>,
    /// Pieces given out.
    count: u64,
    /// Messages taken.
    messages: u64,
    /// Capture time of the first message.
    start_ns: Option<i64>,
    /// Pieces of the message at hand.
    pieces: VecDeque<(Piece, Option<Delivery>)>,
    times: (i64, i64),
    last: Instant,
}

/// All streams.
#[derive(Debug)]
pub struct Sessions {
    epochs: Epochs,
    doors: Doors,
    longest_piece: usize,
    silence: Duration,
    /// A stream's sessions, oldest first; only the first is given out.
    streams: BTreeMap<StreamId, VecDeque<Session>>,
    last_served: Option<StreamId>,
}

impl Sessions {
    /// No streams. Streams from a broker that have been silent for so long are closed.
    #[must_use]
    pub fn new(epochs: Epochs, doors: Doors, longest_piece: usize, silence: Duration) -> Self {
        Self {
            epochs,
            doors,
            longest_piece,
            silence,
            streams: BTreeMap::new(),
            last_served: None,
        }
    }

    /// Streams that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// A WebSocket has been let in.
    pub fn connected(&mut self, opened: Opened) {
        self.begin(
            opened.stream,
            Source::WebSocket(opened.messages),
            Some(opened.ticket),
        );
    }

    /// A message has come from the broker.
    ///
    /// # Errors
    /// Gives its name back where the stream is not let in, with the reason.
    pub fn delivered(&mut self, taken: Taken) -> Result<(), (Delivery, String)> {
        let Taken {
            delivery,
            stream,
            received,
        } = taken;
        let sessions = self.streams.entry(stream.clone()).or_default();
        let from_broker = |session: &Session| matches!(session.source, Source::Amqp { .. });
        // A stream that begins anew behind its end shares the place of the old one.
        let new = match sessions.back() {
            Some(last) if from_broker(last) => last.has_ended().then_some(None),
            _ => match self.doors.enter(&stream, Origin::Amqp) {
                Ok((ticket, _)) => Some(Some(ticket)),
                Err(refusal) => {
                    if sessions.is_empty() {
                        self.streams.remove(&stream);
                    }
                    return Err((delivery, refusal.to_string()));
                }
            },
        };
        if let Some(ticket) = new {
            let source = Source::Amqp {
                waiting: VecDeque::new(),
                ended: false,
            };
            self.begin(stream.clone(), source, ticket);
        }
        let current = self.streams.get_mut(&stream).and_then(VecDeque::back_mut);
        if let Some(session) = current
            && let Source::Amqp { waiting, ended } = &mut session.source
        {
            session.last = Instant::now();
            *ended |= received.end_of_stream;
            waiting.push_back((delivery, received));
        }
        Ok(())
    }

    fn begin(&mut self, stream: StreamId, source: Source, ticket: Option<Ticket>) {
        self.streams.entry(stream).or_default().push_back(Session {
            source,
            ticket,
            epoch: None,
            count: 0,
            messages: 0,
            start_ns: None,
            pieces: VecDeque::new(),
            times: (0, 0),
            last: Instant::now(),
        });
    }

    /// The next thing to be done, if there is one; streams for which there is no room stand back,
    /// and the others take turns.
    pub fn next(&mut self, room: impl Fn(&StreamId) -> bool) -> Option<Step> {
        let from = match self.last_served.take() {
            Some(stream) => Bound::Excluded(stream),
            None => Bound::Unbounded,
        };
        let mut turns: Vec<StreamId> = self
            .streams
            .range((from, Bound::Unbounded))
            .map(|(stream, _)| stream.clone())
            .collect();
        let earlier = self.streams.len() - turns.len();
        turns.extend(self.streams.keys().take(earlier).cloned());
        for stream in turns {
            if room(&stream)
                && let Some(step) = self.step(&stream)
            {
                self.last_served = Some(stream);
                return Some(step);
            }
        }
        None
    }

    fn step(&mut self, stream: &StreamId) -> Option<Step> {
        let sessions = self.streams.get_mut(stream)?;
        let session = sessions.front_mut()?;
        let Some(epoch) = session.epoch else {
            let epoch = self.epochs.open(stream);
            session.epoch = Some(epoch);
            let detail = serde_json::json!({"via": session.source.name()}).to_string();
            return Some(Step::Opened(session.header(stream, epoch), detail));
        };
        if session.pieces.is_empty() {
            match session.pull(self.silence) {
                Pulled::Message(received, delivery) => {
                    session.cut(received, delivery, self.longest_piece);
                }
                Pulled::Nothing => return None,
                Pulled::End => {
                    let header = session.header(stream, epoch);
                    let mut ticket = session.ticket.take();
                    sessions.pop_front();
                    match sessions.front_mut() {
                        // It may have counted on the place of the one before.
                        Some(next) if next.ticket.is_none() => next.ticket = ticket.take(),
                        Some(_) => {}
                        None => drop(self.streams.remove(stream)),
                    }
                    return Some(Step::Closed(header, ticket));
                }
            }
        }
        let (piece, delivery) = session.pieces.pop_front()?;
        let header = session.header(stream, epoch);
        session.count += 1;
        Some(Step::Piece(header, piece, delivery))
    }
}

enum Pulled {
    Message(Received, Option<Delivery>),
    Nothing,
    End,
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::WebSocket(_) => "websocket",
            Self::Amqp { .. } => "amqp",
        }
    }
}

impl Session {
    fn has_ended(&self) -> bool {
        matches!(self.source, Source::Amqp { ended: true, .. })
    }

    fn pull(&mut self, silence: Duration) -> Pulled {
        match &mut self.source {
            Source::WebSocket(messages) => match messages.try_recv() {
                Ok(received) => Pulled::Message(received, None),
                Err(TryRecvError::Empty) => Pulled::Nothing,
                Err(TryRecvError::Disconnected) => Pulled::End,
            },
            Source::Amqp { waiting, ended } => match waiting.pop_front() {
                Some((delivery, received)) => Pulled::Message(received, Some(delivery)),
                None if *ended || self.last.elapsed() >= silence => Pulled::End,
                None => Pulled::Nothing,
            },
        }
    }

    fn cut(&mut self, received: Received, delivery: Option<Delivery>, longest: usize) {
        let capture = received.capture_ns;
        let start = *self.start_ns.get_or_insert(capture);
        let arrival = capture.saturating_sub(start);
        self.times = (received.timestamp_ns.unwrap_or(arrival), capture);
        let pieces = received.pieces(longest, self.messages);
        self.pieces.extend(pieces.map(|piece| (piece, None)));
        self.messages += 1;
        if let Some((_, last)) = self.pieces.back_mut() {
            *last = delivery;
        }
    }

    fn header(&self, stream: &StreamId, epoch: Epoch) -> Header {
        Header {
            id: FrameId {
                stream: stream.clone(),
                epoch,
                frame: FrameIndex(self.count),
            },
            pts_ns: self.times.0,
            capture_ns: self.times.1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::Codec;

    fn sessions() -> Sessions {
        Sessions::new(
            Epochs::new(Epoch(0)),
            Doors::new(4),
            4,
            Duration::from_secs(3600),
        )
    }

    fn received(bytes: &[u8], capture_ns: i64) -> Received {
        Received {
            bytes: bytes.to_vec().into(),
            codec: Codec::H264,
            seq: None,
            timestamp_ns: None,
            capture_ns,
            end_of_stream: false,
            room: None,
        }
    }

    fn told(sessions: &mut Sessions) -> Vec<String> {
        std::iter::from_fn(|| sessions.next(|_| true))
            .map(|step| match step {
                Step::Opened(header, _) => format!("open {}", header.id),
                Step::Piece(header, piece, delivery) => {
                    let mark = if delivery.is_some() { " ack" } else { "" };
                    format!(
                        "{} {} {}{mark}",
                        header.id,
                        header.pts_ns,
                        piece.bytes.len()
                    )
                }
                Step::Closed(header, _) => format!("close {}", header.id),
            })
            .collect()
    }

    #[test]
    fn a_socket_is_an_epoch_and_a_newer_one_waits_for_the_end_of_the_older() {
        let mut sessions = sessions();
        let stream: StreamId = "a".parse().unwrap();
        let mut senders = Vec::new();
        for _ in 0..2 {
            let (sender, messages) = mpsc::channel(4);
            senders.push(sender);
            let (ticket, _) = sessions.doors.enter(&stream, Origin::WebSocket).unwrap();
            sessions.connected(Opened {
                stream: stream.clone(),
                messages,
                ticket,
            });
        }
        senders[0].try_send(received(&[0; 9], 100)).unwrap();
        senders[1].try_send(received(&[0; 2], 130)).unwrap();
        assert_eq!(
            told(&mut sessions),
            ["open a/0/0", "a/0/0 0 4", "a/0/1 0 4", "a/0/2 0 1"]
        );
        senders[0].try_send(received(&[], 140)).unwrap();
        senders.remove(0);
        assert_eq!(
            told(&mut sessions),
            ["a/0/3 40 0", "close a/0/4", "open a/1/0", "a/1/0 0 2"]
        );
        senders.clear();
        assert_eq!(told(&mut sessions), ["close a/1/1"]);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_broker_stream_ends_when_it_says_so_and_begins_anew() {
        let mut sessions = sessions();
        let mut ledger = crate::ledger::Ledger::new(9);
        let mut deliver = |sessions: &mut Sessions, stream: &str, end_of_stream| {
            let crate::ledger::Delivered::New(delivery) = ledger.deliver(0, false, ()) else {
                panic!("new");
            };
            sessions.delivered(Taken {
                delivery,
                stream: stream.parse().unwrap(),
                received: Received {
                    end_of_stream,
                    ..received(&[1, 2, 3, 4, 5], 7)
                },
            })
        };
        deliver(&mut sessions, "a", true).unwrap();
        deliver(&mut sessions, "a", false).unwrap();
        assert_eq!(
            told(&mut sessions),
            [
                "open a/0/0",
                "a/0/0 0 4",
                "a/0/1 0 1 ack",
                "close a/0/2",
                "open a/1/0",
                "a/1/0 0 4",
                "a/1/1 0 1 ack"
            ]
        );
        let (_sender, messages) = mpsc::channel(4);
        let stream: StreamId = "b".parse().unwrap();
        let (ticket, _) = sessions.doors.enter(&stream, Origin::WebSocket).unwrap();
        sessions.connected(Opened {
            stream,
            messages,
            ticket,
        });
        let (_, reason) = deliver(&mut sessions, "b", false).unwrap_err();
        assert!(reason.contains("another way"), "{reason}");
    }
}
