//! From records to what is to be sent.

use std::collections::BTreeMap;
use std::time::Duration;

use dora_node_api::{MetadataParameters, Parameter};
use tracklens_node::header_of;
use tracklens_recording::{Fault, Record};
use tracklens_schemas::arrow::array::ArrayRef;
use tracklens_schemas::{
    Epoch, FrameIndex, Header, StreamEvent, StreamEventKind, StreamId, keys, stream_events,
};

/// A recorded message.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The output it was sent on.
    pub output: String,
    /// Its metadata.
    pub parameters: MetadataParameters,
    /// Its payload.
    pub array: ArrayRef,
}

/// What is to be done next.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame: sent when there is credit for it.
    Frame(Header, Parcel),
    /// A message that waits for nothing.
    Free(Parcel),
    /// Something about a stream.
    Event(Header, StreamEvent),
}

/// A stream as far as it has been played in this round.
#[derive(Debug, Default)]
struct Stream {
    /// The last frame.
    last: Option<(Epoch, FrameIndex)>,
    /// The epoch and the last word on it; it is open unless that is `closed`.
    said: Option<(Epoch, StreamEvent)>,
}

/// What a node has said, with what is repeated in a recording said once, and all streams brought to
/// their ends where the recording breaks off.
#[derive(Debug)]
pub struct Script {
    node: String,
    gated: Option<String>,
    from: Duration,
    stream: Option<StreamId>,
    streams: BTreeMap<StreamId, Stream>,
    /// Epochs of the rounds before.
    base: u32,
    highest: u32,
}

impl Script {
    /// `gated`: the node's output that waits for credit; `from` and `stream`: what is played.
    #[must_use]
    pub fn new(
        node: &str,
        gated: Option<String>,
        from: Duration,
        stream: Option<StreamId>,
    ) -> Self {
        Self {
            node: node.into(),
            gated,
            from,
            stream,
            streams: BTreeMap::new(),
            base: 0,
            highest: 0,
        }
    }

    /// Whether a record is of the node that is played.
    #[must_use]
    pub fn is_ours(&self, record: &Record) -> bool {
        record.node == self.node
    }

    /// What a record asks for.
    ///
    /// # Errors
    /// Where the payload is no message.
    pub fn steps(&mut self, record: &Record) -> Result<Vec<Step>, Fault> {
        let mut parameters = record.parameters.clone();
        let header = header_of(&parameters).map(|(header, _)| self.shifted(header));
        if let (Some(only), Some(header)) = (&self.stream, &header)
            && *only != header.id.stream
        {
            return Ok(Vec::new());
        }
        let is_event = record.output == "stream_events";
        // What was said of a stream before the beginning still holds.
        if record.offset < self.from && !is_event {
            return Ok(Vec::new());
        }
        let array = record.data()?.into_inner();
        if let Some(header) = &header {
            let epoch = Parameter::Integer(i64::from(header.id.epoch.0));
            parameters.insert(keys::EPOCH.into(), epoch);
        }
        if is_event {
            // Without a header it is the end of a source, which comes when the recording ends.
            let Some(header) = header else {
                return Ok(Vec::new());
            };
            let rows = stream_events::decode(&array).unwrap_or_default();
            let said = rows.into_iter().filter_map(|row| self.event(&header, row));
            return Ok(said.collect());
        }
        let parcel = Parcel {
            output: record.output.clone(),
            parameters,
            array,
        };
        Ok(match header {
            Some(header) if self.gated.as_ref() == Some(&record.output) => {
                let frame = self.frame(header, parcel);
                frame.into_iter().collect()
            }
            _ => vec![Step::Free(parcel)],
        })
    }

    fn shifted(&mut self, mut header: Header) -> Header {
        let Epoch(epoch) = header.id.epoch;
        self.highest = self.highest.max(epoch);
        header.id.epoch = Epoch(epoch.saturating_add(self.base));
        header
    }

    /// A frame, unless it has been played: it was sent again then.
    fn frame(&mut self, header: Header, parcel: Parcel) -> Option<Step> {
        let stream = self.streams.entry(header.id.stream.clone()).or_default();
        let at = (header.id.epoch, header.id.frame);
        if stream.last.is_some_and(|last| at <= last) {
            return None;
        }
        stream.last = Some(at);
        Some(Step::Frame(header, parcel))
    }

    /// An event, unless it has been said: last words are repeated to whoever asks.
    fn event(&mut self, header: &Header, event: StreamEvent) -> Option<Step> {
        if event.event == StreamEventKind::Exhausted {
            return None;
        }
        let stream = self.streams.entry(header.id.stream.clone()).or_default();
        let epoch = header.id.epoch;
        let again = stream.said.as_ref().is_some_and(|(last, said)| {
            let over = said.event == StreamEventKind::Closed;
            epoch < *last || (epoch == *last && (over || *said == event))
        });
        if again {
            return None;
        }
        stream.said = Some((epoch, event.clone()));
        Some(Step::Event(header.clone(), event))
    }

    /// The recording is over: what it left open is closed, and the next round's epochs follow on.
    pub fn end(&mut self) -> Vec<Step> {
        self.base = self.base.saturating_add(self.highest).saturating_add(1);
        let streams = std::mem::take(&mut self.streams).into_iter();
        let open = streams.filter_map(|(id, stream)| {
            let frames = stream.last.map_or(0, |(_, frame)| frame.0 + 1);
            let last = stream.last.map(|(epoch, _)| epoch);
            let said = stream.said.as_ref().map(|(epoch, _)| *epoch);
            let epoch = last.max(said)?;
            let closed = |(of, event): &(Epoch, StreamEvent)| {
                *of == epoch && event.event == StreamEventKind::Closed
            };
            if stream.said.as_ref().is_some_and(closed) {
                return None;
            }
            Some(closing(
                id,
                epoch,
                if last == Some(epoch) { frames } else { 0 },
            ))
        });
        open.collect()
    }
}

fn closing(stream: StreamId, epoch: Epoch, frames: u64) -> Step {
    let id = tracklens_schemas::FrameId {
        stream,
        epoch,
        frame: FrameIndex(frames),
    };
    let header = Header {
        id,
        pts_ns: 0,
        capture_ns: 0,
    };
    let event = StreamEvent {
        event: StreamEventKind::Closed,
        detail: "the recording ends here".into(),
    };
    Step::Event(header, event)
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
