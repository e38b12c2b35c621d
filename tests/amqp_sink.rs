//! The sink amqp with a real broker: kills and restarts at full rate lose no row, and what arrives
//! twice says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use tracklens_tests::{Broker, Graph, clip};

const QUEUE: &str = "rows";

/// Everything that is in the queue, in its order.
fn drain(url: &str) -> Vec<Delivery> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let connection = Connection::connect(url, ConnectionProperties::default());
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions {
            passive: true,
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare(QUEUE.into(), passive, FieldTable::default());
        let waiting = queue.await.unwrap().message_count();
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer =
            channel.basic_consume(QUEUE.into(), "test".into(), options, FieldTable::default());
        let mut consumer = consumer.await.unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..waiting {
            let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
            deliveries.push(next.expect("as many as it says").unwrap().unwrap());
        }
        deliveries
    })
}

type Key = (String, i64, i64, i64);

/// The key in the headers, and whether the message says that it may be a second one.
fn key(delivery: &Delivery) -> (Key, bool) {
    let headers = delivery
        .properties
        .headers()
        .as_ref()
        .expect("headers")
        .inner();
    let number = |name: &str| match headers.get(name) {
        Some(AMQPValue::LongLongInt(number)) => *number,
        other => panic!("{name}: {other:?}"),
    };
    let stream = match headers.get("stream_id") {
        Some(AMQPValue::LongString(text)) => String::from_utf8(text.as_bytes().into()).unwrap(),
        other => panic!("stream_id: {other:?}"),
    };
    let again = matches!(headers.get("redelivered"), Some(AMQPValue::Boolean(true)));
    assert_eq!(delivery.routing_key.as_str(), format!("tracks.{stream}"));
    (
        (stream, number("epoch"), number("frame"), number("track_id")),
        again,
    )
}

#[test]
fn kills_and_a_restart_of_the_broker_lose_no_row() {
    let Some(clip) = clip("pedestrians.mp4") else {
        return;
    };
    let mut broker = Broker::start();
    let mut run = Graph::at(tracklens_tests::root().join("tests/graphs/publish.yml"))
        .source("street", &clip)
        .source("yard", &clip)
        .env("SOURCE_LOOP", "2")
        .env("SINKS", "jsonl,amqp")
        .env("AMQP_SINK_URL", &broker.url())
        .env("AMQP_SINK_QUEUE", QUEUE)
        .env("AMQP_SINK_FLUSH_SECONDS", "60")
        .start();
    run.wait_for_rows(300);
    run.kill("tracklens-publisher");
    run.wait_for_rows(900);
    broker.stop();
    run.wait_for_rows(1500);
    run.kill("tracklens-publisher");
    run.wait_for_rows(2000);
    broker.run();
    run.wait_for_rows(2600);
    run.kill("tracklens-publisher");
    let status = run.wait(Duration::from_secs(120));
    assert!(status.success(), "{status}: {}", run.log());
    let log = run.log();
    let output = run.into_output();
    output.assert_rows_once_and_in_order();

    let mut arrived: BTreeMap<Key, (u32, Vec<u8>)> = BTreeMap::new();
    let (mut messages, mut marked, mut twice) = (0, 0, 0);
    for delivery in drain(&broker.url()) {
        let (key, again) = key(&delivery);
        messages += 1;
        marked += i32::from(again);
        let entry = arrived
            .entry(key.clone())
            .or_insert((0, delivery.data.clone()));
        entry.0 += 1;
        if entry.0 > 1 {
            twice += 1;
            assert!(again, "a second {key:?} does not say so\n{log}");
            assert_eq!(entry.1, delivery.data, "{key:?}");
        }
    }
    let mut rows = 0;
    for line in output.text("tracks.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| row[name].as_i64().unwrap();
        let stream = row["stream_id"].as_str().unwrap().to_string();
        let key = (stream, number("epoch"), number("frame"), number("track_id"));
        let (_, data) = arrived
            .remove(&key)
            .unwrap_or_else(|| panic!("lost: {key:?}\n{log}"));
        assert_eq!(data, line.as_bytes(), "{key:?}");
        rows += 1;
    }
    assert!(arrived.is_empty(), "from nowhere: {arrived:?}");
    println!(
        "{rows} rows, {messages} messages, {twice} a second time, {marked} marked redelivered"
    );
    assert!(!log.contains("guest:guest"), "the password is in the log");
    let left = std::fs::read_dir(output.path("amqp-outbox"))
        .unwrap()
        .count();
    assert_eq!(left, 2, "one segment and the ledger are left");
}
