//! The WebSocket server: `/streams/{stream_id}`, binary messages, one connection a stream.
//!
//! A connection is read only as fast as the dataflow takes its messages: TCP then holds the sender
//! back. Text messages are JSON about what follows: `{"codec": "hevc"}`, `{"timestamp_ns": 40000000}`
//! (of the next message), `{"end_of_stream": true}`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};
use tracklens_schemas::{Codec, StreamId, wall_clock_ns};

use crate::doors::{Doors, Origin, Replaced, Ticket};
use crate::rate::RateLimit;
use crate::received::{Received, Room};
use crate::secret::Secret;
use crate::{IngestError, bad_message};

/// Messages of one connection that wait for the dataflow, before it is no longer read.
const QUEUE: usize = 4;
/// How often a silent connection is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// A connection that answers nothing for this long is dead.
const DEAD: Duration = Duration::from_secs(60);
/// The longest text message that is read.
const MAX_CONTROL: usize = 4096;
/// Close codes: RFC 6455, section 7.4.1; 4000 and above are ours.
const GOING_AWAY: u16 = 1001;
const UNSUPPORTED: u16 = 1003;
const TOO_LARGE: u16 = 1009;
const REPLACED: u16 = 4001;
const SILENT: u16 = 4002;

/// Certificate chain and key, PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the server goes by.
#[derive(Debug)]
pub struct Limits {
    /// What senders must show; `None` lets everybody in (and is for loopback only).
    pub token: Option<Secret>,
    /// Largest message in bytes.
    pub max_message: usize,
    /// Megabits per second and connection.
    pub max_rate_mbit: f64,
    /// A connection without messages for this long is closed.
    pub silence: Duration,
}

/// A connection that has been let in.
#[derive(Debug)]
pub struct Opened {
    /// The stream.
    pub stream: StreamId,
    /// Its messages; the end of them is the end of the connection.
    pub messages: mpsc::Receiver<Received>,
    /// Its place.
    pub ticket: Ticket,
}

/// What the handlers share.
pub struct Gate {
    limits: Limits,
    doors: Doors,
    memory: Arc<Semaphore>,
    opened: std::sync::mpsc::Sender<Opened>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Gate {
    /// A gate whose connections are announced on `opened`; `wake` is called after each announcement
    /// and message. `memory` counts bytes.
    pub fn new(
        limits: Limits,
        doors: Doors,
        memory: Arc<Semaphore>,
        opened: std::sync::mpsc::Sender<Opened>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            limits,
            doors,
            memory,
            opened,
            wake: Box::new(wake),
        }
    }
}

/// Reads the TLS files.
///
/// # Errors
/// Where they cannot be read or do not fit together.
pub async fn tls(files: &TlsFiles) -> Result<RustlsConfig, IngestError> {
    RustlsConfig::from_pem_file(&files.cert, &files.key)
        .await
        .map_err(|error| IngestError::Tls {
            cert: files.cert.display().to_string(),
            key: files.key.display().to_string(),
            reason: error.to_string(),
        })
}

/// Serves until the handle is told to shut down.
///
/// # Errors
/// Where the listener fails as a whole; single connections never do that.
pub async fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    gate: Gate,
    handle: Handle<std::net::SocketAddr>,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/streams/{stream_id}", get(enter))
        .route("/health", get(|| async { "ok\n" }))
        .with_state(Arc::new(gate));
    let service = app.into_make_service();
    match tls {
        Some(config) => {
            axum_server::from_tcp_rustls(listener, config)?
                .handle(handle)
                .serve(service)
                .await
        }
        None => {
            axum_server::from_tcp(listener)?
                .handle(handle)
                .serve(service)
                .await
        }
    }
}

#[derive(Deserialize)]
struct Asked {
    token: Option<String>,
    codec: Option<String>,
}

/// A refused handshake.
fn refuse(status: StatusCode, reason: &'static str, detail: String) -> Response {
    bad_message("websocket", reason);
    (status, detail + "\n").into_response()
}

async fn enter(
    State(gate): State<Arc<Gate>>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .or(asked.token.as_deref());
    if let Some(token) = &gate.limits.token
        && !shown.is_some_and(|shown| token.is(shown.trim()))
    {
        let what = "a valid token is needed: `Authorization: Bearer TOKEN` or ?token=TOKEN";
        return refuse(StatusCode::UNAUTHORIZED, "token", what.into());
    }
    let stream: StreamId = match name.parse() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!("{error}: refused");
            return refuse(StatusCode::BAD_REQUEST, "stream_id", error.to_string());
        }
    };
    let codec: Codec = match asked.codec.as_deref().unwrap_or("h264").parse() {
        Ok(codec) => codec,
        Err(error) => {
            let error: tracklens_schemas::SchemaError = error;
            return refuse(StatusCode::BAD_REQUEST, "codec", error.to_string());
        }
    };
    let (ticket, replaced) = match gate.doors.enter(&stream, Origin::WebSocket) {
        Ok(ticket) => ticket,
        Err(refusal) => {
            let status = match refusal {
                crate::doors::Refusal::InUse => StatusCode::CONFLICT,
                crate::doors::Refusal::TooManyStreams { .. } => StatusCode::SERVICE_UNAVAILABLE,
            };
            tracing::warn!(stream_id = %stream, "{refusal}");
            return refuse(status, "refused", refusal.to_string());
        }
    };
    let max = gate.limits.max_message;
    upgrade
        .max_message_size(max)
        .max_frame_size(max)
        .on_upgrade(move |socket| async move {
            Connection::new(gate, stream, codec, replaced)
                .run(socket, ticket)
                .await;
        })
}

/// Text messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    codec: Option<String>,
    timestamp_ns: Option<i64>,
    #[serde(default)]
    end_of_stream: bool,
}

struct Connection {
    gate: Arc<Gate>,
    stream: StreamId,
    codec: Codec,
    timestamp_ns: Option<i64>,
    replaced: Replaced,
    rate: RateLimit,
    start: Instant,
}

/// Why a connection ends.
enum End {
    /// The sender has closed it, or it broke.
    Gone,
    /// We close it.
    Close(u16, String),
}

impl Connection {
    fn new(gate: Arc<Gate>, stream: StreamId, codec: Codec, replaced: Replaced) -> Self {
        let rate = RateLimit::new(gate.limits.max_rate_mbit);
        Self {
            gate,
            stream,
            codec,
            timestamp_ns: None,
            replaced,
            rate,
            start: Instant::now(),
        }
    }

    async fn run(mut self, mut socket: WebSocket, ticket: Ticket) {
        let (sender, messages) = mpsc::channel(QUEUE);
        let opened = Opened {
            stream: self.stream.clone(),
            messages,
            ticket,
        };
        if self.gate.opened.send(opened).is_err() {
            return;
        }
        (self.gate.wake)();
        let end = self.read(&mut socket, &sender).await;
        if let End::Close(code, reason) = end {
            tracing::warn!(stream_id = %self.stream, code, "connection closed: {reason}");
            let frame = CloseFrame {
                code,
                reason: reason.into(),
            };
            let said = socket.send(Message::Close(Some(frame)));
            let _sender_may_be_gone = tokio::time::timeout(Duration::from_secs(2), said).await;
        }
        drop(sender);
        (self.gate.wake)();
    }

    async fn read(&mut self, socket: &mut WebSocket, sender: &mpsc::Sender<Received>) -> End {
        let (mut heard, mut last_message) = (Instant::now(), Instant::now());
        loop {
            let message = tokio::select! {
                () = self.replaced.wait() => return replaced(),
                message = socket.recv() => message,
                () = tokio::time::sleep(PING.min(self.gate.limits.silence)) => {
                    if let Some(end) = self.silent(heard, last_message) {
                        return end;
                    }
                    let ping = socket.send(Message::Ping(Vec::new().into()));
                    match tokio::time::timeout(DEAD, ping).await {
                        Ok(Ok(())) => continue,
                        _ => return End::Gone,
                    }
                }
            };
            heard = Instant::now();
            let received = match message {
                None => return End::Gone,
                Some(Err(error)) => return self.broken(&error),
                Some(Ok(Message::Close(_))) => return End::Gone,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    if let Some(end) = self.silent(heard, last_message) {
                        return end;
                    }
                    continue;
                }
                Some(Ok(Message::Text(text))) => match self.control(&text) {
                    Ok(None) => continue,
                    Ok(Some(received)) => received,
                    Err(detail) => {
                        bad_message("websocket", "control");
                        return End::Close(UNSUPPORTED, detail);
                    }
                },
                Some(Ok(Message::Binary(bytes))) => Received {
                    codec: self.codec,
                    seq: None,
                    timestamp_ns: self.timestamp_ns.take(),
                    capture_ns: wall_clock_ns(),
                    end_of_stream: false,
                    room: None,
                    bytes,
                },
            };
            last_message = heard;
            if let Some(end) = self.pass_on(received, sender).await {
                return end;
            }
        }
    }

    /// Hands a message to the dataflow; waits where it must, and the sender with it.
    async fn pass_on(
        &mut self,
        mut received: Received,
        sender: &mpsc::Sender<Received>,
    ) -> Option<End> {
        let len = received.bytes.len();
        let pause = self.rate.take(len, self.start.elapsed());
        let last = received.end_of_stream;
        let memory = Arc::clone(&self.gate.memory);
        let hand_over = async {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            received.room = room(memory, len).await;
            sender.send(received).await.is_ok()
        };
        let taken = tokio::select! {
            () = self.replaced.wait() => return Some(replaced()),
            taken = hand_over => taken,
        };
        (self.gate.wake)();
        match (taken, last) {
            (true, false) => None,
            (true, true) => Some(End::Gone),
            (false, _) => Some(End::Close(GOING_AWAY, "the dataflow is stopping".into())),
        }
    }

    fn silent(&self, heard: Instant, last_message: Instant) -> Option<End> {
        let silence = self.gate.limits.silence;
        if heard.elapsed() >= DEAD {
            return Some(End::Close(SILENT, "no sign of life".into()));
        }
        (last_message.elapsed() >= silence).then(|| {
            let seconds = silence.as_secs();
            End::Close(SILENT, format!("no message for {seconds} s"))
        })
    }

    fn broken(&self, error: &axum::Error) -> End {
        let text = error.to_string();
        if text.contains("too long") {
            bad_message("websocket", "too_large");
            let max = self.gate.limits.max_message;
            return End::Close(
                TOO_LARGE,
                format!("a message may have {max} bytes (INGEST_MAX_MESSAGE_MB)"),
            );
        }
        tracing::debug!(stream_id = %self.stream, "connection broke: {text}");
        End::Gone
    }

    fn control(&mut self, text: &str) -> Result<Option<Received>, String> {
        let accepted = "a text message should be JSON with codec, timestamp_ns or end_of_stream";
        if text.len() > MAX_CONTROL {
            return Err(format!("{accepted}, of at most {MAX_CONTROL} bytes"));
        }
        let control: Control =
            serde_json::from_str(text).map_err(|error| format!("{accepted}: {error}"))?;
        if let Some(codec) = control.codec {
            self.codec = codec
                .parse()
                .map_err(|error: tracklens_schemas::SchemaError| error.to_string())?;
        }
        if control.timestamp_ns.is_some() {
            self.timestamp_ns = control.timestamp_ns;
        }
        Ok(control.end_of_stream.then(|| Received {
            bytes: Vec::new().into(),
            codec: self.codec,
            seq: None,
            timestamp_ns: None,
            capture_ns: wall_clock_ns(),
            end_of_stream: true,
            room: None,
        }))
    }
}

fn replaced() -> End {
    End::Close(
        REPLACED,
        "a newer connection has taken this stream over".into(),
    )
}

/// Waits for room in memory.
pub(crate) async fn room(memory: Arc<Semaphore>, len: usize) -> Option<Room> {
    let permits = u32::try_from(len.max(1)).unwrap_or(u32::MAX);
    memory.acquire_many_owned(permits).await.ok().map(Arc::new)
}
