//! The questions of a recorded run, offered at a steady rate to a Vision-shaped server: how many calls
//! they cost with and without cache and dedup.
//!
//! `offered RUN PICTURES [RATE]`: RUN is the output folder of a run of graphs/identify.yml, PICTURES its
//! LENS_KEEP_DIR, RATE questions a second (100). One stream per run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement, not a part of the node"
)]

#[path = "../tests/desk/mod.rs"]
mod desk;
#[path = "../tests/replay/mod.rs"]
mod replay;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use desk::{Desk, options, question};
use replay::{Reply, Server};
use serde_json::{Value, json};
use tracklens_lens_batcher::Picture;
use tracklens_lens_batcher::backend::{Service, Vision};
use tracklens_lens_batcher::perceptual_hash::{Hasher, PerceptualHash};
use tracklens_lens_batcher::secret::Secret;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, pictures, rest @ ..] = arguments.as_slice() else {
        panic!("offered RUN PICTURES [RATE]");
    };
    let rate: f64 = rest
        .first()
        .map_or(100.0, |rate| rate.parse().expect("a number"));
    let questions = questions(Path::new(run), Path::new(pictures));
    println!(
        "{} questions, {rate} a second, at most 10 calls a second",
        questions.len()
    );
    println!(
        "| cache | dedup | calls | pictures sent | full batches | most calls in 1 s | longest queue | s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (cache, dedup) in [(false, false), (false, true), (true, false), (true, true)] {
        offer(&questions, rate, cache, dedup);
    }
}

/// The pictures in the order in which they were asked about: of each object the best until then.
fn questions(run: &Path, pictures: &Path) -> Vec<(Picture, Option<PerceptualHash>)> {
    let mut kept: BTreeMap<(u64, u64), (Picture, Option<PerceptualHash>)> = BTreeMap::new();
    let hasher = Hasher::default();
    for entry in std::fs::read_dir(pictures).expect("the folder of pictures") {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut parts = stem.rsplitn(3, '-').map(|part| part.parse::<u64>());
        let (Some(Ok(frame)), Some(Ok(track))) = (parts.next(), parts.next()) else {
            continue;
        };
        let picture = Picture::read(&std::fs::read(&path).unwrap()).expect("a picture");
        let hash = hasher.hash(&picture);
        kept.insert((track, frame), (picture, hash));
    }
    let text = std::fs::read_to_string(run.join("identifications.jsonl")).expect("the run's rows");
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut asked: Vec<(u64, u64)> = rows
        .map(|row| {
            (
                row["frame"].as_u64().unwrap(),
                row["track_id"].as_u64().unwrap(),
            )
        })
        .collect();
    asked.sort_unstable();
    let best = |(frame, track): (u64, u64)| kept.range((track, 0)..=(track, frame)).next_back();
    asked
        .into_iter()
        .filter_map(best)
        .map(|(_, found)| found.clone())
        .collect()
}

fn offer(questions: &[(Picture, Option<PerceptualHash>)], rate: f64, cache: bool, dedup: bool) {
    let server = Server::start(|_, request| {
        let sent: Value = serde_json::from_slice(&request.body).unwrap();
        let count = sent["requests"].as_array().unwrap().len();
        let thing = json!({"webDetection": {"bestGuessLabels": [{"label": "thing"}]}});
        Reply::Slow(
            Duration::from_millis(40),
            json!({ "responses": vec![thing; count] }).to_string(),
        )
    });
    let service = Vision::new(&server.url, Secret::default(), Duration::from_secs(5));
    let mut options = options();
    options.batch_wait = Duration::from_millis(500);
    (options.cache_size, options.dedup) = (if cache { 1000 } else { 0 }, dedup);
    let mut desk = Desk::new(options, &Service::Vision(service));
    let start = Instant::now();
    let mut ended = 0;
    for (number, (picture, hash)) in questions.iter().enumerate() {
        desk.ask(question(number as u32, *hash, picture));
        ended += desk
            .work_until(Duration::from_secs_f64((number + 1) as f64 / rate))
            .len();
    }
    ended += desk.work_off().len();
    assert_eq!(ended, questions.len(), "every question has one end");
    let times: Vec<Instant> = server.requests().iter().map(|request| request.at).collect();
    let in_second = |from: &Instant| {
        let until = *from + Duration::from_secs(1);
        times
            .iter()
            .filter(|at| **at >= *from && **at < until)
            .count()
    };
    let counts = desk.scheduler.counts();
    let sent: u64 = counts
        .batches
        .iter()
        .map(|(size, calls)| *size as u64 * calls)
        .sum();
    println!(
        "| {cache} | {dedup} | {} | {sent} | {} | {} | {} | {:.1} |",
        counts.all_calls(),
        counts.batches.get(&10).copied().unwrap_or(0),
        times.iter().map(in_second).max().unwrap_or(0),
        counts.longest_queue,
        start.elapsed().as_secs_f64()
    );
}
