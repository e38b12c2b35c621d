//! 100 questions a second against a Vision-shaped server that may be called 10 times a second.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod desk;
mod replay;

use std::time::Duration;

use desk::{Desk, options, question};
use replay::{Reply, Server};
use serde_json::{Value, json};
use tracklens_lens_batcher::Picture;
use tracklens_lens_batcher::backend::{Service, Vision};
use tracklens_lens_batcher::secret::Secret;

#[test]
fn the_server_never_sees_more_calls_in_a_second_than_it_allows() {
    let server = Server::start(|_, request| {
        let sent: Value = serde_json::from_slice(&request.body).unwrap();
        let count = sent["requests"].as_array().unwrap().len();
        let body = json!({ "responses": vec![json!({}); count] }).to_string();
        Reply::Slow(Duration::from_millis(40), body)
    });
    let service = Vision::new(&server.url, Secret::default(), Duration::from_secs(5));
    let mut options = options();
    (options.batch_wait, options.queue) = (Duration::from_millis(500), 50);
    let mut desk = Desk::new(options, &Service::Vision(service));
    let picture = Picture::new(24, 48, vec![90; 3456]).unwrap();
    let (mut asked, mut ended) = (0, 0);
    for number in 0..600 {
        desk.ask(question(number, None, &picture));
        asked += 1;
        ended += desk
            .work_until(Duration::from_millis(10 * u64::from(number)))
            .len();
    }
    ended += desk.work_off().len();
    assert_eq!(asked, ended);

    let times: Vec<_> = server.requests().iter().map(|request| request.at).collect();
    let in_second = |from: &std::time::Instant| {
        let until = *from + Duration::from_secs(1);
        times
            .iter()
            .filter(|at| **at >= *from && **at < until)
            .count()
    };
    let most = times.iter().map(in_second).max().unwrap();
    let counts = desk.scheduler.counts();
    eprintln!("most calls in a second {most}; {counts:?}");
    assert!(most <= 10, "{most} calls in a second");
    assert!(counts.longest_queue <= 50);
    let full = counts.batches[&10];
    assert!(
        full * 10 >= counts.all_calls() * 9,
        "{full} of {} full",
        counts.all_calls()
    );
}
