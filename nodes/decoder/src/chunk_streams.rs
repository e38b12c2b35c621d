//! All streams that come as chunks: one decoding thread each, epochs one after the other.
//!
//! A stream that is opened anew while its last epoch is still being decoded waits until that one is
//! out, so that epochs never mix downstream.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tracklens_schemas::{Epoch, FrameId, FrameIndex, Header, StreamId};
use tracklens_video::{ChunkCounts, ChunkOptions, Picture};

use crate::chunk_worker::{Chunk, ChunkItem, ChunkWorker};
use crate::takeover::Takeover;

/// What is to be done next; headers are those of frames, but for [`Step::Done`].
#[derive(Debug)]
pub enum Step {
    /// The stream is open; with JSON about it, once that is known.
    Opened(Header, String),
    /// A frame.
    Frame(Header, Picture),
    /// Something is wrong with the stream, which goes on.
    Damaged(Header, String),
    /// The epoch is over; the header's frame is the number of its frames.
    Closed(Header, ChunkCounts),
    /// The chunk with this header is finished with.
    Done(Header),
}

type Key = (StreamId, Epoch);

struct Session {
    worker: Option<ChunkWorker>,
    /// The next frame.
    next: Header,
    announced: bool,
    ending: bool,
    /// The sender, too, has said that it is over.
    closed: bool,
    /// Chunks given to the worker and not yet taken.
    given: VecDeque<Header>,
}

/// The chunk streams of a decoder.
pub struct ChunkStreams {
    options: ChunkOptions,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// Added to the epochs of chunks: a decoder that was restarted counts frames from 0 again.
    restarts: u32,
    sessions: BTreeMap<Key, Session>,
    /// By stream and epoch of the frames.
    takeovers: BTreeMap<Key, Takeover>,
    /// Epochs that have come to their end before their sender has said so.
    over: BTreeMap<StreamId, Epoch>,
    done: VecDeque<Header>,
    last_served: Option<Key>,
}

impl ChunkStreams {
    /// No streams yet. `wake` is called from other threads when there may be a next step.
    pub fn new(
        options: ChunkOptions,
        restarts: u32,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            options,
            wake: Arc::new(wake),
            restarts,
            sessions: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            over: BTreeMap::new(),
            done: VecDeque::new(),
            last_served: None,
        }
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// An epoch of a stream begins; what came before it comes to its end. Harmless when repeated.
    pub fn open(&mut self, stream: &StreamId, epoch: Epoch) {
        if self.over.get(stream).is_some_and(|over| *over >= epoch) {
            return;
        }
        let earlier = (stream.clone(), Epoch(0))..(stream.clone(), epoch);
        for session in self.sessions.range_mut(earlier).map(|(_, session)| session) {
            session.closed = true;
            session.end();
        }
        let restarts = self.restarts;
        self.sessions
            .entry((stream.clone(), epoch))
            .or_insert_with(|| Session {
                worker: None,
                next: Header {
                    id: FrameId {
                        stream: stream.clone(),
                        epoch: Epoch(epoch.0.saturating_add(restarts)),
                        frame: FrameIndex(0),
                    },
                    pts_ns: 0,
                    capture_ns: 0,
                },
                announced: false,
                ending: false,
                closed: false,
                given: VecDeque::new(),
            });
    }

    /// The next chunk of an open stream; one that is over has no use for it.
    pub fn push(&mut self, header: &Header, chunk: Chunk) {
        let key = (header.id.stream.clone(), header.id.epoch);
        let (options, wake) = (&self.options, &self.wake);
        match self.sessions.get_mut(&key) {
            Some(session) if !session.ending => {
                session.given.push_back(header.clone());
                let last = chunk.info.end_of_stream;
                session
                    .worker
                    .get_or_insert_with(|| {
                        let wake = Arc::clone(wake);
                        ChunkWorker::start(options.clone(), move || wake())
                    })
                    .push(chunk);
                if last {
                    session.end();
                }
            }
            _ => self.done.push_back(header.clone()),
        }
    }

    /// No chunk of this epoch comes any more.
    pub fn close(&mut self, stream: &StreamId, epoch: Epoch) {
        if let Some(session) = self.sessions.get_mut(&(stream.clone(), epoch)) {
            session.closed = true;
            session.end();
        }
        if self.over.get(stream).is_some_and(|over| *over <= epoch) {
            self.over.remove(stream);
        }
    }

    /// The consumers have taken a frame over.
    pub fn acknowledged(&mut self, frame: &FrameId) {
        let key = (frame.stream.clone(), frame.epoch);
        if let Some(takeover) = self.takeovers.get_mut(&key) {
            takeover.acknowledged(frame.frame);
            self.settle(&key);
        }
    }

    fn settle(&mut self, key: &Key) {
        if let Some(takeover) = self.takeovers.get_mut(key) {
            self.done
                .extend(std::iter::from_fn(|| takeover.next_done()));
            if takeover.is_settled() {
                self.takeovers.remove(key);
            }
        }
    }

    /// The next thing to be done, if there is one now; streams for which there is no room stand
    /// back, and the others take turns.
    pub fn next(&mut self, room: impl Fn(&StreamId) -> bool) -> Option<Step> {
        if let Some(header) = self.done.pop_front() {
            return Some(Step::Done(header));
        }
        let from = match self.last_served.take() {
            Some(key) => Bound::Excluded(key),
            None => Bound::Unbounded,
        };
        let later: Vec<Key> = self
            .sessions
            .range((from.clone(), Bound::Unbounded))
            .map(|(key, _)| key.clone())
            .collect();
        let earlier = self.sessions.keys().take(self.sessions.len() - later.len());
        let turns: Vec<Key> = later.iter().chain(earlier).cloned().collect();
        for key in turns {
            if room(&key.0)
                && self.is_first(&key)
                && let Some(step) = self.step(&key)
            {
                self.last_served = Some(key);
                return Some(step);
            }
        }
        None
    }

    /// Whether no earlier epoch of the stream is still being decoded.
    fn is_first(&self, (stream, epoch): &Key) -> bool {
        let earlier = (stream.clone(), Epoch(0))..(stream.clone(), *epoch);
        self.sessions.range(earlier).next().is_none()
    }

    fn step(&mut self, key: &Key) -> Option<Step> {
        loop {
            let session = self.sessions.get_mut(key)?;
            if !session.announced {
                session.announced = true;
                return Some(Step::Opened(session.next.clone(), String::new()));
            }
            let item = match &mut session.worker {
                Some(worker) => worker.try_next()?,
                None if session.ending => ChunkItem::Ended(ChunkCounts::default()),
                None => return None,
            };
            let out = (key.0.clone(), session.next.id.epoch);
            match item {
                ChunkItem::Described(detail) => {
                    return Some(Step::Opened(session.next.clone(), detail));
                }
                ChunkItem::Damage(what) => return Some(Step::Damaged(session.next.clone(), what)),
                ChunkItem::Picture(picture) => {
                    let mut header = session.next.clone();
                    header.pts_ns = picture.pts_ns();
                    header.capture_ns = picture.capture_ns();
                    session.next.id.frame.0 += 1;
                    let takeover = self.takeovers.entry(out).or_default();
                    takeover.frame(header.id.frame);
                    return Some(Step::Frame(header, picture));
                }
                ChunkItem::Taken => {
                    let frames = session.next.id.frame.0;
                    if let Some(chunk) = session.given.pop_front() {
                        let takeover = self.takeovers.entry(out.clone()).or_default();
                        takeover.chunk(frames, chunk);
                    }
                    self.settle(&out);
                    if let Some(header) = self.done.pop_front() {
                        return Some(Step::Done(header));
                    }
                }
                ChunkItem::Ended(counts) => return self.ended(key, counts),
            }
        }
    }

    fn ended(&mut self, key: &Key, counts: ChunkCounts) -> Option<Step> {
        let session = self.sessions.remove(key)?;
        // Chunks that a lost thread never took are finished with all the same.
        self.done.extend(session.given);
        if !session.closed {
            self.over.insert(key.0.clone(), key.1);
        }
        Some(Step::Closed(session.next, counts))
    }
}

impl Session {
    fn end(&mut self) {
        self.ending = true;
        if let Some(worker) = &mut self.worker {
            worker.end();
        }
    }
}
