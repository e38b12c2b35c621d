//! The thread that sends rows from the outbox, over as many connections as it takes.

use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use lapin::message::BasicReturnMessage;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    PublisherConfirm,
};
use tokio::sync::watch;

use super::outbox::RowKey;
use super::{AmqpOptions, Ledger, Orders, Place, Row, Trouble};

/// Rows sent again after a restart or a broken connection (counter; `sink`).
const REDELIVERED: &str = "video_processor_sink_redelivered_total";
/// Rows that the broker had no queue for (counter; `sink`).
const UNROUTABLE: &str = "video_processor_sink_unroutable_total";
/// Rows on their way to the broker that are not confirmed.
const WINDOW: usize = 512;
/// Bytes read from the outbox at once.
const CHUNK: usize = 64 << 10;
/// The longest that a connection may take to come about, or a confirmation to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pauses between two connections: doubled from the first to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// What a message is kept with until it is confirmed.
type Sent = (Place, PublisherConfirm);

/// Why a connection is over.
enum End {
    /// Everything is sent, and no more will come.
    Clear,
    Broken(String),
}

pub(super) struct Sender {
    options: AmqpOptions,
    ledger: Ledger,
    orders: watch::Receiver<Orders>,
    trouble: Trouble,
    /// The end of the time to flush, once it runs.
    deadline: Option<Instant>,
    unroutable: bool,
}

impl Sender {
    pub(super) fn new(
        options: AmqpOptions,
        ledger: Ledger,
        orders: watch::Receiver<Orders>,
        trouble: Trouble,
    ) -> Self {
        Self {
            options,
            ledger,
            orders,
            trouble,
            deadline: None,
            unroutable: false,
        }
    }

    pub(super) fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve());
                runtime.shutdown_timeout(Duration::from_millis(200));
            }
            Err(error) => self.fail(&format!("no event loop: {error}")),
        }
        if let Err(error) = self.ledger.save() {
            self.fail(&format!("outbox: {error}"));
        }
    }

    /// Connects again and again, until everything is sent at the end of the run.
    async fn serve(&mut self) {
        let [mut pause, longest] = PAUSES;
        loop {
            let began = Instant::now();
            let broken = match self.connection().await {
                End::Clear => return,
                End::Broken(why) => why,
            };
            self.ledger.rewind();
            self.fail(&broken);
            if began.elapsed() > PATIENCE {
                [pause, _] = PAUSES;
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.take_orders() && self.is_late() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            pause = (2 * pause).min(longest);
        }
    }

    /// Takes note of what has been added; says whether the run is over.
    fn take_orders(&mut self) -> bool {
        let orders = *self.orders.borrow_and_update();
        self.ledger.extend(orders.end);
        if orders.over {
            self.deadline
                .get_or_insert_with(|| Instant::now() + self.options.flush);
        }
        orders.over
    }

    fn is_late(&self) -> bool {
        self.ledger.is_clear() || self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// Says once what is wrong.
    fn fail(&self, why: &str) {
        let why = self.options.url.redact(why);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            let broker = self.options.url.shown();
            tracing::warn!(broker, "amqp: rows wait in the outbox: {why}");
        }
        *trouble = Some(why);
    }

    fn works(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = None;
        tracing::info!(broker = self.options.url.shown(), "amqp: connected");
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self) -> End {
        let opened = tokio::time::timeout(PATIENCE, open(&self.options)).await;
        let (connection, channel) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return End::Broken(error.to_string()),
            Err(_) => return End::Broken("the broker does not answer".into()),
        };
        self.works();
        let end = match self.send_all(&channel).await {
            Ok(()) => End::Clear,
            Err(why) => End::Broken(why),
        };
        let close = connection.close(200, "done".into());
        let _closed_or_gone = tokio::time::timeout(Duration::from_secs(1), close).await;
        end
    }

    async fn send_all(&mut self, channel: &Channel) -> Result<(), String> {
        let mut flight: VecDeque<Sent> = VecDeque::new();
        loop {
            let over = self.take_orders();
            if over && self.is_late() {
                return Ok(());
            }
            let mut idle = true;
            if flight.len() < WINDOW {
                let rows = self.ledger.read(CHUNK).map_err(disk)?;
                idle = rows.is_empty();
                for row in rows {
                    flight.push_back((row.end, self.publish(channel, &row).await?));
                }
            }
            if flight.is_empty() && idle {
                self.ledger.save().map_err(disk)?;
                tokio::select! {
                    _ = self.orders.changed() => {}
                    // A connection that breaks while nothing is to be sent is noticed.
                    () = tokio::time::sleep(Duration::from_millis(500)) => alive(channel)?,
                }
                continue;
            }
            let least = if flight.len() >= WINDOW || idle { 1 } else { 0 };
            self.confirm(&mut flight, least).await?;
        }
    }

    async fn publish(&self, channel: &Channel, row: &Row) -> Result<PublisherConfirm, String> {
        let key: RowKey<'_> = serde_json::from_slice(&row.text).map_err(|e| e.to_string())?;
        let kind = match key.kind {
            Some(_) => "identifications",
            None => "tracks",
        };
        if row.again {
            metrics::counter!(REDELIVERED, "sink" => "amqp").increment(1);
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = channel.basic_publish(
            short(&self.options.exchange),
            short(&format!("{kind}.{}", key.stream_id)),
            options,
            &row.text,
            properties(&key, kind, row),
        );
        let sent = tokio::time::timeout(PATIENCE, sent).await;
        let sent = sent.map_err(|_| "the broker takes nothing".to_string())?;
        sent.map_err(|error| error.to_string())
    }

    /// Takes in confirmations, oldest first: those that are there, and waits for `least` more.
    async fn confirm(&mut self, flight: &mut VecDeque<Sent>, least: usize) -> Result<(), String> {
        let mut confirmed: Option<Place> = None;
        let mut count = 0;
        let mut result = Ok(());
        while let Some((place, confirm)) = flight.front_mut() {
            let limit = if count < least {
                PATIENCE
            } else {
                Duration::ZERO
            };
            match tokio::time::timeout(limit, confirm).await {
                Ok(Ok(Confirmation::Ack(returned))) => {
                    confirmed = Some(*place);
                    count += 1;
                    self.note_returned(returned.as_ref());
                }
                Ok(Ok(_)) => result = Err("the broker refused a row".into()),
                Ok(Err(error)) => result = Err(error.to_string()),
                Err(_) if count < least => result = Err("the broker confirms nothing".into()),
                Err(_) => break,
            }
            if result.is_err() {
                break;
            }
            flight.pop_front();
        }
        if let Some(place) = confirmed {
            self.ledger.confirm(place, count as u64).map_err(disk)?;
        }
        result
    }

    /// A row that no queue is bound for is confirmed, and gone: that is said once.
    fn note_returned(&mut self, returned: Option<&BasicReturnMessage>) {
        if returned.is_some() {
            metrics::counter!(UNROUTABLE, "sink" => "amqp").increment(1);
        }
        if returned.is_some() != self.unroutable {
            self.unroutable = returned.is_some();
            let exchange = &self.options.exchange;
            if self.unroutable {
                tracing::warn!(
                    exchange,
                    "amqp: no queue is bound for these rows, so the broker drops them; bind one \
                     (tracks.#), or set AMQP_SINK_QUEUE"
                );
            } else {
                tracing::info!(exchange, "amqp: rows have a queue");
            }
        }
    }
}

fn disk(error: io::Error) -> String {
    format!("outbox: {error}")
}

fn alive(channel: &Channel) -> Result<(), String> {
    match channel.status().connected() {
        true => Ok(()),
        false => Err("the connection broke".into()),
    }
}

fn short(text: &str) -> ShortString {
    // AMQP's limit; stream ids are shorter by half.
    let end = text.len().min(255);
    ShortString::from(text.get(..end).unwrap_or_default())
}

async fn open(options: &AmqpOptions) -> Result<(Connection, Channel), lapin::Error> {
    let name: LongString = "tracklens publisher".into();
    let properties = ConnectionProperties::default().with_connection_name(name);
    let connection = Connection::connect(options.url.reveal(), properties).await?;
    let channel = connection.create_channel().await?;
    let exchange = short(&options.exchange);
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            exchange.clone(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await?;
    if let Some(queue) = &options.queue {
        let queue = short(queue);
        let durable = QueueDeclareOptions::durable();
        channel
            .queue_declare(queue.clone(), durable, FieldTable::default())
            .await?;
        let every = short("#");
        let plain = QueueBindOptions::default();
        channel
            .queue_bind(queue, exchange, every, plain, FieldTable::default())
            .await?;
    }
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok((connection, channel))
}

fn properties(key: &RowKey<'_>, kind: &str, row: &Row) -> BasicProperties {
    let RowKey {
        stream_id,
        epoch,
        frame,
        track_id,
        ..
    } = key;
    let mut headers = FieldTable::default();
    let mut text = |name: &str, value: &str| {
        headers.insert(short(name), AMQPValue::LongString(value.into()));
    };
    text("stream_id", stream_id);
    text("run", &row.run);
    headers.insert(short("epoch"), AMQPValue::LongLongInt((*epoch).into()));
    headers.insert(short("frame"), AMQPValue::LongLongInt(*frame as i64));
    headers.insert(
        short("track_id"),
        AMQPValue::LongLongInt((*track_id).into()),
    );
    if row.again {
        headers.insert(short("redelivered"), AMQPValue::Boolean(true));
    }
    let name = format!("{kind}/{stream_id}/{epoch}/{frame}/{track_id}");
    BasicProperties::default()
        .with_content_type(short("application/json"))
        .with_delivery_mode(2)
        .with_message_id(short(&name))
        .with_headers(headers)
}
