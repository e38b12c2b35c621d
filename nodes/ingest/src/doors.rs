//! Who may send which stream: one sender a stream, and only so many streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tracklens_schemas::StreamId;

/// How a stream comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Over a WebSocket.
    WebSocket,
    /// From a broker.
    Amqp,
}

/// Why a stream is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are as many streams as there may be.
    #[error("there are {limit} streams already, more are not taken (INGEST_MAX_STREAMS)")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// The stream comes in another way.
    #[error("this stream comes in another way (WebSocket or AMQP) at present")]
    InUse,
}

#[derive(Debug)]
struct Door {
    number: u64,
    origin: Origin,
    /// Set when a newer connection has taken the stream over.
    replaced: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Open {
    doors: HashMap<StreamId, Door>,
    entries: u64,
}

/// The streams that are open.
#[derive(Clone, Debug)]
pub struct Doors {
    open: Arc<Mutex<Open>>,
    limit: usize,
}

/// A place for a stream, until it is dropped. It is kept until the dataflow has taken everything, so
/// that senders that come and go cannot bring in more than there is room for.
#[derive(Debug)]
pub struct Ticket {
    stream: StreamId,
    number: u64,
    open: Arc<Mutex<Open>>,
}

/// Tells a connection that a newer one has taken its stream over.
#[derive(Debug)]
pub struct Replaced(watch::Receiver<bool>);

impl Doors {
    /// Doors for at most `limit` streams.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            open: Arc::default(),
            limit,
        }
    }

    /// Lets a sender in. A newer one takes a stream over from an older one of the same origin, which
    /// may be a connection that died without a word.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn enter(&self, stream: &StreamId, origin: Origin) -> Result<(Ticket, Replaced), Refusal> {
        let mut open = lock(&self.open);
        match open.doors.get(stream) {
            Some(door) if door.origin != origin => {
                return Err(Refusal::InUse);
            }
            None if open.doors.len() >= self.limit => {
                return Err(Refusal::TooManyStreams { limit: self.limit });
            }
            _ => {}
        }
        open.entries += 1;
        let number = open.entries;
        let (sender, replaced) = watch::channel(false);
        let door = Door {
            number,
            origin,
            replaced: sender,
        };
        if let Some(older) = open.doors.insert(stream.clone(), door) {
            // The older connection may be gone already.
            let _nobody_listens = older.replaced.send(true);
        }
        let ticket = Ticket {
            stream: stream.clone(),
            number,
            open: Arc::clone(&self.open),
        };
        Ok((ticket, Replaced(replaced)))
    }

    /// Streams that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.open).doors.len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Replaced {
    /// Returns once a newer connection has taken the stream over.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|replaced| *replaced).await.is_err() {
            // The place was given up, and nobody will take it over from here.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if open
            .doors
            .get(&self.stream)
            .is_some_and(|door| door.number == self.number)
        {
            open.doors.remove(&self.stream);
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(|broken| broken.into_inner())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    #[test]
    fn only_so_many_and_a_place_that_is_left_is_free() {
        let doors = Doors::new(2);
        let (first, _) = doors.enter(&id("a"), Origin::WebSocket).unwrap();
        let _second = doors.enter(&id("b"), Origin::Amqp).unwrap();
        let refused = doors.enter(&id("c"), Origin::WebSocket).unwrap_err();
        assert_eq!(refused, Refusal::TooManyStreams { limit: 2 });
        drop(first);
        assert_eq!(doors.len(), 1);
        assert!(doors.enter(&id("c"), Origin::WebSocket).is_ok());
    }

    #[test]
    fn a_newer_socket_takes_over_and_the_older_one_does_not_close_its_door() {
        let doors = Doors::new(1);
        let older = doors.enter(&id("a"), Origin::WebSocket).unwrap();
        let (older, replaced) = older;
        assert!(!*replaced.0.borrow());
        let newer = doors.enter(&id("a"), Origin::WebSocket).unwrap();
        assert!(*replaced.0.borrow());
        drop(older);
        assert_eq!(doors.len(), 1);
        assert_eq!(
            doors.enter(&id("a"), Origin::Amqp).unwrap_err(),
            Refusal::InUse
        );
        drop(newer);
        assert!(doors.is_empty());
    }
}
