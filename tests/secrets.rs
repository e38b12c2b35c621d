//! No secret is logged, served, measured, published or written, whatever goes wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, connect};
use tracklens_tests::{Coded, Graph, Output, Run, Sender, clip, free_port, root};

const INGEST: &str = "iNgest-7f31c0";
const LENS: &str = "lEns-5b92ad";
const PAGE: &str = "pAge-e84d16";
const BROKER: &str = "bRoker-20c9f7";
const CAMERA: &str = "cAmera-b6135e";
const SECRETS: [&str; 5] = [INGEST, LENS, PAGE, BROKER, CAMERA];

const METRICS: u16 = 19_610;
/// Decoder, buffer, iou-tracker, lens-batcher, publisher and ingest (docs/operations.md).
const OFFSETS: [u16; 6] = [0, 1, 4, 5, 6, 7];

/// Panics where any secret is in these bytes.
fn assert_clean(place: &str, bytes: &[u8]) {
    for secret in SECRETS {
        let at = bytes
            .windows(secret.len())
            .position(|window| window == secret.as_bytes());
        if let Some(at) = at {
            let from = at.saturating_sub(200);
            let to = (at + secret.len() + 40).min(bytes.len());
            let around = String::from_utf8_lossy(&bytes[from..to]);
            panic!("{secret} is in {place}: …{around}…");
        }
    }
}

/// A service of the shape of Google Cloud Vision that works only now and then, and repeats the key in
/// whatever it says. Counts the requests that brought the right key.
fn vision() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _client_gone = answer(&stream, &count);
        }
    });
    (url, asked)
}

fn answer(mut stream: &TcpStream, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    assert!(head.contains(LENS), "the key comes along: {head}");
    let body: Value = serde_json::from_slice(&body)?;
    let count = body["requests"].as_array().map_or(0, Vec::len);
    let (status, text) = match asked.fetch_add(1, Ordering::Relaxed) % 4 {
        0 => (401, format!("{{\"error\": \"API key {LENS} not valid\"}}")),
        1 => (500, format!("cannot look up key={LENS}\n{head}")),
        2 => (200, format!("{{\"responses\": \"of {LENS}\"}}")),
        _ => {
            let one = r#"{"webDetection": {"bestGuessLabels": [{"label": "pedestrian"}]}}"#;
            let list = vec![one; count].join(",");
            (200, format!("{{\"responses\": [{list}]}}"))
        }
    };
    let size = text.len();
    write!(
        stream,
        "HTTP/1.1 {status} Reason\r\ncontent-type: application/json\r\n\
         content-length: {size}\r\nconnection: close\r\n\r\n{text}"
    )
}

/// Everything that comes back for one request.
fn ask(address: &str, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn get(address: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n");
    ask(address, &request)
}

fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200")
}

/// Where the page is, once it is.
fn address(output: &Output) -> Option<String> {
    let summary: Value = serde_json::from_str(&output.text("summary.json")).ok()?;
    let sinks = summary["sinks"].as_array()?;
    let page = sinks.iter().find(|sink| sink["name"] == "page")?;
    let url = page["address"].as_str()?;
    Some(url.trim_start_matches("http://").trim_matches('/').into())
}

/// All that the page serves, with the token, without, and with a wrong one.
fn look_at_the_page(address: &str, track: u64) {
    let about = format!("/tracks/street/{track}");
    let details = get(address, &about, Some(PAGE));
    assert!(is_ok(&details), "{}", String::from_utf8_lossy(&details));
    let crop = format!("/crops/street/{track}/0");
    let paths = [
        "/",
        "/page.css",
        "/login.js",
        "/icon.svg",
        "/page.js",
        "/masks.js",
        "/tile.js",
        "/timeline.js",
        "/details.js",
        "/nothing",
        &about,
        &crop,
    ];
    for path in paths {
        for token in [Some(PAGE), None, Some("wrong")] {
            let answer = get(address, path, token);
            assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
            assert_clean(path, &answer);
        }
    }
    for (token, status) in [(PAGE, "204"), ("wrong", "401")] {
        let login = format!(
            "POST /login HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{token}",
            token.len()
        );
        let answer = ask(address, &login);
        assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()));
        assert_clean("/login", &answer);
    }
    for path in ["/live", "/feed"] {
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        let token = format!("Bearer {PAGE}").parse().unwrap();
        request.headers_mut().insert("Authorization", token);
        let (mut socket, _) = connect(request).unwrap_or_else(|error| panic!("{path}: {error}"));
        for _ in 0..40 {
            match socket.read().unwrap() {
                Message::Text(text) => assert_clean(path, text.as_bytes()),
                Message::Binary(bytes) => assert_clean(path, &bytes),
                _ => {}
            }
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path if path.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// All files below these folders; gives how many there are.
fn look_at_files(folders: &[&Path]) -> usize {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| files(folder, &mut found));
    for path in &found {
        assert_clean(&path.display().to_string(), &std::fs::read(path).unwrap());
    }
    found.len()
}

/// The secrets, as they are given: in the environment.
fn environment(vision: &str, port: u16, street: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("INGEST_TOKEN", INGEST.into()),
        ("INGEST_PORT", port.to_string()),
        (
            "INGEST_AMQP_URL",
            format!("amqp://in:{BROKER}@127.0.0.1:1/%2f"),
        ),
        ("LENS_API_KEY", LENS.into()),
        ("LENS_URL", vision.into()),
        ("LIVE_PAGE_TOKEN", PAGE.into()),
        (
            "AMQP_SINK_URL",
            format!("amqp://out:{BROKER}@127.0.0.1:1/%2f"),
        ),
        (
            "SOURCES",
            format!(
                "[{{id: street, url: '{}'}}, {{id: door, url: 'rtsp://me:{CAMERA}@127.0.0.1:1/x'}}]",
                street.display()
            ),
        ),
        ("SOURCE_LOOP", "0".into()),
        ("METRICS_ENABLED", "true".into()),
        ("METRICS_PORT", METRICS.to_string()),
    ]
}

/// `tests/graphs/secrets.yml` in a folder of its own, since dora writes the nodes' logs beside it.
fn graph_in(folder: &Path) -> Graph {
    let text = std::fs::read_to_string(root().join("tests/graphs/secrets.yml")).unwrap();
    let target = format!("path: {}/target/", root().display());
    let file = folder.join("secrets.yml");
    std::fs::write(&file, text.replace("path: ../../target/", &target)).unwrap();
    Graph::at(file)
}

fn somebody_was_named(output: &Output) -> bool {
    let text = output.text("identifications.jsonl");
    let has = |word: &str| text.contains(&format!("\"outcome\":\"{word}\""));
    has("failed") && has("identified")
}

fn look_while_it_runs(run: &mut Run, port: u16) {
    for token in [None, Some("wrong")] {
        assert_eq!(
            Sender::try_connect(port, "/streams/x", token).err(),
            Some(401)
        );
    }
    run.wait_until("the page", |output| address(output).is_some());
    run.wait_until("answers", somebody_was_named);
    let row = run.output().text("identifications.jsonl");
    let row: Value = serde_json::from_str(row.lines().next().unwrap()).unwrap();
    let page = address(run.output()).unwrap();
    look_at_the_page(&page, row["track_id"].as_u64().unwrap());
    for offset in OFFSETS {
        let answer = get(&format!("127.0.0.1:{}", METRICS + offset), "/metrics", None);
        assert!(is_ok(&answer), "metrics at {offset}");
        assert_clean(&format!("metrics at {offset}"), &answer);
    }
}

#[test]
fn no_secret_leaks_whatever_goes_wrong() {
    let Some(street) = clip("pedestrians.mp4") else {
        return;
    };
    let (service, asked) = vision();
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(&service, port, &street);

    let mut config = Command::new(root().join("target/release/tracklens"));
    let config = config.arg("config").envs(environment.clone());
    let config = config.output().unwrap();
    assert!(config.status.success(), "{config:?}");
    assert_clean("tracklens config", &config.stdout);
    assert_clean("tracklens config", &config.stderr);

    let graph = graph_in(folder.path()).env("RUST_LOG", "debug,zenoh=warn");
    let graph = environment
        .iter()
        .fold(graph, |graph, (name, value)| graph.env(name, value));
    let recording = folder.path().join("all.drec");
    let mut run = graph.record("tracker/tracks,ingest/chunks,ingest/stream_events,decoder/stream_events,lens-batcher/identifications", &recording).start();
    let path = format!("/streams/cam?token={INGEST}");
    Sender::connect(port, &path).send_all(&Coded::made("h264", "160x120", 50));
    look_while_it_runs(&mut run, port);
    run.stop();
    let status = run.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}: {}", run.log());

    assert!(asked.load(Ordering::Relaxed) >= 4);
    let output = run.into_output();
    assert!(std::fs::metadata(&recording).unwrap().len() > 10_000);
    // What was to go wrong did, and is told.
    assert!(output.errors("door").contains("127.0.0.1:1"));
    let log = output.text("run.log");
    assert!(log.contains("amqp://127.0.0.1:1/%2f"), "{log}");
    let looked_at = look_at_files(&[output.folder(), folder.path()]);
    assert!(looked_at >= 10, "{looked_at} files");
}
