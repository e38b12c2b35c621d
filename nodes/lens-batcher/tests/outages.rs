//! A Vision-shaped server that misbehaves for a while: what becomes of every question.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod desk;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use desk::{Desk, options, question};
use replay::{Reply, Request, Server};
use serde_json::{Value, json};
use tracklens_lens_batcher::Picture;
use tracklens_lens_batcher::backend::{Service, Vision};
use tracklens_lens_batcher::circuit_breaker::State;
use tracklens_lens_batcher::question::Answered;
use tracklens_lens_batcher::secret::Secret;
use tracklens_schemas::Outcome;

const KEY: &str = "very-secret-key";

fn answers(request: &Request) -> String {
    let sent: Value = serde_json::from_slice(&request.body).unwrap();
    let count = sent["requests"].as_array().unwrap().len();
    let one = json!({"webDetection": {"bestGuessLabels": [{"label": "thing"}]}});
    json!({ "responses": vec![one; count] }).to_string()
}

fn vision(url: &str) -> Service {
    let limit = Duration::from_millis(300);
    Service::Vision(Vision::new(url, Secret::new(KEY), limit))
}

/// Asks 30 questions while the server misbehaves, mends it after `outage` ms, asks again what failed,
/// and returns what became of the questions and the desk.
fn ride_out(
    outage: u64,
    misbehave: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Vec<Answered>, Desk) {
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let server = Server::start(move |_, request| match state.load(Ordering::Relaxed) {
        true => misbehave(request),
        false => Reply::Http(200, "", answers(request)),
    });
    let mut desk = Desk::new(options(), &vision(&server.url));
    let picture = Picture::new(8, 8, vec![90; 192]).unwrap();
    (0..30).for_each(|number| desk.ask(question(number, None, &picture)));
    let mut all = desk.work_until(Duration::from_millis(outage));
    broken.store(false, Ordering::Relaxed);
    all.extend(desk.work_off());
    (all, desk)
}

fn outcomes(answered: &[Answered]) -> BTreeMap<Option<&'static str>, usize> {
    let mut counts = BTreeMap::new();
    for one in answered {
        *counts.entry(one.outcome.map(Outcome::as_str)).or_default() += 1;
    }
    counts
}

/// Every question has exactly one end; those that failed say why, without the key.
fn check(what: &str, answered: &[Answered], desk: &mut Desk) {
    let mut tracks: Vec<u32> = answered.iter().map(|a| a.question.object.track.0).collect();
    tracks.sort_unstable();
    assert_eq!(tracks, (0..30).collect::<Vec<_>>(), "{what}: one end each");
    for one in answered
        .iter()
        .filter(|a| a.outcome == Some(Outcome::Failed))
    {
        let error = one.error.as_ref().unwrap();
        assert!(!error.is_empty() && !error.contains(KEY), "{what}: {error}");
    }
    let counts = desk.scheduler.counts();
    eprintln!(
        "{what:<22} {:?} calls {:?} retries {} opened {} closed {}",
        outcomes(answered),
        counts.calls,
        counts.retries,
        counts.opened,
        counts.closed
    );
    // What failed is asked again, and answered.
    let failed: Vec<_> = answered
        .iter()
        .filter(|a| a.outcome == Some(Outcome::Failed))
        .collect();
    let again = failed.len();
    failed.iter().for_each(|a| desk.ask(a.question.clone()));
    let answered = desk.work_off();
    let identified = answered
        .iter()
        .filter(|a| a.outcome == Some(Outcome::Identified));
    assert_eq!(identified.count(), again, "{what}: asked again");
    assert_eq!(desk.scheduler.breaker(), State::Closed, "{what}");
}

fn said(desk: &mut Desk, word: &str) -> bool {
    desk.scheduler.counts().calls.contains_key(word)
}

#[test]
fn a_server_that_is_down() {
    let (all, mut desk) = ride_out(2500, |_| Reply::Cut(0, String::new()));
    assert!(said(&mut desk, "connection") && desk.scheduler.counts().opened == 1);
    // Three calls of ten questions fail twice each before the breaker opens: nothing has failed.
    assert_eq!(outcomes(&all)[&Some("identified")], 30);
    check("down 2.5 s", &all, &mut desk);
}

#[test]
fn a_server_that_is_slow() {
    let (all, mut desk) = ride_out(2500, |request| {
        Reply::Slow(Duration::from_millis(900), answers(request))
    });
    assert!(said(&mut desk, "timeout") && desk.scheduler.counts().opened == 1);
    check("slow (time-out 0.3 s)", &all, &mut desk);
}

#[test]
fn a_server_that_has_errors_of_its_own() {
    let (all, mut desk) = ride_out(2500, |_| Reply::Http(500, "", "oops".into()));
    assert!(said(&mut desk, "server_error") && desk.scheduler.counts().opened == 1);
    check("500", &all, &mut desk);
}

#[test]
fn a_server_that_wants_to_be_asked_less() {
    let (all, mut desk) = ride_out(2500, |_| {
        Reply::Http(429, "retry-after: 1\r\n", "slow".into())
    });
    // The calls at hand, then one a second at most four at once; no question suffers.
    let limited = desk.scheduler.counts().calls["rate_limited"];
    assert!((3..=12).contains(&limited), "{limited}");
    assert_eq!(
        (
            outcomes(&all)[&Some("identified")],
            desk.scheduler.counts().opened
        ),
        (30, 0)
    );
    check("429, Retry-After: 1", &all, &mut desk);
}

#[test]
fn a_server_that_talks_nonsense() {
    let (all, mut desk) = ride_out(2500, |_| Reply::Http(200, "", "{\"responses\": [".into()));
    assert!(said(&mut desk, "malformed") && desk.scheduler.counts().opened == 1);
    check("malformed JSON", &all, &mut desk);
}

#[test]
fn a_server_that_cannot_count() {
    let (all, mut desk) = ride_out(2500, |_| {
        Reply::Http(200, "", "{\"responses\": [{}]}".into())
    });
    assert!(said(&mut desk, "malformed"));
    check("wrong count", &all, &mut desk);
}

#[test]
fn a_server_that_cuts_answers_off() {
    let (all, mut desk) = ride_out(2500, |request| Reply::Cut(150, answers(request)));
    assert!(said(&mut desk, "connection"));
    check("cut connections", &all, &mut desk);
}

#[test]
fn a_server_that_does_not_know_the_key() {
    let (all, mut desk) = ride_out(1000, |_| {
        Reply::Http(403, "", format!("key {KEY} is not valid"))
    });
    assert!(outcomes(&all)[&Some("failed")] >= 10);
    check("403", &all, &mut desk);
}
