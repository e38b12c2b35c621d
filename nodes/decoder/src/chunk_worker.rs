//! One chunk stream's thread: takes pieces as they come, and decodes a few frames ahead of the
//! consumer.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use std::thread::JoinHandle;

use tracklens_schemas::ChunkInfo;
use tracklens_video::{ChunkCounts, ChunkDecoder, ChunkOptions, ChunkTimes, Picture};

use crate::sequence::Sequence;

/// Items decoded ahead of the consumer.
const AHEAD: usize = 2;

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What it says of itself.
    pub info: ChunkInfo,
    /// The times it came with.
    pub times: ChunkTimes,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What comes out of a chunk stream, in order.
#[derive(Debug)]
pub enum ChunkItem {
    /// The size, codec or rate of the pictures from here on, as JSON.
    Described(String),
    /// A picture.
    Picture(Picture),
    /// Every picture that the next piece has brought out has been given out; what is left of it is
    /// inside the decoder.
    Taken,
    /// Something is wrong from here on.
    Damage(String),
    /// The last item.
    Ended(ChunkCounts),
}

enum Command {
    Chunk(Chunk),
    End,
}

/// A chunk stream being decoded on a thread of its own. Dropping it stops the thread.
#[derive(Debug)]
pub struct ChunkWorker {
    commands: Option<Sender<Command>>,
    items: Option<Receiver<ChunkItem>>,
    thread: Option<JoinHandle<()>>,
    ended: bool,
}

impl ChunkWorker {
    /// Starts the thread. `wake` is called after each item.
    #[must_use]
    pub fn start(options: ChunkOptions, wake: impl Fn() + Send + 'static) -> Self {
        let (commands, orders) = mpsc::channel();
        let (sender, items) = mpsc::sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("chunks".into())
            .spawn(move || {
                let mut work = Work {
                    sender,
                    wake,
                    sequence: Sequence::default(),
                    described: String::new(),
                };
                let _consumer_may_be_gone = work.run(options, &orders);
            });
        Self {
            commands: Some(commands),
            items: Some(items),
            // Without a thread the channel is closed, which reads as an end.
            thread: thread.ok(),
            ended: false,
        }
    }

    /// Gives the next piece; the caller bounds how many wait.
    pub fn push(&self, chunk: Chunk) {
        if let Some(commands) = &self.commands {
            // A thread that is gone has said so, or is told by `try_next`.
            let _gone = commands.send(Command::Chunk(chunk));
        }
    }

    /// No piece comes any more.
    pub fn end(&mut self) {
        if let Some(commands) = self.commands.take() {
            let _gone = commands.send(Command::End);
        }
    }

    /// The next item, if there is one yet.
    pub fn try_next(&mut self) -> Option<ChunkItem> {
        if self.ended {
            return None;
        }
        let item = match self.items.as_ref().map(Receiver::try_recv) {
            Some(Ok(item)) => item,
            Some(Err(TryRecvError::Empty)) => return None,
            Some(Err(TryRecvError::Disconnected)) | None => {
                ChunkItem::Ended(ChunkCounts::default())
            }
        };
        self.ended = matches!(item, ChunkItem::Ended(_));
        Some(item)
    }
}

impl Drop for ChunkWorker {
    fn drop(&mut self) {
        self.commands = None;
        self.items = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// The consumer is gone.
struct Gone;

struct Work<W> {
    sender: SyncSender<ChunkItem>,
    wake: W,
    sequence: Sequence,
    described: String,
}

impl<W: Fn()> Work<W> {
    fn run(&mut self, options: ChunkOptions, orders: &Receiver<Command>) -> Result<(), Gone> {
        let mut decoder = match ChunkDecoder::new(options) {
            Ok(decoder) => decoder,
            Err(error) => {
                self.send(ChunkItem::Damage(error.to_string()))?;
                return self.send(ChunkItem::Ended(ChunkCounts::default()));
            }
        };
        // Without an `End` the consumer has let go of the stream.
        while let Command::Chunk(chunk) = orders.recv().map_err(|_| Gone)? {
            if let Some(missing) = self.sequence.next(chunk.info.seq) {
                decoder.lost(&missing);
            }
            decoder.push(chunk.info.codec, &chunk.bytes, chunk.times);
            self.pictures(&mut decoder)?;
            self.send(ChunkItem::Taken)?;
            if chunk.info.end_of_stream {
                break;
            }
        }
        decoder.end();
        self.pictures(&mut decoder)?;
        self.send(ChunkItem::Ended(decoder.counts()))
    }

    fn pictures(&mut self, decoder: &mut ChunkDecoder) -> Result<(), Gone> {
        loop {
            let next = decoder.next();
            if let Some(damage) = decoder.take_damage() {
                self.send(ChunkItem::Damage(damage))?;
            }
            let Some(picture) = next else { return Ok(()) };
            let info = picture.info();
            let (codec, fps) = decoder.describe().unzip();
            let described = serde_json::json!({
                "codec": codec.map(|codec| codec.as_str()),
                "width": info.width,
                "height": info.height,
                "fps": fps.flatten(),
            })
            .to_string();
            if described != self.described {
                self.described.clone_from(&described);
                self.send(ChunkItem::Described(described))?;
            }
            self.send(ChunkItem::Picture(picture))?;
        }
    }

    /// Waits while the consumer is behind.
    fn send(&self, item: ChunkItem) -> Result<(), Gone> {
        self.sender.send(item).map_err(|_| Gone)?;
        (self.wake)();
        Ok(())
    }
}
