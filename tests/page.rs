//! The live page in a real browser, fed by a real graph with four streams.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracklens_schemas::Mask;
use tracklens_schemas::jsonl::TrackRow;
use tracklens_tests::{Graph, Output, clip, look};

const TOKEN: &str = "page-token-4711";

/// Where the page is, once it is.
fn address(output: &Output) -> Option<String> {
    let summary: Value = serde_json::from_str(&output.text("summary.json")).ok()?;
    let sinks = summary["sinks"].as_array()?;
    let page = sinks.iter().find(|sink| sink["name"] == "page")?;
    page["address"].as_str().map(String::from)
}

/// Seconds of processor time that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// The rows of a frame, by track.
fn rows_of(output: &Output, stream: &str, epoch: u64, frame: u64) -> BTreeMap<u32, TrackRow> {
    let text = output.text("tracks.jsonl");
    // The last line may be half written: the run goes on.
    text.lines()
        .filter_map(|line| serde_json::from_str::<TrackRow>(line).ok())
        .filter(|row| {
            row.stream_id == stream && u64::from(row.epoch) == epoch && row.frame == frame
        })
        .map(|row| (row.track_id, row))
        .collect()
}

/// Whether a pixel of a `width` wide bitmap has a set one within two pixels: masks are drawn in the
/// resolution of the picture and scaled with it, so edges may be that far off.
fn is_near(bitmap: &[bool], width: usize, at: usize) -> bool {
    const NEAR: i64 = 2;
    let (x, y) = ((at % width) as i64, (at / width) as i64);
    let set = |x: i64, y: i64| {
        (0..width as i64).contains(&x)
            && usize::try_from(y * width as i64 + x)
                .is_ok_and(|at| bitmap.get(at).copied().unwrap_or(false))
    };
    (-NEAR..=NEAR).any(|dy| (-NEAR..=NEAR).any(|dx| set(x + dx, y + dy)))
}

/// How much of the masks on disk is drawn in a tile, and how much of what is drawn is in them.
fn drawn(tile: &Value, rows: &BTreeMap<u32, TrackRow>) -> (f64, f64) {
    let side = |key: &str| tile[key].as_u64().unwrap() as usize;
    let (width, height) = (side("width"), side("height"));
    let mut wanted = vec![false; width * height];
    for row in rows.values().filter(|row| row.visible) {
        let mask: Mask = row.mask().unwrap().scale(width as u32, height as u32);
        for (pixel, object) in wanted.iter_mut().zip(mask.to_bitmap()) {
            *pixel |= object != 0;
        }
    }
    let covered = tile["covered"].as_str().unwrap().bytes();
    let covered: Vec<bool> = covered.map(|byte| byte == b'1').collect();
    let share = |of: &[bool], within: &[bool]| {
        let set: Vec<usize> = (0..of.len()).filter(|at| of[*at]).collect();
        let near = set.iter().filter(|at| is_near(within, width, **at));
        near.count() as f64 / set.len().max(1) as f64
    };
    (share(&wanted, &covered), share(&covered, &wanted))
}

#[test]
fn a_person_sees_on_the_page_what_is_in_the_rows() {
    let clips = ["pedestrians.mp4", "02_cups.mp4", "05_default_juggle.mp4"].map(clip);
    let [Some(street), Some(cups), Some(juggler)] = clips else {
        return;
    };
    let mut run = Graph::named("page.yml")
        .source("cups", &cups)
        .source("juggler", &juggler)
        .source("street", &street)
        .source("yard", &street)
        .env("SOURCE_LOOP", "0")
        .env("CROP_INTERVAL_FRAMES", "5")
        .env("MIN_OBJECT_AREA", "300")
        .env("LIVE_PAGE_BIND", "127.0.0.1:0")
        .start();
    run.wait_until("the page", |output| address(output).is_some());
    let url = address(run.output()).unwrap();
    run.wait_for_rows(100);
    let publisher = run.pids("tracklens-publisher")[0];
    let (start, used) = (Instant::now(), cpu_seconds(publisher));
    std::thread::sleep(Duration::from_secs(4));
    let unwatched = (cpu_seconds(publisher) - used) / start.elapsed().as_secs_f64();
    let (start, used) = (Instant::now(), cpu_seconds(publisher));
    let report = look(&url, run.output().folder(), 4);
    let watched = (cpu_seconds(publisher) - used) / start.elapsed().as_secs_f64();
    println!("load {}", report["load"]);
    println!("update {}", report["cost"]);
    println!("publisher: {unwatched:.3} of a core unwatched, {watched:.3} watched");

    let mut compared = 0;
    for tile in report["drawn"].as_array().unwrap() {
        let stream = tile["stream_id"].as_str().unwrap();
        let (epoch, frame) = (
            tile["epoch"].as_u64().unwrap(),
            tile["frame"].as_u64().unwrap(),
        );
        let rows = rows_of(run.output(), stream, epoch, frame);
        let shown = tile["rows"].as_array().unwrap();
        assert_eq!(shown.len(), rows.len(), "{stream} {frame}");
        for row in shown {
            let row: TrackRow = serde_json::from_value(row.clone()).unwrap();
            assert_eq!(Some(&row), rows.get(&row.track_id), "{stream} {frame}");
        }
        if rows.values().any(|row| row.visible) {
            let (found, right) = drawn(tile, &rows);
            println!(
                "{stream} frame {frame}: {} rows, {found:.3} of their masks drawn, {right:.3} of that right",
                rows.len()
            );
            assert!(found > 0.99 && right > 0.99, "{stream} {frame}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no picture had an object");
    if let Some(keep) = std::env::var_os("KEEP_SCREENSHOTS") {
        for name in ["page.png", "alone.png"] {
            std::fs::copy(
                run.output().path(name),
                std::path::Path::new(&keep).join(name),
            )
            .unwrap();
        }
    }
    run.stop();
    let status = run.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}: {}", run.log());
}

#[test]
fn no_token_is_logged_shown_or_written() {
    let Some(street) = clip("pedestrians.mp4") else {
        return;
    };
    let run = Graph::at(tracklens_tests::root().join("tests/graphs/publish.yml"))
        .source("street", &street)
        .env("LIVE_PAGE_BIND", "127.0.0.1:0")
        .env("LIVE_PAGE_TOKEN", TOKEN)
        .env(
            "AMQP_SINK_URL",
            "amqp://user:page-password-42@127.0.0.1:1/%2f",
        )
        .env("AMQP_SINK_FLUSH_SECONDS", "0.2")
        .env("SINKS", "jsonl,page,websocket,amqp")
        .env("RUST_LOG", "debug,zenoh=warn")
        .run();
    let mut looked_at = 0;
    for entry in std::fs::read_dir(run.folder()).unwrap().flatten() {
        let folder = entry.path().is_dir();
        let inner = std::fs::read_dir(entry.path())
            .into_iter()
            .flatten()
            .flatten();
        let files = if folder {
            inner.map(|e| e.path()).collect()
        } else {
            vec![entry.path()]
        };
        for path in files {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            for secret in [TOKEN, "page-password-42"] {
                assert!(!text.contains(secret), "{secret} is in {}", path.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at >= 4, "{looked_at} files");
    let log = run.text("run.log");
    assert!(
        log.contains("amqp://127.0.0.1:1/%2f"),
        "the broker is named: {log}"
    );
}
