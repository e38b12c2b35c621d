//! `graphs/live.yml` with real senders: WebSockets, a real broker, a real RTSP server; and what goes
//! wrong with them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use tracklens_tests::{Broker, Coded, Graph, RtspServer, Run, Sender, ffmpeg, free_port};

/// Close codes: a message that is too large; a connection that a newer one has replaced.
const TOO_LARGE: u16 = 1009;
const REPLACED: u16 = 4001;

const NODES: [&str; 4] = [
    "tracklens-ingest",
    "tracklens-decoder",
    "tracklens-buffer",
    "tracklens-iou-tracker",
];

fn start(graph: Graph) -> (Run, u16) {
    let port = free_port();
    let run = graph
        .env("INGEST_PORT", &port.to_string())
        .env("PROCESSING_RESOLUTION", "480")
        .start();
    (run, port)
}

/// Waits until this epoch of the stream is closed, and returns the number of its frames.
fn frames_of(run: &mut Run, id: &str, epoch: u32) -> u64 {
    run.wait_until(&format!("the end of {id}/{epoch}"), |output| {
        output.told(id, "epoch") == json!(epoch) && output.told(id, "state") == "closed"
    });
    run.output().frames(id)
}

fn stop(mut run: Run) {
    run.stop();
    let status = run.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}: {}", run.log());
}

#[test]
fn a_stream_that_changes_resolution_and_codec_comes_through_whole() {
    let (small, large) = (
        Coded::made("h264", "160x120", 60),
        Coded::made("h264", "320x240", 50),
    );
    let hevc = Coded::made("hevc", "160x120", 40);
    let (mut run, port) = start(Graph::live_but_lossless());
    let mut sender = Sender::connect(port, "/streams/cam");
    sender.send_all(&small);
    sender.send_all(&large);
    sender.say(r#"{"codec": "hevc"}"#);
    sender.send_all(&hevc);
    sender.close();
    assert_eq!(frames_of(&mut run, "cam", 0), 150, "{}", run.log());
    assert_eq!(run.output().told("cam", "width"), 160);
    // The same name again is a new epoch; the end may be said, too.
    let mut again = Sender::connect(port, "/streams/cam?codec=hevc");
    again.send_all(&hevc);
    again.say(r#"{"end_of_stream": true}"#);
    assert_eq!(frames_of(&mut run, "cam", 1), 40, "{}", run.log());
    assert_eq!(run.output().errors("cam"), "[]");
    stop(run);
}

#[test]
fn bad_senders_are_refused_or_survived_and_the_good_one_is_untouched() {
    let coded = Coded::made("h264", "160x120", 100);
    let (mut run, port) = start(
        Graph::live_but_lossless()
            .env("INGEST_TOKEN", "right")
            .env("INGEST_HOST", "127.0.0.1")
            .env("INGEST_MAX_MESSAGE_MB", "1"),
    );
    let with_token = |path: &str| Sender::connect(port, &format!("{path}?token=right"));
    let mut good = with_token("/streams/good");
    for picture in &coded.pictures[..50] {
        assert!(good.send(picture));
    }

    let refused = |path: &str, token| Sender::try_connect(port, path, token).err();
    assert_eq!(refused("/streams/x", None), Some(401));
    assert_eq!(refused("/streams/x", Some("wrong")), Some(401));
    assert_eq!(refused("/streams/x?token=", None), Some(401));
    assert_eq!(refused("/streams/..%2F..%2Fx", Some("right")), Some(400));
    assert_eq!(refused("/streams/../../x", Some("right")), Some(404));
    assert_eq!(refused("/streams/x?codec=av1", Some("right")), Some(400));
    assert!(Sender::try_connect(port, "/streams/header", Some("right")).is_ok());

    let mut garbage = with_token("/streams/garbage");
    let noise: Vec<u8> = (0..200_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for _ in 0..20 {
        garbage.send(&noise);
    }
    garbage.close();

    let mut half = with_token("/streams/half");
    for picture in &coded.pictures[..30] {
        half.send(picture);
    }
    half.send(&coded.pictures[30][..coded.pictures[30].len() / 2]);
    half.vanish();

    let mut large = with_token("/streams/large");
    large.send(&coded.pictures[0]);
    large.send(&vec![0; 100 << 20]);
    assert_eq!(large.close_code(), Some(TOO_LARGE));

    for picture in &coded.pictures[50..] {
        assert!(good.send(picture));
    }
    good.close();
    assert_eq!(frames_of(&mut run, "good", 0), 100, "{}", run.log());
    assert_eq!(run.output().errors("good"), "[]");
    // The picture cut in half comes out, too, covered up.
    assert!((30..=31).contains(&frames_of(&mut run, "half", 0)));
    assert_eq!(frames_of(&mut run, "large", 0), 1);
    assert_eq!(frames_of(&mut run, "garbage", 0), 0);
    assert!(!run.log().contains("right"), "the token is in the log");
    stop(run);
}

#[test]
fn two_hundred_streams_are_opened_and_abandoned_and_nothing_is_left_of_them() {
    let coded = Coded::made("h264", "160x120", 30);
    let (mut run, port) = start(Graph::named("live.yml"));
    let round = |run: &mut Run, name: &str, count: usize| {
        for batch in (0..count).collect::<Vec<_>>().chunks(50) {
            let senders: Vec<Sender> = batch
                .iter()
                .map(|number| Sender::connect(port, &format!("/streams/{name}-{number}")))
                .map(|mut sender| {
                    // Some say nothing, some break off in the middle of a picture.
                    for picture in &coded.pictures[..coded.pictures.len() / 2] {
                        sender.send(picture);
                    }
                    sender.send(&coded.pictures[20][..9]);
                    sender
                })
                .collect();
            senders.into_iter().for_each(Sender::vanish);
        }
        run.wait_until(&format!("the end of {name}"), |output| {
            let closed = |number| output.told(&format!("{name}-{number}"), "state") == "closed";
            (0..count).rev().all(closed)
        });
    };
    // As many as there may be at once, and again, until heaps are as large as they get: what is tested
    // is that streams leave nothing behind.
    round(&mut run, "warm", 150);
    round(&mut run, "warmer", 150);
    let memory = |run: &Run| NODES.map(|node| run.resident(node));
    let before = memory(&run);
    round(&mut run, "abandoned", 200);
    let is_back = |after: &[f64; 4]| {
        let pairs = after.iter().zip(before);
        pairs
            .into_iter()
            .all(|(after, before)| *after <= 1.1 * before)
    };
    let mut after = memory(&run);
    for _ in 0..40 {
        if is_back(&after) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
        after = memory(&run);
    }
    assert!(
        is_back(&after),
        "MiB before {before:.1?}, after {after:.1?}"
    );
    // Threads are gone with their streams.
    for node in NODES {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", run.pids(node)[0])).unwrap();
        let count = tasks.count();
        assert!(count < 60, "{node}: {count} threads");
    }
    // A newer connection takes a stream over from one that may be dead.
    let mut older = Sender::connect(port, "/streams/twice");
    let newer = Sender::connect(port, "/streams/twice");
    assert_eq!(older.close_code(), Some(REPLACED));
    newer.close();
    stop(run);
}

#[test]
fn killed_nodes_take_up_the_stream_in_a_new_epoch() {
    let coded = Coded::made("h264", "160x120", 100);
    let (mut run, port) = start(Graph::live_but_lossless());
    let frames = |run: &mut Run, epoch: u32| {
        run.wait_until(&format!("frames of epoch {epoch}"), |output| {
            output.told("cam", "epoch") == json!(epoch)
                && output.told("cam", "frames").as_u64().unwrap_or(0) > 0
        });
    };
    let mut sender = Sender::connect(port, "/streams/cam");
    sender.send_all(&coded);
    frames(&mut run, 0);
    run.kill("tracklens-decoder");
    // The connection stays; the decoder begins anew at a keyframe.
    sender.send_all(&coded);
    frames(&mut run, 1);
    run.kill("tracklens-ingest");
    assert_eq!(sender.close_code(), None);
    // Beyond every epoch that the killed ingest may have given.
    let epoch = (1 << 20) + 1;
    let mut sender = Sender::connect(port, "/streams/cam");
    sender.send_all(&coded);
    sender.close();
    assert_eq!(frames_of(&mut run, "cam", epoch), 100, "{}", run.log());
    run.output().assert_rows_once_and_in_order();
    stop(run);
}

/// Publishes to the queue with confirmation, as somebody who must not lose anything does.
async fn publish(channel: &Channel, queue: &str, headers: FieldTable, body: &[u8]) -> bool {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.into(), options, body, properties);
    match sent.await {
        Ok(confirmation) => confirmation.await.is_ok(),
        Err(_) => false,
    }
}

async fn channel(url: &str, queue: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok((connection, channel))
}

/// Publishes these pictures, with numbers from `first`; the last one ends the stream if `end`.
fn publish_all(url: &str, stream: &str, coded: &Coded, range: std::ops::Range<usize>, end: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (connection, channel) = channel(url, "test.chunks").await.unwrap();
        for number in range.clone() {
            let mut headers = FieldTable::default();
            headers.insert("stream_id".into(), AMQPValue::LongString(stream.into()));
            headers.insert("seq".into(), AMQPValue::LongLongInt(number as i64));
            let time = AMQPValue::LongLongInt(number as i64 * 40_000_000);
            headers.insert("timestamp_ns".into(), time);
            let last = end && number + 1 == range.end;
            headers.insert("end_of_stream".into(), AMQPValue::Boolean(last));
            let body = &coded.pictures[number];
            assert!(
                publish(&channel, "test.chunks", headers, body).await,
                "confirmed"
            );
        }
        // A message that nobody can use is rejected, and nothing else happens.
        publish(&channel, "test.chunks", FieldTable::default(), b"?").await;
        let _gone = connection.close(200, "done".into()).await;
    });
}

#[test]
fn a_broker_that_is_restarted_in_mid_stream_costs_no_chunk() {
    let mut broker = Broker::start();
    let coded = Coded::made("h264", "160x120", 300);
    let (mut run, _) = start(
        Graph::live_but_lossless()
            .env("INGEST_AMQP_URL", &broker.url())
            .env("INGEST_AMQP_QUEUE", "test.chunks")
            .env("INGEST_AMQP_PREFETCH", "20"),
    );
    publish_all(&broker.url(), "amqp", &coded, 0..200, false);
    // In the middle of it: some are taken, some are under way, some are with the broker.
    run.wait_until("the first frames", |output| {
        output.told("amqp", "frames").as_u64().unwrap_or(0) > 0
    });
    broker.stop();
    broker.run();
    publish_all(&broker.url(), "amqp", &coded, 200..300, true);
    assert_eq!(frames_of(&mut run, "amqp", 0), 300, "{}", run.log());
    assert_eq!(run.output().errors("amqp"), "[]", "none lost, none twice");
    assert!(
        !run.log().contains("guest:guest"),
        "a password is in the log"
    );
    stop(run);
}

#[test]
fn an_rtsp_server_that_is_away_for_twenty_seconds_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cam.mp4");
    let file = path.to_str().unwrap();
    let picture = "testsrc2=size=160x120:rate=25:duration=120";
    let coded = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "0",
        "-g",
        "25",
    ];
    let source = ["-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"];
    ffmpeg(&[&source[..], &coded, &[file]].concat());
    let port = free_port();
    let server = RtspServer::start(port, file);
    let (mut run, _) = start(Graph::named("live.yml").source("door", server.url()));
    let many = |output: &tracklens_tests::Output, epoch: u32| {
        output.told("door", "epoch") == json!(epoch)
            && output.told("door", "frames").as_u64().unwrap_or(0) > 20
    };
    run.wait_until("frames", |output| many(output, 0));
    drop(server);
    run.wait_until("the loss", |output| {
        output.told("door", "state") == "closed"
    });
    std::thread::sleep(Duration::from_secs(20));
    assert!(
        run.output().errors("door").contains("trying again"),
        "{}",
        run.log()
    );
    let _server = RtspServer::start(port, file);
    run.wait_until("frames again", |output| many(output, 1));
    stop(run);
}

#[test]
fn an_overload_is_met_step_by_step_and_its_end_takes_the_steps_back() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    let picture = "testsrc2=size=320x240:rate=25:duration=4";
    let args = ["-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"];
    ffmpeg(&[&args[..], &[clip.to_str().unwrap()]].concat());
    // Two frames a second of the fifty that are offered, for a while.
    let slow = "FLOW_WINDOW: 2\n      TRIAL_DELAY_MS: 500\n      TRIAL_DELAY_SECONDS: 12";
    let graph = Graph::changed("live.yml", |text| text.replace("FLOW_WINDOW: 2", slow));
    let (mut run, _) = start(
        graph
            .source("a", &clip)
            .source("b", &clip)
            .env("SOURCE_LOOP", "0"),
    );
    let steps = |output: &tracklens_tests::Output, direction: &str| {
        let log = output.text("run.log");
        log.matches(direction).count()
    };
    run.wait_until("a step down", |output| {
        steps(output, "less is spent on a frame") > 1
    });
    run.wait_until("all steps back", |output| {
        let back = steps(output, "more is spent on a frame again");
        back > 1 && back == steps(output, "less is spent on a frame")
    });
    let before = run.output().frames("a");
    run.wait_until("frames without loss", |output| {
        output.frames("a") > before + 50
    });
    run.output().assert_rows_once_and_in_order();
    stop(run);
}
