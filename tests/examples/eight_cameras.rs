//! Eight streams at once into `graphs/live.yml`: two files, two RTSP cameras, two senders on
//! WebSockets, two on RabbitMQ, 25 frames a second each. Prints memory as it goes, and latencies and
//! drops at the end.
//!
//!   eight_cameras [MINUTES [DELAY_MS DELAY_SECONDS]]
//!
//! With a delay the tracker is so much slower for a frame, for so long: what does an overload do?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tracklens_schemas::wall_clock_ns;
use tracklens_tests::{Broker, Coded, Graph, RtspServer, Run, Sender, clip, ffmpeg, free_port};

const NODES: [&str; 5] = ["ingest", "decoder", "buffer", "iou-tracker", "publisher"];
const PERIOD: Duration = Duration::from_millis(40);
const QUEUE: &str = "tracklens.chunks";
/// Of the metrics: far from those of another graph that may run here.
const METRICS_PORT: u16 = 9500;

static OVER: AtomicBool = AtomicBool::new(false);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| arguments.next().map_or(default, |n| n.expect("a number"));
    let (minutes, delay_ms, delay_seconds) = (next(10), next(0), next(0));
    let folder = tempfile::tempdir().unwrap();
    let Some((once, long)) = clips(folder.path(), minutes) else {
        return println!("TRACKLENS_DATA is not set: no clip");
    };
    let coded = Coded::read("h264", &once);
    let broker = Broker::start();
    let ports = [free_port(), free_port()];
    let cameras = ports.map(|port| RtspServer::start(port, &long));
    let port = free_port();
    let slow = format!(
        "FLOW_WINDOW: 2\n      TRIAL_DELAY_MS: {delay_ms}\n      TRIAL_DELAY_SECONDS: {delay_seconds}"
    );
    let run = Graph::changed("live.yml", |text| text.replace("FLOW_WINDOW: 2", &slow))
        .source("file-1", &once)
        .source("file-2", &once)
        .source("rtsp-1", cameras[0].url())
        .source("rtsp-2", cameras[1].url())
        .env("SOURCE_LOOP", "0")
        .env("INGEST_PORT", &port.to_string())
        .env("INGEST_AMQP_URL", &broker.url())
        .env("PROCESSING_RESOLUTION", "480")
        .env("TARGET_FPS", "25")
        .env("METRICS_ENABLED", "true")
        .env("METRICS_PORT", &METRICS_PORT.to_string())
        .start();
    std::thread::scope(|scope| {
        for name in ["socket-1", "socket-2"] {
            let coded = &coded;
            scope.spawn(move || send(port, name, coded));
        }
        for name in ["amqp-1", "amqp-2"] {
            let (url, coded) = (broker.url(), &coded);
            scope.spawn(move || publish(&url, name, coded));
        }
        watch(&run, Duration::from_secs(60 * minutes));
        OVER.store(true, Ordering::Relaxed);
    });
    report(&run);
    finish(run);
}

/// Pedestrians at 25 frames a second, once and for longer than the run.
fn clips(folder: &Path, minutes: u64) -> Option<(String, String)> {
    let clip = clip("pedestrians.mp4")?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (once, long) = (path("once.mp4"), path("long.mp4"));
    let faster = ["-vf", "setpts=N/25/TB", "-r", "25", "-an"];
    let params = "bframes=0:keyint=25:min-keyint=25:scenecut=0:aud=1:repeat-headers=1";
    let coded = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-x264-params",
        params,
    ];
    let from = ["-i", clip.to_str().unwrap()];
    ffmpeg(&[&from[..], &faster, &coded, &[&once]].concat());
    // The clip is half a minute long.
    let loops = (2 * minutes + 2).to_string();
    ffmpeg(&["-stream_loop", &loops, "-i", &once, "-c", "copy", &long]);
    Some((once, long))
}

/// The pictures of the clip at their pace, again and again, until all is over.
fn paced(coded: &Coded) -> impl Iterator<Item = &Vec<u8>> {
    let start = Instant::now();
    coded
        .pictures
        .iter()
        .cycle()
        .enumerate()
        .take_while(|_| !OVER.load(Ordering::Relaxed))
        .map(move |(number, picture)| {
            let due = start + PERIOD * number as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            picture
        })
}

fn send(port: u16, name: &str, coded: &Coded) {
    let mut sender = Sender::connect(port, &format!("/streams/{name}"));
    for picture in paced(coded) {
        assert!(sender.send(picture), "{name}: the connection is open");
    }
    sender.close();
}

fn publish(url: &str, name: &str, coded: &Coded) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let channel = runtime.block_on(async {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(QUEUE.into(), options, FieldTable::default());
        declared.await.unwrap();
        // Lives as long as the channel.
        std::mem::forget(connection);
        channel
    });
    for picture in paced(coded) {
        let mut headers = FieldTable::default();
        headers.insert("stream_id".into(), AMQPValue::LongString(name.into()));
        headers.insert(
            "timestamp_ns".into(),
            AMQPValue::LongLongInt(wall_clock_ns()),
        );
        let properties = BasicProperties::default().with_headers(headers);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), QUEUE.into(), options, picture, properties);
        runtime.block_on(sent).unwrap();
    }
}

/// Says every minute how much memory each node has, and how busy the machine is.
fn watch(run: &Run, time: Duration) {
    let start = Instant::now();
    println!("MiB at second: {}", NODES.join(", "));
    let mut due = [20, 60].into_iter().chain((120..).step_by(60));
    while start.elapsed() < time {
        let at = Duration::from_secs(due.next().unwrap()).min(time);
        std::thread::sleep((start + at).saturating_duration_since(Instant::now()));
        let memory = NODES.map(|node| format!("{:.0}", run.resident(&format!("tracklens-{node}"))));
        println!("{:5}: {}", at.as_secs(), memory.join(", "));
    }
}

/// A page of a node's metrics.
fn metrics(offset: u16) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", METRICS_PORT + offset)).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(&format!("{name}=\"")).nth(1)?.split('"').next()
}

fn report(run: &Run) {
    let mut dropped: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in metrics(1)
        .lines()
        .filter(|line| line.starts_with("video_processor_frames_dropped_total"))
    {
        let key = |name| label(line, name).unwrap_or_default().to_string();
        let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
        dropped.insert((key("stream_id"), key("reason")), value.unwrap_or_default());
    }
    let summary = run.output().summary();
    let seconds = summary["elapsed_s"].as_f64().unwrap();
    println!(
        "\n| stream | epochs | frames tracked | p50 ms | p99 ms | dropped: newer_frame | target_fps |"
    );
    println!("|---|---|---|---|---|---|---|");
    for stream in summary["streams"].as_array().unwrap() {
        let id = stream["id"].as_str().unwrap();
        let of = |reason: &str| {
            dropped
                .get(&(id.into(), reason.into()))
                .copied()
                .unwrap_or(0)
        };
        println!(
            "| {id} | {} | {} | {} | {} | {} | {} |",
            stream["epoch"].as_u64().unwrap() + 1,
            stream["frames"],
            stream["latency_ms"]["p50"],
            stream["latency_ms"]["p99"],
            of("newer_frame"),
            of("target_fps"),
        );
    }
    let log = run.log();
    let steps = |text: &str| log.matches(text).count();
    println!(
        "\n{seconds:.0} s; quality: {} steps down, {} up",
        steps("less is spent on a frame"),
        steps("more is spent on a frame again")
    );
}

fn finish(mut run: Run) {
    run.stop();
    let status = run.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}: {}", run.log());
}
