//! The sink `amqp`: rows to a broker such as RabbitMQ, each confirmed before it is forgotten.
//!
//! Rows go to an outbox on disk first, which is what the frame is acknowledged for; a thread sends
//! them from there. So a broker that is down holds nothing up, and a kill loses nothing. A row that
//! may have been sent before, by a killed process or over a broken connection, has the header
//! `redelivered`; its key (`stream_id`, `epoch`, `frame`, `track_id`) is in the headers as well.

mod outbox;
mod sender;
mod url;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tracklens_schemas::jsonl::{write_identification_row, write_track_row};
use tracklens_schemas::{Header, Identification, StreamId, Track, TracksInfo};

pub use outbox::{Ledger, Outbox, Place, Room, Row, Waiting};
pub use url::BrokerUrl;

use crate::{Sink, SinkError, SinkFile};
use sender::Sender;

/// Rows in the outbox that are not confirmed (gauge; `sink`).
const WAITING: &str = "video_processor_sink_waiting_rows";
/// Bytes of a segment of the outbox.
const SEGMENT: u64 = 4 << 20;

/// Where rows go, and how many may wait.
#[derive(Clone, Debug)]
pub struct AmqpOptions {
    /// The broker.
    pub url: BrokerUrl,
    /// A topic exchange; declared.
    pub exchange: String,
    /// A queue that gets every row; declared and bound where there is a name.
    pub queue: Option<String>,
    /// Most bytes of rows on disk.
    pub outbox_bytes: u64,
    /// How long the end of the run waits for confirmations.
    pub flush: Duration,
    /// The run, part of every message's headers.
    pub run: String,
}

/// Told by the sink, heard by the sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    pub(crate) end: Place,
    /// Send what is there, no longer than the time to flush, and end.
    pub(crate) over: bool,
}

/// What keeps rows from being sent.
pub(crate) type Trouble = Arc<Mutex<Option<String>>>;

/// Hands rows to a broker.
pub struct Amqp {
    path: PathBuf,
    outbox: Outbox,
    orders: watch::Sender<Orders>,
    trouble: Trouble,
    address: String,
    thread: Option<JoinHandle<()>>,
    lines: Vec<u8>,
}

impl Amqp {
    /// The outbox's name in the folder of the results.
    pub const FOLDER: &'static str = "amqp-outbox";

    /// Opens the outbox in this folder and starts the sender. Whether the broker is there shows
    /// later: it may come and go.
    ///
    /// # Errors
    /// Where the outbox cannot be opened.
    pub fn start(folder: &Path, resume: bool, options: AmqpOptions) -> Result<Self, SinkError> {
        let path = folder.join(Self::FOLDER);
        let room = Room {
            segment: SEGMENT,
            total: options.outbox_bytes,
        };
        let (outbox, ledger) = Outbox::open(&path, &options.run, resume, room)?;
        let orders = watch::Sender::new(Orders {
            end: outbox.end(),
            over: false,
        });
        let trouble = Trouble::default();
        let address = format!("{} exchange {}", options.url.shown(), options.exchange);
        let sender = Sender::new(options, ledger, orders.subscribe(), Arc::clone(&trouble));
        let thread = std::thread::Builder::new()
            .name("amqp-sink".into())
            .spawn(move || sender.run())
            .map_err(|source| SinkError::Thread {
                sink: "amqp",
                source,
            })?;
        Ok(Self {
            path,
            outbox,
            orders,
            trouble,
            address,
            thread: Some(thread),
            lines: Vec::new(),
        })
    }

    fn tell(&self) {
        let end = self.outbox.end();
        self.orders.send_modify(|orders| orders.end = end);
        metrics::gauge!(WAITING, "sink" => "amqp")
            .set(self.outbox.waiting().rows.load(Relaxed) as f64);
    }
}

impl Sink for Amqp {
    fn name(&self) -> &'static str {
        "amqp"
    }

    fn tracks(
        &mut self,
        header: &Header,
        _info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        self.lines.clear();
        let mut rows = 0;
        for track in self.outbox.order().missing(&header.id, tracks) {
            write_track_row(&mut self.lines, header, track);
            rows += 1;
        }
        self.outbox.append(Some(&header.id), &self.lines, rows)?;
        self.tell();
        Ok(rows)
    }

    fn identifications(
        &mut self,
        header: &Header,
        list: &[Identification],
    ) -> Result<u64, SinkError> {
        self.lines.clear();
        for row in list {
            write_identification_row(&mut self.lines, header, row);
        }
        let rows = list.len() as u64;
        self.outbox.append(None, &self.lines, rows)?;
        self.tell();
        Ok(rows)
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn address(&self) -> Option<String> {
        Some(self.address.clone())
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.outbox.forget(stream);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.outbox.sync()?;
        self.orders.send_modify(|orders| orders.over = true);
        if let Some(thread) = self.thread.take() {
            // The sender ends by itself within the time to flush.
            let _panicked = thread.join();
        }
        self.tell();
        match self.outbox.waiting().rows.load(Relaxed) {
            0 => Ok(()),
            rows => Err(SinkError::Unsent {
                path: self.path.clone(),
                rows,
                trouble: self.trouble().unwrap_or_else(|| "too slow".into()),
            }),
        }
    }

    fn files(&self) -> Vec<SinkFile> {
        Vec::new()
    }
}
