//! The live page and the feed over the wire: who may look, what is sent, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tracklens_publisher::live::Access;
use tracklens_publisher::{LiveOptions, Options, Publisher, RunState, SinkKind, Summary};
use tracklens_schemas::{
    BBox, Crop, Epoch, FrameId, FrameIndex, Header, Identification, Image, ImageInfo, Mask,
    Outcome, PixelEncoding, Track, TrackId, TrackState, TracksInfo, TracksStatus,
};

const TOKEN: &str = "a-token-of-some-length";
const SIZE: (u32, u32) = (64, 48);

fn publisher(folder: &Path, token: Option<&str>) -> Publisher {
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Publisher::new(&Options {
        folder: folder.into(),
        sinks: vec![SinkKind::Page, SinkKind::Websocket],
        resume: false,
        lossless: true,
        waiting: 8,
        jsonl_bytes: 0,
        amqp: None,
        live: Some(LiveOptions {
            bind,
            access: Access::new(bind, token.map(String::from)).unwrap(),
            fps: 60.0,
            with_frames: true,
        }),
    })
    .unwrap()
}

/// Where it listens, as the summary says.
fn address(folder: &Path, publisher: &mut Publisher) -> String {
    for _ in 0..500 {
        publisher.tick();
        let text = std::fs::read(folder.join("summary.json")).unwrap();
        let summary: Summary = serde_json::from_slice(&text).unwrap();
        if let Some(address) = &summary.sinks[0].address {
            return address
                .strip_prefix("http://")
                .unwrap()
                .trim_end_matches('/')
                .into();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no address in summary.json");
}

/// Status and text of the answer to a request.
fn ask(address: &str, request: &str, headers: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    socket.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

fn header(frame: u64) -> Header {
    Header {
        id: FrameId {
            stream: "cam".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(frame),
        },
        pts_ns: frame as i64 * 40_000_000,
        capture_ns: 0,
    }
}

/// A frame and its tracks.
fn show(publisher: &mut Publisher, frame: u64) {
    let info = ImageInfo::new(SIZE.0, SIZE.1, PixelEncoding::Rgb8);
    let pixels = vec![90; info.byte_len()];
    publisher.frame(&header(frame), &Image::new(info, &pixels).unwrap());
    let track = Track {
        track_id: TrackId(7),
        bbox: BBox::new(1.0, 2.0, 9.0, 8.0),
        mask: Mask::from_bitmap(&vec![1; (SIZE.0 * SIZE.1) as usize], SIZE.0, SIZE.1),
        area: SIZE.0 * SIZE.1,
        score: 0.5,
        visible: true,
        state: TrackState::Tracked,
        age: 1,
    };
    let info = TracksInfo {
        status: TracksStatus::Ok,
        processing_ms: 1.0,
        model: "test".into(),
        width: SIZE.0,
        height: SIZE.1,
    };
    publisher.tracks(&header(frame), &info, &[track]);
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

fn connect(runtime: &Runtime, address: &str, path: &str) -> Socket {
    let request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    runtime.block_on(connect_async(request)).unwrap().0
}

/// The next message that `wanted` makes something of; panics where none comes.
fn next<T>(runtime: &Runtime, socket: &mut Socket, wanted: impl Fn(&Message) -> Option<T>) -> T {
    runtime.block_on(async {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
            let message = message
                .expect("a message in time")
                .expect("an open socket")
                .unwrap();
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    })
}

fn as_json(message: &Message) -> Option<Value> {
    serde_json::from_str(message.to_text().ok()?).ok()
}

/// Head and JPEG of a picture.
fn as_picture(message: &Message) -> Option<(Value, Vec<u8>)> {
    let Message::Binary(data) = message else {
        return None;
    };
    let length = u32::from_le_bytes(data[..4].try_into().unwrap()) as usize;
    let head = serde_json::from_slice(&data[4..4 + length]).unwrap();
    Some((head, data[4 + length..].to_vec()))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn frames_are_taken_only_while_somebody_looks_and_shown_with_their_tracks() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = publisher(folder.path(), None);
    let address = address(folder.path(), &mut publisher);
    assert!(!publisher.wants_frames());
    show(&mut publisher, 0);
    let runtime = runtime();
    let mut page = connect(&runtime, &address, "/live");
    let board = next(&runtime, &mut page, as_json);
    assert_eq!(board["streams"][0]["frames"], 1);
    assert_eq!(board["tracks"]["cam"][0]["id"], 7);
    let wish = json!({"width": 320, "streams": ["cam"]}).to_string();
    runtime.block_on(page.send(Message::text(wish))).unwrap();
    for frame in 1..200 {
        assert!(publisher.wants_frames());
        show(&mut publisher, frame);
        std::thread::sleep(Duration::from_millis(5));
    }
    let (head, jpeg) = next(&runtime, &mut page, as_picture);
    assert_eq!(
        (&head["kind"], &head["stream_id"]),
        (&"picture".into(), &"cam".into())
    );
    assert_eq!(head["rows"][0]["track_id"], 7);
    assert_eq!(
        (jpeg[0], jpeg[1], &jpeg[jpeg.len() - 2..]),
        (0xff, 0xd8, &[0xff, 0xd9][..])
    );
    drop(page);
    for _ in 0..500 {
        if !publisher.wants_frames() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!publisher.wants_frames(), "nobody looks any more");
    publisher.finish(RunState::Finished);
}

#[test]
fn a_track_has_its_crops_and_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = publisher(folder.path(), None);
    let address = address(folder.path(), &mut publisher);
    show(&mut publisher, 0);
    publisher.crops(
        &header(0),
        &[Crop {
            track_id: TrackId(7),
            bbox: BBox::new(0.0, 0.0, 20.0, 10.0),
            width: 20,
            height: 10,
            pixels: vec![200; 600],
            sharpness: 1.0,
        }],
    );
    let row = Identification {
        track_id: TrackId(7),
        name: "<b>mug</b>".into(),
        category: "cup".into(),
        description: String::new(),
        confidence: 0.9,
        dimensions: None,
        backend: "gallery".into(),
        outcome: Outcome::Identified,
        cached: true,
        attempts: 1,
        error: None,
    };
    publisher.identifications(&header(0), &[row]);
    let (status, answer) = ask(&address, "GET /tracks/cam/7", "", "");
    assert_eq!(status, 200, "{answer}");
    let said: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(said["track"]["identification"]["name"], "<b>mug</b>");
    let url = said["crops"][0]["url"].as_str().unwrap();
    let (status, crop) = ask(&address, &format!("GET {url}"), "", "");
    assert!(status == 200 && crop.contains("image/jpeg"), "{status}");
    for path in [
        "/tracks/cam/8",
        "/tracks/..%2f/7",
        "/crops/cam/7/99",
        "/etc/passwd",
    ] {
        assert_eq!(
            ask(&address, &format!("GET {path}"), "", "").0,
            404,
            "{path}"
        );
    }
    assert_eq!(ask(&address, "DELETE /tracks/cam/7", "", "").0, 405);
}

#[test]
fn the_feed_has_the_rows_and_ends_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = publisher(folder.path(), None);
    let address = address(folder.path(), &mut publisher);
    let runtime = runtime();
    let mut all = connect(&runtime, &address, "/feed");
    let mut other = connect(&runtime, &address, "/feed?stream=door,yard");
    // A reader is there once the server has heard of it.
    for frame in 0..50 {
        show(&mut publisher, frame);
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = next(&runtime, &mut all, as_json);
    assert_eq!(
        (&said["kind"], &said["stream_id"]),
        (&"tracks".into(), &"cam".into())
    );
    assert_eq!(said["rows"][0]["track_id"], 7);
    publisher.finish(RunState::Finished);
    let last = next(&runtime, &mut all, |message| match message {
        Message::Close(frame) => Some(frame.clone().unwrap().reason.to_string()),
        _ => None,
    });
    assert_eq!(last, "the run is over");
    let first = next(&runtime, &mut other, |message| Some(message.clone()));
    assert!(
        matches!(first, Message::Close(_)),
        "{first:?} is of another stream"
    );
}

#[test]
fn without_the_token_nothing_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = publisher(folder.path(), Some(TOKEN));
    let address = address(folder.path(), &mut publisher);
    for path in [
        "/page.js",
        "/live",
        "/feed",
        "/tracks/cam/7",
        "/crops/cam/7/1",
    ] {
        assert_eq!(
            ask(&address, &format!("GET {path}"), "", "").0,
            401,
            "{path}"
        );
    }
    let (status, page) = ask(&address, "GET /", "", "");
    assert!(status == 401 && page.contains("id=\"login\""), "{page}");
    assert!(
        page.to_lowercase()
            .contains("content-security-policy: default-src 'none'")
    );
    assert_eq!(ask(&address, "POST /login", "", "wrong-token").0, 401);
    let (status, answer) = ask(&address, "POST /login", "", TOKEN);
    assert_eq!(status, 204, "{answer}");
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN));
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let (status, page) = ask(&address, "GET /", &cookie, "");
    assert!(status == 200 && page.contains("id=\"tiles\"") && !page.contains(TOKEN));
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(&address, "GET /page.js", &bearer, "").0, 200);
    let foreign = format!("{cookie}Origin: http://evil.example\r\n");
    assert_eq!(ask(&address, "GET /", &foreign, "").0, 403);
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    assert!(!summary.contains(TOKEN));
}

#[test]
fn an_address_in_use_is_said_and_the_page_opens_once_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap();
    let mut publisher = Publisher::new(&Options {
        folder: folder.path().into(),
        sinks: vec![SinkKind::Page],
        resume: false,
        lossless: true,
        waiting: 8,
        jsonl_bytes: 0,
        amqp: None,
        live: Some(LiveOptions {
            bind,
            access: Access::new(bind, None).unwrap(),
            fps: 12.0,
            with_frames: false,
        }),
    })
    .unwrap();
    let error = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        publisher.tick();
        let text = std::fs::read(folder.path().join("summary.json")).unwrap();
        let summary: Summary = serde_json::from_slice(&text).unwrap();
        summary.sinks[0]
            .error
            .clone()
            .filter(|error| error.contains("LIVE_PAGE_BIND"))
    });
    assert!(error.is_some(), "the summary names the setting");
    drop(taken);
    assert_eq!(address(folder.path(), &mut publisher), bind.to_string());
}
