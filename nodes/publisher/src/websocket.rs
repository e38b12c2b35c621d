//! The sink `websocket`: the feed, one JSON message per frame to everybody who is connected.
//!
//! `{"kind":"tracks","stream_id":…,"epoch":…,"frame":…,"pts_ns":…,"status":…,"rows":[…]}` with the
//! rows of `tracks.jsonl`; `{"kind":"identification",…}` one a row; `{"kind":"stream",…,"event":…}`
//! for what is said of streams. What nobody hears is gone.

use std::io::Write;
use std::sync::Arc;

use serde_json::json;
use tracklens_schemas::jsonl::write_identification_row;
use tracklens_schemas::{
    Epoch, Header, Identification, StreamEventKind, StreamId, Track, TracksInfo,
};

use crate::live::{Live, Said, write_rows};
use crate::{Order, Sink, SinkError, SinkFile};

/// Says every row to the feed.
pub struct Feed {
    live: Arc<Live>,
    order: Order,
}

impl Feed {
    /// Says it through this scene, which a server makes heard.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            live,
            order: Order::default(),
        }
    }

    /// Says a message; false where nobody listens.
    fn say(&self, stream: &StreamId, text: Vec<u8>) -> bool {
        let said = Said {
            stream: stream.clone(),
            text: String::from_utf8_lossy(&text).into_owned(),
        };
        self.live.feed.send(Arc::new(said)).is_ok()
    }

    fn unheard(&self) -> bool {
        self.live.feed.receiver_count() == 0
    }
}

impl Sink for Feed {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn stream_event(
        &mut self,
        stream: &StreamId,
        epoch: Epoch,
        event: StreamEventKind,
        detail: &str,
    ) {
        let event = event.as_str();
        let text = json!({
            "kind": "stream", "stream_id": stream, "epoch": epoch, "event": event, "detail": detail,
        });
        self.say(stream, text.to_string().into_bytes());
    }

    fn tracks(
        &mut self,
        header: &Header,
        info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        let again = !tracks.is_empty() && self.order.missing(&header.id, tracks).next().is_none();
        self.order.written(&header.id);
        if again || self.unheard() {
            return Ok(0);
        }
        let mut text = Vec::with_capacity(256 * (tracks.len() + 1));
        let id = &header.id;
        // Writing to memory cannot fail.
        let _infallible = write!(
            text,
            "{{\"kind\":\"tracks\",\"stream_id\":\"{}\",\"epoch\":{},\"frame\":{},\"pts_ns\":{},\
             \"status\":\"{}\",\"rows\":[",
            id.stream,
            id.epoch.0,
            id.frame.0,
            header.pts_ns,
            info.status.as_str()
        );
        write_rows(&mut text, header, tracks);
        text.extend_from_slice(b"]}");
        let heard = self.say(&id.stream, text);
        Ok(if heard { tracks.len() as u64 } else { 0 })
    }

    fn identifications(
        &mut self,
        header: &Header,
        rows: &[Identification],
    ) -> Result<u64, SinkError> {
        let mut heard = 0;
        for row in rows {
            let mut text = Vec::new();
            write_identification_row(&mut text, header, row);
            text.pop();
            heard += u64::from(self.say(&header.id.stream, text));
        }
        Ok(heard)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.order.forget(stream);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn files(&self) -> Vec<SinkFile> {
        Vec::new()
    }
}
