#![allow(clippy::unwrap_used)]
use super::*;
use crate::Picture;
use crate::candidate::{Object, View};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracklens_schemas::{BBox, Epoch, FrameId, FrameIndex, Header, TrackId};

const WAIT: u64 = 500;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn options() -> Options {
    Options {
        batch_size: 4,
        batch_wait: ms(WAIT),
        queue: 10,
        calls_at_once: 2,
        rate_limit: Some(10),
        restarted: false,
        retry: RetryRules {
            attempts: 2,
            delay: ms(100),
        },
        breaker: Rules::default(),
        dedup: true,
        cache_size: 100,
        radius: 3,
        seed: 1,
    }
}

fn scheduler(change: impl FnOnce(&mut Options)) -> Scheduler {
    let mut options = options();
    change(&mut options);
    Scheduler::new(options, Duration::ZERO)
}

/// A hash that is far from those of other numbers.
fn far(number: u64) -> PerceptualHash {
    PerceptualHash((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn question(track: u32, hash: PerceptualHash) -> Question {
    Question {
        object: Object {
            stream: "cam".parse().unwrap(),
            track: TrackId(track),
        },
        header: Header {
            id: FrameId {
                stream: "cam".parse().unwrap(),
                epoch: Epoch(0),
                frame: FrameIndex(u64::from(track)),
            },
            pts_ns: 0,
            capture_ns: 0,
        },
        view: Arc::new(View {
            frame: 0,
            picture: Picture::new(1, 1, vec![0; 3]).unwrap(),
            bbox: BBox::default(),
            sharpness: 0.0,
            quality: 0.0,
        }),
        hash: Some(hash),
    }
}

fn ask(scheduler: &mut Scheduler, tracks: std::ops::Range<u32>, now: u64) {
    for track in tracks {
        scheduler.ask(question(track, far(track.into())), ms(now));
    }
}

fn named(name: &str) -> Result<Answer, PictureError> {
    Ok(Answer {
        name: name.into(),
        confidence: 1.0,
        ..Answer::default()
    })
}

fn all_named(call: &Call) -> CallResult {
    Ok(call
        .questions
        .iter()
        .map(|q| named(&q.object.track.0.to_string()))
        .collect())
}

fn tracks(call: &Call) -> Vec<u32> {
    call.questions.iter().map(|q| q.object.track.0).collect()
}

fn rows(scheduler: &mut Scheduler) -> Vec<(u32, Option<Outcome>, String, bool, u8)> {
    let answered = scheduler.take_answered().into_iter();
    answered
        .map(|a| {
            (
                a.question.object.track.0,
                a.outcome,
                a.answer.name,
                a.cached,
                a.attempts,
            )
        })
        .collect()
}

const IDENTIFIED: Option<Outcome> = Some(Outcome::Identified);
const FAILED: Option<Outcome> = Some(Outcome::Failed);

fn down() -> CallResult {
    Err(CallError::Connection {
        reason: "refused".into(),
    })
}

#[test]
fn a_batch_leaves_when_it_is_full_or_has_waited() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..3, 0);
    assert!(s.poll(ms(WAIT - 1), false).is_none());
    assert_eq!(s.wakes_at(ms(1)), Some(ms(WAIT)));
    assert_eq!(tracks(&s.poll(ms(WAIT), false).unwrap()), [0, 1, 2]);
    ask(&mut s, 3..8, 600);
    assert_eq!(tracks(&s.poll(ms(600), false).unwrap()), [3, 4, 5, 6]);
    assert!(
        s.poll(ms(600), true).is_none(),
        "two calls are on their way"
    );
    assert_eq!(s.wakes_at(ms(600)), None);
}

#[test]
fn answers_are_cached_and_alike_pictures_share_one() {
    let mut s = scheduler(|_| {});
    let near = PerceptualHash(far(0).0 ^ 0b101);
    s.ask(question(0, far(0)), ms(0));
    s.ask(question(1, near), ms(0));
    ask(&mut s, 2..5, 0);
    let call = s.poll(ms(0), false).unwrap();
    assert_eq!(tracks(&call), [0, 2, 3, 4], "1 waits with 0");
    s.ask(question(9, near), ms(10));
    s.ended(call.id, all_named(&call), ms(50));
    let rows_now = rows(&mut s);
    let of = |track| rows_now.iter().find(|row| row.0 == track).unwrap().clone();
    assert_eq!(of(0), (0, IDENTIFIED, "0".into(), false, 1));
    assert_eq!(of(1), (1, IDENTIFIED, "0".into(), true, 0));
    assert_eq!(
        of(9),
        (9, IDENTIFIED, "0".into(), true, 0),
        "asked while the call was on its way"
    );
    s.ask(question(20, near), ms(60));
    assert_eq!(rows(&mut s), [(20, IDENTIFIED, "0".into(), true, 0)]);
    assert!(s.is_idle());
    let counts = s.counts();
    assert_eq!((counts.hits, counts.twins, counts.all_calls()), (1, 2, 1));
}

#[test]
fn without_cache_and_dedup_everything_is_asked() {
    let mut s = scheduler(|o| (o.cache_size, o.dedup, o.batch_size) = (0, false, 1));
    for now in 0..3 {
        s.ask(question(1, far(1)), ms(now));
        s.ask(question(2, far(1)), ms(now));
        while let Some(call) = s.poll(ms(now), false) {
            s.ended(call.id, all_named(&call), ms(now));
        }
    }
    assert_eq!(s.counts().all_calls(), 6);
}

#[test]
fn pictures_that_show_nothing_are_neither_cached_nor_joined() {
    let mut s = scheduler(|o| o.batch_size = 2);
    let blank = |track| Question {
        hash: None,
        ..question(track, far(0))
    };
    s.ask(blank(1), ms(0));
    s.ask(blank(2), ms(0));
    let call = s.poll(ms(0), false).unwrap();
    assert_eq!(tracks(&call), [1, 2]);
    s.ended(call.id, all_named(&call), ms(1));
    assert!(s.cache().is_empty());
}

#[test]
fn the_queue_is_bounded_and_the_oldest_goes() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..13, 0);
    s.ask(question(50, far(12)), ms(0));
    assert_eq!(s.waiting(), 10);
    let gone: Vec<u32> = rows(&mut s)
        .iter()
        .filter(|r| r.1.is_none())
        .map(|r| r.0)
        .collect();
    assert_eq!(gone, [0, 1, 2]);
    assert_eq!(s.counts().dropped, 3);
    ask(&mut s, 0..1, 1);
    assert_eq!(s.waiting(), 10, "what was dropped may be asked again");
}

#[test]
fn a_failed_call_is_made_again_with_growing_pauses_and_then_given_up() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..2, 0);
    let (mut now, mut calls) = (WAIT, 0);
    while !s.is_idle() {
        match s.poll(ms(now), false) {
            Some(call) => {
                calls += 1;
                assert_eq!(tracks(&call), [0, 1]);
                s.ended(call.id, down(), ms(now));
            }
            None => now = s.wakes_at(ms(now)).unwrap().as_millis() as u64 + 1,
        }
    }
    assert_eq!(calls, 3, "once and two attempts more");
    assert!((WAIT + 150..WAIT + 500).contains(&now), "{now}");
    assert_eq!(
        rows(&mut s),
        [
            (0, FAILED, String::new(), false, 3),
            (1, FAILED, String::new(), false, 3)
        ]
    );
    ask(&mut s, 0..1, now);
    assert_eq!(s.waiting(), 1, "failures are not cached");
}

#[test]
fn what_is_refused_is_not_asked_again() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..4, 0);
    let call = s.poll(ms(0), false).unwrap();
    let refused = CallError::Refused {
        status: 400,
        said: "no".into(),
    };
    s.ended(call.id, Err(refused), ms(5));
    assert!(s.is_idle());
    let answered = s.take_answered();
    assert!(
        answered
            .iter()
            .all(|a| a.outcome == FAILED && a.attempts == 1)
    );
    assert!(answered[0].error.as_ref().unwrap().contains("400"));
}

#[test]
fn one_picture_may_fail_alone() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..4, 0);
    let call = s.poll(ms(0), false).unwrap();
    let error = |retryable| {
        Err(PictureError {
            said: "bad".into(),
            retryable,
        })
    };
    let answers = vec![named("a"), error(true), error(false), Ok(Answer::default())];
    s.ended(call.id, Ok(answers), ms(5));
    let outcomes: Vec<_> = rows(&mut s).into_iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(
        outcomes,
        [(0, IDENTIFIED), (2, FAILED), (3, Some(Outcome::Unknown))]
    );
    let call = s.poll(s.wakes_at(ms(5)).unwrap(), false).unwrap();
    assert_eq!(tracks(&call), [1]);
    s.ended(call.id, all_named(&call), ms(900));
    assert_eq!(rows(&mut s), [(1, IDENTIFIED, "1".into(), false, 2)]);
}

#[test]
fn a_wrong_count_of_answers_is_no_answer() {
    for answers in [0, 3, 5] {
        let mut s = scheduler(|_| {});
        ask(&mut s, 0..4, 0);
        let call = s.poll(ms(0), false).unwrap();
        s.ended(call.id, Ok(vec![named("x"); answers]), ms(5));
        assert!(rows(&mut s).is_empty());
        assert_eq!((s.waiting(), s.counts().calls["malformed"]), (4, 1));
    }
}

#[test]
fn retry_after_is_kept_to_and_costs_no_attempt() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..4, 0);
    let mut now = 0;
    for _ in 0..8 {
        let call = s.poll(ms(now), false).unwrap();
        let limited = CallError::RateLimited {
            wait: Some(ms(2000)),
            said: String::new(),
        };
        s.ended(call.id, Err(limited), ms(now));
        ask(&mut s, 4..5, now);
        assert!(s.poll(ms(now + 1999), true).is_none());
        assert_eq!(s.wakes_at(ms(now)), Some(ms(now + 2000)));
        now += 2000;
    }
    let call = s.poll(ms(now), false).unwrap();
    s.ended(call.id, all_named(&call), ms(now));
    assert_eq!(rows(&mut s)[0], (0, IDENTIFIED, "0".into(), false, 9));
    assert_eq!(s.counts().opened, 0);
}

#[test]
fn the_breaker_spares_a_service_that_is_down_and_no_question_is_lost() {
    let mut s = scheduler(|o| (o.queue, o.batch_size, o.calls_at_once) = (100, 1, 1));
    ask(&mut s, 0..40, 0);
    let (mut now, mut calls) = (0, Vec::new());
    while now < 30_000 {
        match s.poll(ms(now), false) {
            Some(call) => {
                calls.push(now);
                s.ended(call.id, down(), ms(now));
            }
            None => now = now.max(s.wakes_at(ms(now)).unwrap().as_millis() as u64) + 1,
        }
    }
    // Five to open it, then one each after 1, 2, 4, 8 and 16 seconds.
    assert!((9..=10).contains(&calls.len()), "{calls:?}");
    assert_eq!(s.breaker(), State::Open);
    let lost = rows(&mut s).len();
    assert!(lost <= 2, "{lost}");
    while !s.is_idle() {
        match s.poll(ms(now), false) {
            Some(call) => s.ended(call.id, all_named(&call), ms(now)),
            None => now = now.max(s.wakes_at(ms(now)).unwrap().as_millis() as u64) + 1,
        }
    }
    assert_eq!(rows(&mut s).len(), 40 - lost);
    assert_eq!((s.counts().opened, s.counts().closed), (1, 1));
}

#[test]
fn what_is_abandoned_fails_and_its_twins_of_others_stay() {
    let mut s = scheduler(|_| {});
    ask(&mut s, 0..3, 0);
    s.ask(question(10, far(0)), ms(0));
    s.ask(question(11, far(1)), ms(0));
    s.abandon(|q| q.object.track.0 < 10, "over");
    let failed: BTreeSet<u32> = rows(&mut s).into_iter().map(|row| row.0).collect();
    assert_eq!(failed, BTreeSet::from([0, 1, 2]));
    let call = s.poll(ms(1), true).unwrap();
    assert_eq!(tracks(&call), [10, 11]);
    s.abandon(|_| true, "over");
    s.ended(call.id, all_named(&call), ms(2));
    assert!(s.is_idle());
    assert_eq!(rows(&mut s).len(), 2);
}

/// What happens in a random run: questions, and how calls end.
#[derive(Clone, Debug)]
enum Step {
    Ask(u32),
    Wait(u64),
    End(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..30).prop_map(Step::Ask),
        1 => prop_oneof![0u64..50, 0u64..3000].prop_map(Step::Wait),
        2 => (0usize..4, 0u8..10).prop_map(|(call, how)| Step::End(call, how)),
    ]
}

fn ending(call: &Call, how: u8) -> CallResult {
    match how {
        0 => down(),
        1 => Ok(vec![named("x"); call.questions.len() + 1]),
        2 => Err(CallError::RateLimited {
            wait: Some(ms(300)),
            said: String::new(),
        }),
        3 => Err(CallError::Refused {
            status: 400,
            said: String::new(),
        }),
        4 => Err(CallError::Timeout { limit: ms(1) }),
        _ => all_named(call),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every question has one end, whatever happens to calls; limits hold at every moment.
    #[test]
    fn every_question_ends_once_and_limits_hold(steps in prop::collection::vec(step(), 1..200)) {
        let mut s = scheduler(|o| o.rate_limit = Some(3));
        let (mut now, mut asked, mut ended) = (0u64, 0, 0);
        let mut out: Vec<Call> = Vec::new();
        let mut starts: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(track) => {
                    s.ask(question(track, far(track.into())), ms(now));
                    asked += 1;
                }
                Step::Wait(time) => now += time,
                Step::End(at, how) if at < out.len() => {
                    let call = out.remove(at);
                    s.ended(call.id, ending(&call, how), ms(now));
                }
                Step::End(..) => {}
            }
            while let Some(call) = s.poll(ms(now), false) {
                prop_assert!((1..=4).contains(&call.questions.len()));
                starts.push(now);
                out.push(call);
            }
            let last_second = starts.iter().filter(|start| **start + 1000 > now).count();
            prop_assert!(last_second <= 3 && out.len() <= 2 && s.waiting() <= 10);
            ended += s.take_answered().len();
        }
        for call in out {
            s.ended(call.id, all_named(&call), ms(now));
        }
        while !s.is_idle() {
            match s.poll(ms(now), true) {
                Some(call) => s.ended(call.id, all_named(&call), ms(now)),
                None => now += 10,
            }
        }
        ended += s.take_answered().len();
        prop_assert_eq!(asked, ended);
        prop_assert!(s.twins.is_empty() && s.by_hash.is_empty());
    }
}
