//! The AMQP 0-9-1 consumer: one queue, messages of many streams, each acknowledged once the decoder
//! has taken it.
//!
//! A message's headers: `stream_id` (text), `codec` (`h264`, the default, or `hevc`), `timestamp_ns`
//! and `seq` (whole numbers), `end_of_stream` (true or false); all but the first may be missing. How
//! many messages wait here is bounded by the prefetch count, so a slow decoder leaves the others with
//! the broker.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Acker;
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::{Semaphore, mpsc, watch};
use tracklens_node::Backoff;
use tracklens_schemas::{Codec, StreamId, wall_clock_ns};

use crate::bad_message;
use crate::ledger::{Delivered, Delivery, Ledger};
use crate::received::Received;
use crate::secret::{Secret, host, without_password};
use crate::websocket::room;

/// The first pause before the broker is tried again, and the longest.
const FIRST: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(15);
/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// 1 while the broker is connected (gauge).
const CONNECTED: &str = "video_processor_broker_connected";

/// Where the messages come from.
#[derive(Debug)]
pub struct Broker {
    /// Address, with user and password.
    pub url: Secret,
    /// The queue.
    pub queue: String,
    /// Messages delivered and not acknowledged.
    pub prefetch: u16,
    /// Largest message in bytes.
    pub max_message: usize,
}

/// A message that is to be worked on.
#[derive(Debug)]
pub struct Taken {
    /// Its name for [`Answer`].
    pub delivery: Delivery,
    /// Its stream.
    pub stream: StreamId,
    /// The message.
    pub received: Received,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The decoder has taken it.
    Acknowledge(Delivery),
    /// It is not wanted: thrown away, or dead-lettered where the queue has it so.
    Reject(Delivery),
}

/// What the consumer shares with the rest.
pub struct Wires {
    /// Messages go here.
    pub taken: mpsc::UnboundedSender<Taken>,
    /// Answers come from here.
    pub answers: mpsc::UnboundedReceiver<Answer>,
    /// Counts bytes.
    pub memory: Arc<Semaphore>,
    /// Becomes true when it is time to end.
    pub stop: watch::Receiver<bool>,
    /// Called after each message.
    pub wake: Box<dyn Fn() + Send>,
}

/// Consumes until told to stop; a broker that is away is tried again, with growing pauses.
pub async fn consume(broker: Broker, mut wires: Wires) {
    let mut ledger = Ledger::new(broker.prefetch.into());
    let mut backoff = Backoff::new(FIRST, CAP);
    let shown = host(broker.url.reveal());
    let mut told = false;
    loop {
        let connected = tokio::select! {
            () = stopped(&mut wires.stop) => return,
            connected = tokio::time::timeout(PATIENCE, connect(&broker)) => connected,
        };
        let reason = match connected {
            Err(_) => format!("no answer for {} s", PATIENCE.as_secs()),
            Ok(Err(error)) => without_password(&error.to_string(), broker.url.reveal()),
            Ok(Ok((connection, consumer))) => {
                tracing::info!(
                    broker = shown,
                    queue = broker.queue,
                    "taking chunks from the broker"
                );
                metrics::gauge!(CONNECTED).set(1.0);
                backoff.reset();
                told = false;
                let ended = take(&broker, &mut wires, &mut ledger, consumer).await;
                metrics::gauge!(CONNECTED).set(0.0);
                ledger.disconnected();
                match ended {
                    None => {
                        let closed = connection.close(200, "stopping".into());
                        let _broker_may_be_gone =
                            tokio::time::timeout(Duration::from_secs(1), closed).await;
                        return;
                    }
                    Some(reason) => without_password(&reason, broker.url.reveal()),
                }
            }
        };
        let pause = backoff.next(fastrand::f64());
        if told {
            tracing::debug!(broker = shown, ?pause, "still no broker: {reason}");
        } else {
            tracing::warn!(
                broker = shown,
                "no broker: {reason}; trying again from time to time"
            );
            told = true;
        }
        if pause_or_stop(&mut wires, &mut ledger, pause).await {
            return;
        }
    }
}

/// Returns when it is time to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could ask for it.
    let _asked = stop.wait_for(|stop| *stop).await;
}

/// Waits; answers that come meanwhile are noted. Whether it is time to end.
async fn pause_or_stop(wires: &mut Wires, ledger: &mut Ledger<Acker>, pause: Duration) -> bool {
    let until = tokio::time::Instant::now() + pause;
    loop {
        tokio::select! {
            () = stopped(&mut wires.stop) => return true,
            Some(answer) = wires.answers.recv() => {
                // The connection is gone: the broker will deliver it again, and is told then.
                let (Answer::Acknowledge(delivery) | Answer::Reject(delivery)) = answer;
                ledger.done(delivery);
            }
            () = tokio::time::sleep_until(until) => return false,
        }
    }
}

async fn connect(broker: &Broker) -> lapin::Result<(Connection, Consumer)> {
    let properties =
        ConnectionProperties::default().with_connection_name("tracklens-ingest".into());
    let connection = Connection::connect(broker.url.reveal(), properties).await?;
    let channel = queue(&connection, &broker.queue).await?;
    channel
        .basic_qos(broker.prefetch, BasicQosOptions::default())
        .await?;
    let consumer = channel
        .basic_consume(
            broker.queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((connection, consumer))
}

/// A channel, and on it the queue: as it is, or declared where there is none.
async fn queue(connection: &Connection, name: &str) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel
        .queue_declare(name.into(), passive, FieldTable::default())
        .await;
    if found.is_ok() {
        return Ok(channel);
    }
    // A failed question closes its channel.
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), durable, FieldTable::default())
        .await?;
    Ok(channel)
}

/// Takes messages and gives answers until the connection breaks (with the reason) or it is time to
/// end (`None`).
async fn take(
    broker: &Broker,
    wires: &mut Wires,
    ledger: &mut Ledger<Acker>,
    mut consumer: Consumer,
) -> Option<String> {
    loop {
        let done = tokio::select! {
            () = stopped(&mut wires.stop) => return None,
            Some(answer) = wires.answers.recv() => give(ledger, answer).await,
            message = consumer.next() => match message {
                None => return Some("the broker has ended the subscription".into()),
                Some(Err(error)) => return Some(error.to_string()),
                Some(Ok(message)) => receive(broker, wires, ledger, message).await,
            },
        };
        if let Err(error) = done {
            return Some(error.to_string());
        }
    }
}

async fn give(ledger: &mut Ledger<Acker>, answer: Answer) -> lapin::Result<()> {
    match answer {
        Answer::Acknowledge(delivery) => match ledger.done(delivery) {
            Some(acker) => acker.ack(BasicAckOptions::default()).await.map(drop),
            None => Ok(()),
        },
        Answer::Reject(delivery) => match ledger.done(delivery) {
            Some(acker) => reject(&acker).await,
            None => Ok(()),
        },
    }
}

async fn reject(acker: &Acker) -> lapin::Result<()> {
    let thrown_away = BasicRejectOptions { requeue: false };
    acker.reject(thrown_away).await.map(drop)
}

async fn receive(
    broker: &Broker,
    wires: &mut Wires,
    ledger: &mut Ledger<Acker>,
    mut message: Message,
) -> lapin::Result<()> {
    let (stream, mut received) = match read(&mut message, broker.max_message) {
        Ok(read) => read,
        Err((reason, detail)) => {
            if bad_message("amqp", reason) {
                tracing::warn!(queue = broker.queue, "message rejected: {detail}");
            }
            return reject(&message.acker).await;
        }
    };
    let fingerprint = fingerprint(&stream, &received);
    match ledger.deliver(fingerprint, message.redelivered, message.acker) {
        Delivered::InWork => Ok(()),
        Delivered::Done(acker) => acker.ack(BasicAckOptions::default()).await.map(drop),
        Delivered::New(delivery) => {
            // Answers free the room that is waited for here, so they are given meanwhile.
            let len = received.bytes.len();
            let mut given = Ok(());
            let waiting = room(Arc::clone(&wires.memory), len);
            tokio::pin!(waiting);
            received.room = loop {
                tokio::select! {
                    room = &mut waiting => break room,
                    Some(answer) = wires.answers.recv() => {
                        given = given.and(give(ledger, answer).await);
                    }
                }
            };
            let taken = Taken {
                delivery,
                stream,
                received,
            };
            // The node is gone only when everything ends.
            let _node_is_gone = wires.taken.send(taken);
            (wires.wake)();
            given
        }
    }
}

fn fingerprint(stream: &StreamId, received: &Received) -> u64 {
    let mut hasher = DefaultHasher::new();
    stream.hash(&mut hasher);
    received.codec.hash(&mut hasher);
    (received.seq, received.timestamp_ns, received.end_of_stream).hash(&mut hasher);
    received.bytes.hash(&mut hasher);
    hasher.finish()
}

/// Reads a message; otherwise a word for the metric, and what was expected and came.
fn read(message: &mut Message, max: usize) -> Result<(StreamId, Received), (&'static str, String)> {
    let len = message.data.len();
    if len > max {
        let detail = format!("{len} bytes; at most {max} are taken (INGEST_MAX_MESSAGE_MB)");
        return Err(("too_large", detail));
    }
    let nothing = FieldTable::default();
    let headers = message.properties.headers().as_ref().unwrap_or(&nothing);
    let stream = text(headers, "stream_id")?
        .ok_or_else(|| ("stream_id", "the header stream_id is missing".to_string()))?
        .parse()
        .map_err(|error: tracklens_schemas::InvalidStreamId| ("stream_id", error.to_string()))?;
    let codec = match text(headers, "codec")? {
        None => Codec::default(),
        Some(text) => text
            .parse()
            .map_err(|error: tracklens_schemas::SchemaError| ("codec", error.to_string()))?,
    };
    let seq = whole(headers, "seq")?.map(u64::try_from).transpose();
    let received = Received {
        seq: seq.map_err(|_| ("seq", "the header seq should be 0 or more".to_string()))?,
        timestamp_ns: whole(headers, "timestamp_ns")?,
        capture_ns: wall_clock_ns(),
        end_of_stream: flag(headers, "end_of_stream")?,
        room: None,
        codec,
        bytes: std::mem::take(&mut message.data).into(),
    };
    Ok((stream, received))
}

type Wrong = (&'static str, String);

fn wrong(key: &str, expected: &str, found: &AMQPValue) -> Wrong {
    let found = found.get_type();
    let detail = format!("the header {key} should be {expected}, is of type {found:?}");
    ("header", detail)
}

fn text<'a>(headers: &'a FieldTable, key: &str) -> Result<Option<&'a str>, Wrong> {
    match headers.inner().get(key) {
        None | Some(AMQPValue::Void) => Ok(None),
        Some(AMQPValue::ShortString(text)) => Ok(Some(text.as_str())),
        Some(value @ AMQPValue::LongString(text)) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(wrong(key, "UTF-8 text", value)),
        },
        Some(other) => Err(wrong(key, "text", other)),
    }
}

fn whole(headers: &FieldTable, key: &str) -> Result<Option<i64>, Wrong> {
    Ok(Some(match headers.inner().get(key) {
        None | Some(AMQPValue::Void) => return Ok(None),
        Some(AMQPValue::ShortShortInt(number)) => (*number).into(),
        Some(AMQPValue::ShortShortUInt(number)) => (*number).into(),
        Some(AMQPValue::ShortInt(number)) => (*number).into(),
        Some(AMQPValue::ShortUInt(number)) => (*number).into(),
        Some(AMQPValue::LongInt(number)) => (*number).into(),
        Some(AMQPValue::LongUInt(number)) => (*number).into(),
        Some(AMQPValue::LongLongInt(number)) => *number,
        Some(other) => return Err(wrong(key, "a whole number", other)),
    }))
}

fn flag(headers: &FieldTable, key: &str) -> Result<bool, Wrong> {
    match headers.inner().get(key) {
        None | Some(AMQPValue::Void) => Ok(false),
        Some(AMQPValue::Boolean(flag)) => Ok(*flag),
        Some(other) => Err(wrong(key, "true or false", other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lapin::BasicProperties;
    use proptest::prelude::*;

    fn message(headers: &[(&str, AMQPValue)], data: Vec<u8>) -> Message {
        let mut table = FieldTable::default();
        for (key, value) in headers {
            table.insert((*key).into(), value.clone());
        }
        let mut message = Message::mock(1, "".into(), "queue".into(), false, data);
        message.properties = BasicProperties::default().with_headers(table);
        message
    }

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn headers_are_read() {
        let headers = [
            ("stream_id", long("door")),
            ("codec", long("hevc")),
            ("seq", AMQPValue::LongInt(7)),
            ("timestamp_ns", AMQPValue::LongLongInt(40_000_000)),
            ("end_of_stream", AMQPValue::Boolean(true)),
        ];
        let (stream, received) = read(&mut message(&headers, vec![1, 2]), 100).unwrap();
        assert_eq!(stream.as_str(), "door");
        assert_eq!(received.codec, Codec::Hevc);
        assert_eq!(
            (received.seq, received.timestamp_ns),
            (Some(7), Some(40_000_000))
        );
        assert!(received.end_of_stream);
    }

    #[test]
    fn what_is_missing_wrong_or_too_large_is_named() {
        let refused = |headers: &[(&str, AMQPValue)], len| {
            read(&mut message(headers, vec![0; len]), 100)
                .unwrap_err()
                .0
        };
        let id = ("stream_id", long("door"));
        assert_eq!(refused(&[], 1), "stream_id");
        assert_eq!(refused(&[("stream_id", long("../../x"))], 1), "stream_id");
        assert_eq!(refused(std::slice::from_ref(&id), 101), "too_large");
        assert_eq!(refused(&[id.clone(), ("codec", long("av1"))], 1), "codec");
        assert_eq!(
            refused(&[id.clone(), ("seq", AMQPValue::LongInt(-1))], 1),
            "seq"
        );
        assert_eq!(refused(&[id, ("timestamp_ns", long("7"))], 1), "header");
    }

    fn any_value() -> impl Strategy<Value = AMQPValue> {
        prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<f64>().prop_map(AMQPValue::Double),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            "[a-z0-9./]{0,12}".prop_map(|text| AMQPValue::LongString(text.into())),
            prop::collection::vec(any::<u8>(), 0..12)
                .prop_map(|bytes| AMQPValue::LongString(bytes.into())),
            Just(AMQPValue::Void),
        ]
    }

    proptest! {
        #[test]
        fn any_headers_are_read_or_refused(
            values in prop::collection::vec((0usize..5, any_value()), 0..8), len in 0usize..20,
        ) {
            let keys = ["stream_id", "codec", "seq", "timestamp_ns", "end_of_stream"];
            let headers: Vec<_> = values.iter().map(|(key, value)| (keys[*key], value.clone())).collect();
            if let Ok((_, received)) = read(&mut message(&headers, vec![0; len]), 10) {
                prop_assert!(received.bytes.len() <= 10);
            }
        }
    }
}
