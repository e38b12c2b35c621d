//! What is streamed: boards and pictures to the page, rows to the readers of the feed.
//!
//! Slow readers do not hold anything up. A page gets the newest picture whenever it has taken the
//! one before; a reader of the feed is told how many messages it missed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracklens_schemas::StreamId;
use tracklens_video::JpegEncoder;

use super::scene::View;
use super::server::Shared;
use super::{Live, Picture};

/// Clients of page and feed (gauge; `kind`).
const CLIENTS: &str = "video_processor_feed_clients";
/// Time between two boards.
const BOARD: Duration = Duration::from_millis(500);
/// Widest pictures, in pixels.
const WIDEST: u32 = 1920;
/// Pictures until the page says what it wants.
const FIRST_VIEW: View = View {
    width: 640,
    streams: None,
};
/// Code of a socket that is closed because there is nothing more to say.
const GOING_AWAY: u16 = 1001;

/// What a page may say.
#[derive(Deserialize)]
struct Wish {
    /// Widest picture of use, in pixels.
    width: u32,
    /// The streams in view; absent: all.
    streams: Option<BTreeSet<StreamId>>,
}

/// Counts a client while it is there.
struct Client(&'static str);

impl Client {
    fn new(kind: &'static str) -> Self {
        metrics::gauge!(CLIENTS, "kind" => kind).increment(1.0);
        Self(kind)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        metrics::gauge!(CLIENTS, "kind" => self.0).decrement(1.0);
    }
}

/// The page's socket.
pub(crate) async fn page(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.max_message_size(1 << 16);
    upgrade.on_upgrade(|socket| async move {
        let _client = Client::new("page");
        let view = shared.live.scene().look(None, FIRST_VIEW);
        let visit = Visit {
            live: &shared.live,
            view: FIRST_VIEW,
            revision: 0,
            picture: 0,
            encoder: JpegEncoder::default(),
        };
        // An error is a page that was closed.
        let _gone = visit.run(socket, view).await;
        shared.live.scene().look_away(view);
    })
}

struct Visit<'a> {
    live: &'a Live,
    view: View,
    revision: u64,
    picture: u64,
    encoder: JpegEncoder,
}

impl Visit<'_> {
    async fn run(mut self, mut socket: WebSocket, number: u64) -> Result<(), axum::Error> {
        let mut over = self.live.over.subscribe();
        let mut shown = self.live.shown.subscribe();
        shown.mark_changed();
        let mut board = tokio::time::interval(BOARD);
        loop {
            tokio::select! {
                said = socket.recv() => match said {
                    Some(Ok(Message::Text(text))) => self.hear(&text, number),
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                },
                _ = board.tick() => socket.send(self.board()).await?,
                _ = shown.changed() => self.show(&mut socket).await?,
                () = ended(&mut over) => {
                    self.show(&mut socket).await?;
                    socket.send(self.board()).await?;
                    return close(&mut socket).await;
                }
            }
        }
    }

    /// What is not a wish is ignored: there is nothing else to ask for.
    fn hear(&mut self, text: &str, number: u64) {
        if let Ok(wish) = serde_json::from_str::<Wish>(text) {
            self.view = View {
                width: wish.width.clamp(160, WIDEST),
                streams: wish.streams,
            };
            self.live.scene().look(Some(number), self.view.clone());
        }
    }

    fn board(&mut self) -> Message {
        let changes = self.live.scene().board.since(self.revision, Instant::now());
        self.revision = changes.revision;
        // Our own plain data: it cannot fail to become JSON.
        Message::text(serde_json::to_string(&changes).unwrap_or_default())
    }

    /// Sends each stream's newest picture, if it is new.
    async fn show(&mut self, socket: &mut WebSocket) -> Result<(), axum::Error> {
        let new: Vec<Arc<Picture>> = {
            let scene = self.live.scene();
            let new = scene.pictures.after(self.picture);
            let newest = new.last().map_or(self.picture, |(_, last)| last.number);
            self.picture = newest;
            let shown = new.into_iter().filter(|(id, _)| self.view.shows(id));
            shown.map(|(_, picture)| picture).collect()
        };
        for picture in new {
            let jpeg = picture.jpeg(&mut self.encoder);
            let mut message = Vec::with_capacity(4 + picture.head.len() + jpeg.len());
            message.extend((picture.head.len() as u32).to_le_bytes());
            message.extend(&picture.head);
            message.extend(jpeg);
            socket.send(Message::binary(message)).await?;
        }
        Ok(())
    }
}

/// The feed's socket. `?stream=a,b` asks for these streams only.
pub(crate) async fn feed(
    State(shared): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let streams = query.get("stream").map(|list| {
        let names = list.split(',').map(String::from);
        names.collect::<BTreeSet<String>>()
    });
    upgrade
        .max_message_size(1 << 12)
        .on_upgrade(|socket| async move {
            let _client = Client::new("feed");
            // An error is a reader that has gone.
            let _gone = tell(&shared.live, socket, streams).await;
        })
}

async fn tell(
    live: &Live,
    mut socket: WebSocket,
    streams: Option<BTreeSet<String>>,
) -> Result<(), axum::Error> {
    let mut feed = live.feed.subscribe();
    let mut over = live.over.subscribe();
    loop {
        tokio::select! {
            biased;
            message = feed.recv() => match message {
                Ok(said) => {
                    let wanted = |some: &BTreeSet<String>| some.contains(said.stream.as_str());
                    if streams.as_ref().is_none_or(wanted) {
                        socket.send(Message::text(said.text.clone())).await?;
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    let text = format!("{{\"kind\":\"missed\",\"messages\":{missed}}}");
                    socket.send(Message::text(text)).await?;
                }
                Err(RecvError::Closed) => return close(&mut socket).await,
            },
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
            () = ended(&mut over) => return close(&mut socket).await,
        }
    }
}

/// Waits for the end of the run.
async fn ended(over: &mut watch::Receiver<bool>) {
    // Without a sender there is no run.
    let _no_run = over.wait_for(|over| *over).await.is_err();
}

async fn close(socket: &mut WebSocket) -> Result<(), axum::Error> {
    let reason = CloseFrame {
        code: GOING_AWAY,
        reason: "the run is over".into(),
    };
    socket.send(Message::Close(Some(reason))).await
}
