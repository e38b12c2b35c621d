//! The ingest node: chunks in from the network, acknowledged when the decoder has taken them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use tracklens_ingest::amqp::{Answer, Broker};
use tracklens_ingest::doors::{Doors, Ticket};
use tracklens_ingest::ledger::Delivery;
use tracklens_ingest::network::{Config, Network, Server};
use tracklens_ingest::secret::Secret;
use tracklens_ingest::websocket::{Limits, TlsFiles};
use tracklens_ingest::{Epochs, IngestError, PIECE, Piece, Sessions, Step};
use tracklens_node::{
    BadMessage, Context, Message, Node, Outputs, StreamChange, Work, metrics as names,
};
use tracklens_schemas::{Epoch, FrameId, Header, Metadata, StreamEvent, StreamEventKind, StreamId};

/// Chunks sent to the decoder (counter; `stream_id`).
const CHUNKS: &str = "video_processor_chunks_total";
/// Bytes of these (counter; `stream_id`).
const CHUNK_BYTES: &str = "video_processor_chunk_bytes_total";
/// Least room in memory for messages that wait.
const MEMORY: usize = 256 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    ingest_websocket: bool,
    ingest_host: String,
    ingest_port: u16,
    ingest_token: Option<String>,
    ingest_tls_cert: Option<PathBuf>,
    ingest_tls_key: Option<PathBuf>,
    ingest_amqp_url: Option<String>,
    ingest_amqp_queue: String,
    ingest_amqp_prefetch: u16,
    ingest_max_message_mb: f64,
    ingest_max_rate_mbit: f64,
    ingest_max_streams: usize,
    stream_stale_timeout_seconds: f64,
    stream_cleanup_timeout_seconds: f64,
}

struct Ingest {
    network: Option<Network>,
    sessions: Sessions,
    /// The broker's messages whose last piece is on its way to the decoder.
    deliveries: HashMap<FrameId, Delivery>,
    /// Places of streams that are over, whose last pieces are on their way.
    leaving: Vec<(StreamId, Epoch, Ticket)>,
}

#[global_allocator]
static ALLOCATOR: tracklens_node::Allocator = tracklens_node::Allocator;

fn main() -> ExitCode {
    tracklens_node::run::<Ingest>()
}

impl Node for Ingest {
    const NAME: &'static str = "ingest";
    const ABOUT: &'static str = "Takes in coded video over WebSockets and from a message broker.";
    const SOURCE: bool = true;
    const SETTINGS: &'static [&'static str] = &[
        "INGEST_WEBSOCKET",
        "INGEST_HOST",
        "INGEST_PORT",
        "INGEST_TOKEN",
        "INGEST_TLS_CERT",
        "INGEST_TLS_KEY",
        "INGEST_AMQP_URL",
        "INGEST_AMQP_QUEUE",
        "INGEST_AMQP_PREFETCH",
        "INGEST_MAX_MESSAGE_MB",
        "INGEST_MAX_RATE_MBIT",
        "INGEST_MAX_STREAMS",
        "STREAM_STALE_TIMEOUT_SECONDS",
        "STREAM_CLEANUP_TIMEOUT_SECONDS",
    ];
    type Settings = Settings;
    type Parcel = Piece;

    fn new(settings: Settings, ctx: &mut Context<Piece>) -> eyre::Result<Self> {
        let doors = Doors::new(settings.ingest_max_streams);
        // Downstream, a stream that is silent for this long is closed; here, too, so that the next
        // message opens it anew.
        let silence = Duration::from_secs_f64(
            settings.stream_stale_timeout_seconds + settings.stream_cleanup_timeout_seconds,
        );
        let epochs = Epochs::new(ctx.first_epoch());
        let sessions = Sessions::new(epochs, doors.clone(), PIECE, silence);
        let waker = ctx.waker();
        let network = Network::start(config(settings, doors, silence)?, move || waker.wake())?;
        Ok(Self {
            network: Some(network),
            sessions,
            deliveries: HashMap::new(),
            leaving: Vec::new(),
        })
    }

    fn input(&mut self, _: &mut Context<Piece>, input: &str, _: Message) -> Result<(), BadMessage> {
        let what = format!("ingest has no data inputs, came {input}");
        Err(BadMessage::new("unexpected", what))
    }

    fn stream(&mut self, _: &mut Context<Piece>, _: &StreamChange) -> eyre::Result<()> {
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Piece>) -> eyre::Result<Work> {
        self.listen();
        self.leaving
            .retain(|(stream, epoch, _)| !ctx.is_clear(stream, *epoch));
        let mut work = Work::Wait;
        while let Some(step) = self.sessions.next(|stream| ctx.room(stream)) {
            self.take(ctx, step)?;
            work = Work::Again;
        }
        Ok(work)
    }

    fn send(&mut self, outputs: &mut Outputs, header: &Header, piece: &Piece) -> eyre::Result<()> {
        let mut metadata = Metadata::default();
        piece.info.write(&mut metadata);
        outputs.bytes("chunks", header, metadata, &piece.bytes)
    }

    fn acknowledged(&mut self, header: &Header) {
        if let Some(delivery) = self.deliveries.remove(&header.id) {
            self.answer(Answer::Acknowledge(delivery));
        }
    }

    fn finish(&mut self, _: &mut Context<Piece>) -> eyre::Result<()> {
        self.network = None;
        Ok(())
    }
}

impl Ingest {
    /// What the network has brought.
    fn listen(&mut self) {
        let Some(network) = &mut self.network else {
            return;
        };
        for opened in network.opened.try_iter() {
            self.sessions.connected(opened);
        }
        while let Ok(taken) = network.taken.try_recv() {
            let stream = taken.stream.clone();
            if let Err((delivery, reason)) = self.sessions.delivered(taken) {
                metrics::counter!(
                    names::BAD_MESSAGES, "input" => "amqp", "reason" => "refused"
                )
                .increment(1);
                tracing::warn!(stream_id = %stream, "message rejected: {reason}");
                let _network_is_gone = network.answers.send(Answer::Reject(delivery));
            }
        }
    }

    fn take(&mut self, ctx: &mut Context<Piece>, step: Step) -> eyre::Result<()> {
        let event = |event, detail| StreamEvent { event, detail };
        match step {
            Step::Opened(header, detail) => {
                tracing::info!(
                    stream_id = %header.id.stream, epoch = header.id.epoch.0, detail, "stream opened"
                );
                ctx.emit(&header, event(StreamEventKind::Opened, detail))?;
            }
            Step::Piece(header, piece, delivery) => {
                let stream = header.id.stream.to_string();
                metrics::counter!(CHUNKS, "stream_id" => stream.clone()).increment(1);
                metrics::counter!(CHUNK_BYTES, "stream_id" => stream)
                    .increment(piece.bytes.len() as u64);
                if let Some(delivery) = delivery {
                    self.deliveries.insert(header.id.clone(), delivery);
                }
                ctx.queue(header, piece);
            }
            Step::Closed(header, ticket) => {
                let id = &header.id;
                let place = |ticket| (id.stream.clone(), id.epoch, ticket);
                self.leaving.extend(ticket.map(place));
                tracing::info!(
                    stream_id = %header.id.stream, epoch = header.id.epoch.0,
                    chunks = header.id.frame.0, "stream closed"
                );
                ctx.emit(&header, event(StreamEventKind::Closed, String::new()))?;
            }
        }
        metrics::gauge!(names::ACTIVE_STREAMS).set(self.sessions.len() as f64);
        Ok(())
    }

    fn answer(&self, answer: Answer) {
        if let Some(network) = &self.network {
            // Without a network thread nobody waits for an answer.
            let _network_is_gone = network.answers.send(answer);
        }
    }
}

fn config(settings: Settings, doors: Doors, silence: Duration) -> Result<Config, IngestError> {
    let max_message = (settings.ingest_max_message_mb * 1_048_576.0) as usize;
    let tls = match (settings.ingest_tls_cert, settings.ingest_tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            let set = "INGEST_TLS_CERT";
            return Err(IngestError::HalfTls { set });
        }
        (None, Some(_)) => {
            let set = "INGEST_TLS_KEY";
            return Err(IngestError::HalfTls { set });
        }
    };
    let server = settings.ingest_websocket.then(|| Server {
        host: settings.ingest_host,
        port: settings.ingest_port,
        tls,
        limits: Limits {
            token: Secret::new(settings.ingest_token),
            max_message,
            max_rate_mbit: settings.ingest_max_rate_mbit,
            silence,
        },
    });
    let broker = Secret::new(settings.ingest_amqp_url).map(|url| Broker {
        url,
        queue: settings.ingest_amqp_queue,
        prefetch: settings.ingest_amqp_prefetch,
        max_message,
    });
    Ok(Config {
        server,
        broker,
        doors,
        memory: MEMORY.max(2 * max_message),
    })
}
