//! `graphs/identify.yml`: objects are identified by a gallery made of the clip's own other pictures.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tracklens_tests::{Graph, Output, clip, ffmpeg, frame_count};

/// The first twelve seconds of pedestrians.mp4, and an empty gallery.
struct Street {
    folder: tempfile::TempDir,
    clip: PathBuf,
}

impl Street {
    fn new() -> Option<Self> {
        let whole = clip("pedestrians.mp4")?;
        let folder = tempfile::tempdir().unwrap();
        let short = folder.path().join("street.mp4");
        let (from, to) = (whole.display().to_string(), short.display().to_string());
        ffmpeg(&["-i", &from, "-frames:v", "120", "-an", &to]);
        std::fs::create_dir(folder.path().join("gallery")).unwrap();
        Some(Self {
            folder,
            clip: short,
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn graph(&self) -> Graph {
        Graph::named("identify.yml")
            .env("LENS_GALLERY", &self.path("gallery"))
            .env("SINKS", "jsonl")
            .source("street", &self.clip)
    }

    /// Cuts a row's object out of the clip into the gallery, under this name.
    fn add(&self, name: &str, row: &Value) {
        let edges: Vec<f64> = row["bbox"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e.as_f64().unwrap())
            .collect();
        let (width, height) = (edges[2] - edges[0], edges[3] - edges[1]);
        let place = self.folder.path().join("gallery").join(name);
        std::fs::create_dir_all(&place).unwrap();
        let frame = number(row, "frame");
        let filter = format!(
            "select=eq(n\\,{frame}),crop={:.0}:{:.0}:{:.0}:{:.0}",
            1.2 * width,
            1.2 * height,
            edges[0] - 0.1 * width,
            edges[1] - 0.1 * height
        );
        let file = place.join(format!("{frame}.png")).display().to_string();
        ffmpeg(&[
            "-i",
            &self.clip.display().to_string(),
            "-vf",
            &filter,
            "-frames:v",
            "1",
            &file,
        ]);
    }
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key}: {row}"))
}

fn identifications(output: &Output) -> Vec<Value> {
    let text = output.text("identifications.jsonl");
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is torn"
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What was asked about whom on which frame, and the answers.
fn answers(output: &Output) -> BTreeMap<(u64, u64), (String, String)> {
    let rows = identifications(output);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_string();
    let count = rows.len();
    let answers: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            assert_eq!(
                (&row["kind"], &row["stream_id"]),
                (&"identification".into(), &"street".into())
            );
            let key = (number(row, "frame"), number(row, "track_id"));
            (key, (text(row, "outcome"), text(row, "name")))
        })
        .collect();
    assert_eq!(answers.len(), count, "an answer was published twice");
    answers
}

/// Panics where an object was asked about sooner than 3 s (of 10 frames each) after the last time.
fn assert_interval(answers: &BTreeMap<(u64, u64), (String, String)>) {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (frame, track) in answers.keys() {
        let before = last.insert(*track, *frame);
        assert!(
            before.is_none_or(|before| frame - before >= 30),
            "track {track}: {before:?}, {frame}"
        );
    }
}

#[test]
fn objects_get_the_names_that_their_own_pictures_have_in_a_gallery() {
    let Some(street) = Street::new() else { return };
    // Without pictures everybody is unknown; that run says who is where.
    let unknown = street.graph().run();
    let asked = answers(&unknown);
    assert!(asked.len() >= 5, "{asked:?}");
    assert!(
        asked
            .values()
            .all(|(outcome, name)| outcome == "unknown" && name.is_empty())
    );
    assert_interval(&asked);

    // The gallery: every object that was asked about, but on other frames.
    let rows = unknown.rows();
    let tracks: BTreeSet<u64> = asked.keys().map(|(_, track)| *track).collect();
    for track in &tracks {
        let own = rows
            .iter()
            .filter(|r| number(r, "track_id") == *track && r["visible"] == true);
        for row in own.filter(|row| number(row, "frame") % 10 == 2) {
            street.add(&format!("object {track}"), row);
        }
    }
    let (first, second) = (street.graph().run(), street.graph().run());
    assert!(
        first.text("tracks.jsonl") == unknown.text("tracks.jsonl"),
        "tracks depend on answers"
    );
    let named = answers(&first);
    let keys = |answers: &BTreeMap<_, _>| answers.keys().copied().collect::<Vec<(u64, u64)>>();
    assert_eq!(keys(&named), keys(&asked), "the same input asks the same");
    assert_eq!(named, answers(&second), "and gets the same answers");
    let identified: Vec<_> = named
        .iter()
        .filter(|(_, (outcome, _))| outcome == "identified")
        .collect();
    let right = identified
        .iter()
        .filter(|((_, track), (_, name))| *name == format!("object {track}"));
    let (right, identified) = (right.count(), identified.len());
    eprintln!(
        "asked {}, identified {identified}, right {right}",
        named.len()
    );
    assert!(
        identified * 2 >= named.len(),
        "{identified} of {} identified",
        named.len()
    );
    assert!(
        right * 10 >= identified * 8,
        "{right} of {identified} right: {named:?}"
    );
}

#[test]
fn killing_the_lens_batcher_leaves_tracking_alone_and_asks_nobody_too_soon() {
    let Some(street) = Street::new() else { return };
    let mut run = street
        .graph()
        .env("LENS_CACHE_DIR", &street.path("cache"))
        .start();
    run.wait_until("answers", |output| identifications_so_far(output) >= 5);
    run.kill("tracklens-lens-batcher");
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{status}: {}", run.log());
    let output = run.into_output();
    output.assert_rows_once_and_in_order();
    assert_eq!(output.frames("street"), frame_count(&street.clip));
    assert_interval(&answers(&output));
    let last = identifications(&output)
        .iter()
        .map(|row| number(row, "frame"))
        .max()
        .unwrap();
    assert!(last > 60, "nobody was asked about after the kill: {last}");
}

fn identifications_so_far(output: &Output) -> usize {
    output.text("identifications.jsonl").lines().count()
}

/// A key is in no log, no file and no metric, however much is logged and whatever goes wrong.
#[test]
fn the_key_is_nowhere_to_be_seen() {
    const KEY: &str = "kEy-4f9c2d71";
    let Some(street) = Street::new() else { return };
    let graph = street
        .graph()
        .env("LENS_BACKEND", "serpapi")
        .env("LENS_URL", "http://127.0.0.1:9/search.json")
        .env("LENS_IMAGE_SERVER", "127.0.0.1:0")
        .env("LENS_API_KEY", KEY)
        .env("LENS_CACHE_DIR", &street.path("cache"))
        .env("LENS_DRAIN_SECONDS", "1")
        .env("METRICS_ENABLED", "true")
        .env("METRICS_PORT", "19590")
        .env("RUST_LOG", "trace");
    let mut run = graph.start();
    run.wait_until("questions", |output| identifications_so_far(output) >= 1);
    let metrics = metrics(19_595);
    assert!(
        metrics.contains("lens_api_calls_total{status=\"connection\",cached=\"false\"}"),
        "{metrics}"
    );
    assert!(!metrics.contains(KEY));
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{status}: {}", run.log());
    let output = run.into_output();
    let failed = identifications(&output);
    assert!(
        failed.iter().all(|row| row["outcome"] == "failed"),
        "{failed:?}"
    );
    let folders = [
        output.folder().to_path_buf(),
        street.folder.path().join("cache"),
    ];
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| list(folder)).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes
            .windows(KEY.len())
            .any(|window| window == KEY.as_bytes());
        assert!(!found, "the key is in {}", file.display());
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).collect()
}

/// What a node's endpoint says.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the endpoint listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
