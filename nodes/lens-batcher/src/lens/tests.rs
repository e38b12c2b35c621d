#![allow(clippy::unwrap_used)]
use super::*;
use crate::Picture;
use crate::circuit_breaker::Rules;
use crate::hash_cache::Answer;
use crate::picture::tests::scene;
use crate::retry::RetryRules;
use proptest::prelude::*;
use std::sync::LazyLock;
use tracklens_schemas::{BBox, Mask, TrackState, TracksStatus};

const FRAME_NS: i64 = 100_000_000;

fn header(epoch: u32, frame: u64) -> Header {
    Header {
        id: FrameId {
            stream: "cam".parse().unwrap(),
            epoch: Epoch(epoch),
            frame: FrameIndex(frame),
        },
        pts_ns: frame as i64 * FRAME_NS,
        capture_ns: 0,
    }
}

fn info() -> TracksInfo {
    TracksInfo {
        status: TracksStatus::Ok,
        processing_ms: 1.0,
        model: "test".into(),
        width: 200,
        height: 100,
    }
}

fn track(id: u32) -> Track {
    Track {
        track_id: TrackId(id),
        bbox: BBox::new(10.0, 10.0, 40.0, 50.0),
        mask: Mask::from_bitmap(&[1; 20_000], 200, 100),
        area: 1200,
        score: 0.9,
        visible: true,
        state: TrackState::Tracked,
        age: 0,
    }
}

/// A picture of the object on a frame: much the same from frame to frame.
fn crop(id: u32, frame: u64) -> Crop {
    static SCENES: LazyLock<Vec<Picture>> =
        LazyLock::new(|| (0..9).map(|seed| scene(seed, 30, 40)).collect());
    let picture = SCENES[id as usize].clone();
    Crop {
        track_id: TrackId(id),
        bbox: BBox::new(10.0, 10.0, 40.0, 50.0),
        width: 30,
        height: 40,
        pixels: picture.pixels,
        sharpness: 50.0 + (frame % 7) as f32,
    }
}

fn lens() -> Lens {
    let options = Options {
        batch_size: 4,
        batch_wait: Duration::ZERO,
        queue: 100,
        calls_at_once: 4,
        rate_limit: None,
        restarted: false,
        retry: RetryRules {
            attempts: 0,
            delay: Duration::ZERO,
        },
        breaker: Rules::default(),
        dedup: true,
        cache_size: 100,
        radius: 3,
        seed: 0,
    };
    let timing = Timing {
        after: Duration::from_millis(1500),
        interval: Duration::from_secs(3),
    };
    Lens::new(
        "test",
        TimeSource::Stream,
        true,
        timing,
        options,
        Duration::ZERO,
    )
}

fn answer_all(lens: &mut Lens) {
    while let Some(call) = lens.poll(Duration::ZERO, true) {
        let name = |track: TrackId| Answer {
            name: format!("thing {}", track.0),
            ..Answer::default()
        };
        let answers = call
            .questions
            .iter()
            .map(|q| Ok(name(q.object.track)))
            .collect();
        lens.ended(call.id, Ok(answers), Duration::ZERO);
    }
}

fn brief(rows: Vec<Row>) -> Vec<(u64, u32, String, bool)> {
    let brief = |(header, row): Row| (header.id.frame.0, row.track_id.0, row.name, row.cached);
    rows.into_iter().map(brief).collect()
}

#[test]
fn objects_are_asked_about_in_time_and_the_cache_answers_later() {
    let (mut lens, mut rows) = (lens(), Vec::new());
    for frame in 0..60 {
        lens.tracks(
            &header(0, frame),
            &info(),
            &[track(1), track(2)],
            Duration::ZERO,
        );
        if frame % 5 == 0 {
            lens.crops(
                &header(0, frame),
                vec![crop(1, frame), crop(2, frame)],
                Duration::ZERO,
            );
        }
        answer_all(&mut lens);
        rows.extend(brief(lens.take_rows()));
    }
    let expected = [(15, 1, false), (15, 2, false), (45, 1, true), (45, 2, true)];
    let expected = expected.map(|(frame, id, cached)| (frame, id, format!("thing {id}"), cached));
    assert_eq!(rows, expected);
    assert_eq!(lens.take_asked().len(), 4);
}

proptest! {
    /// However tracks and crops meet, the same is asked on the same frames.
    #[test]
    fn the_same_input_asks_the_same(late in prop::collection::vec(0usize..9, 100)) {
        let run = |late: &[usize]| {
            let mut lens = lens();
            let mut crops = VecDeque::new();
            for frame in 0..100u64 {
                if frame % 5 == 0 {
                    let list: Vec<Crop> = (0..3).map(|id| crop(id, frame)).collect();
                    crops.push_back((frame, list));
                }
                // Crops may come before the tracks of their frame, or long after.
                let lag = late[frame as usize];
                if lag == 0 && let Some((of, list)) = crops.pop_front() {
                    lens.crops(&header(0, of), list, Duration::ZERO);
                }
                let rows: Vec<Track> = (0..3).filter(|id| frame >= 10 * u64::from(*id)).map(track).collect();
                lens.tracks(&header(0, frame), &info(), &rows, Duration::ZERO);
                while crops.front().is_some_and(|(of, _)| of + lag as u64 <= frame) {
                    let (of, list) = crops.pop_front().unwrap();
                    lens.crops(&header(0, of), list, Duration::ZERO);
                }
            }
            for (of, list) in crops {
                lens.crops(&header(0, of), list, Duration::ZERO);
            }
            lens.closed(&"cam".parse().unwrap(), Duration::ZERO);
            let asked = lens.take_asked().into_iter();
            asked
                .map(|q| (q.header.id.frame.0, q.object.track.0, q.view.frame))
                .collect::<Vec<_>>()
        };
        // Answers are not given, so that nobody is asked about twice; what differs would show.
        prop_assert_eq!(run(&late), run(&[1; 100]));
    }
}

#[test]
fn the_end_of_a_stream_asks_what_is_due_and_waits_for_answers() {
    let mut lens = lens();
    lens.tracks(&header(0, 0), &info(), &[track(1)], Duration::ZERO);
    lens.crops(&header(0, 0), vec![crop(1, 0)], Duration::ZERO);
    for frame in 1..20 {
        lens.tracks(
            &header(0, frame),
            &info(),
            &[track(1), track(2)],
            Duration::ZERO,
        );
    }
    let cam = "cam".parse().unwrap();
    assert!(!lens.is_busy(&cam) && lens.has_streams());
    lens.closed(&cam, Duration::ZERO);
    assert!(lens.is_busy(&cam) && !lens.has_streams());
    answer_all(&mut lens);
    assert_eq!(brief(lens.take_rows()), [(19, 1, "thing 1".into(), false)]);
    assert!(!lens.is_busy(&cam));
}

#[test]
fn a_restarted_process_asks_nobody_again_too_soon() {
    let entry = |epoch| Entry {
        run: "r".into(),
        stream: "cam".parse().unwrap(),
        epoch: Epoch(epoch),
        track: TrackId(1),
        at: 15 * FRAME_NS,
    };
    let first_asked = |entries| {
        let mut lens = lens();
        lens.asked_before(entries);
        for frame in 20..80 {
            lens.tracks(&header(3, frame), &info(), &[track(1)], Duration::ZERO);
            lens.crops(&header(3, frame), vec![crop(1, frame)], Duration::ZERO);
        }
        lens.take_asked()[0].header.id.frame.0
    };
    assert_eq!(first_asked(vec![entry(3)]), 45);
    assert_eq!(
        first_asked(vec![entry(2)]),
        35,
        "another epoch: 1.5 seconds after its beginning"
    );
}

#[test]
fn a_new_epoch_begins_anew_and_an_old_one_is_not_heard() {
    let mut lens = lens();
    for frame in 0..16 {
        lens.tracks(&header(0, frame), &info(), &[track(1)], Duration::ZERO);
        lens.crops(&header(0, frame), vec![crop(1, frame)], Duration::ZERO);
    }
    assert_eq!(lens.take_asked().len(), 1);
    for frame in 0..16 {
        lens.tracks(&header(1, frame), &info(), &[track(5)], Duration::ZERO);
        lens.tracks(&header(0, frame + 16), &info(), &[track(1)], Duration::ZERO);
        lens.crops(&header(1, frame), vec![crop(5, frame)], Duration::ZERO);
    }
    let asked = lens.take_asked();
    assert_eq!((asked.len(), asked[0].object.track.0), (1, 5));
}
