#![allow(clippy::unwrap_used)]
use super::*;
use crate::Grid;
use proptest::prelude::*;
use tracklens_schemas::{FrameId, ImageInfo, PixelEncoding};

const SIZE: (u32, u32) = (64, 48);

fn header(epoch: u32, frame: u64) -> Header {
    Header {
        id: FrameId {
            stream: "cam".parse().unwrap(),
            epoch: Epoch(epoch),
            frame: FrameIndex(frame),
        },
        pts_ns: 0,
        capture_ns: 0,
    }
}

fn prompter(tracks: TracksUse) -> Prompter {
    let rules = Rules {
        interval: 5,
        fill: true,
        most: 100,
        tracks,
    };
    Prompter::new(rules, Box::new(Grid::new(4)))
}

const EXACT: TracksUse = TracksUse::Exact { restarted: false };

fn show(prompter: &mut Prompter, epoch: u32, frame: u64, brightness: u8) {
    let info = ImageInfo::new(SIZE.0, SIZE.1, PixelEncoding::Yuv420p);
    let data = vec![brightness; info.byte_len()];
    prompter.frame(&header(epoch, frame), &Image::new(info, &data).unwrap());
}

fn left_half() -> Vec<Mask> {
    let bitmap: Vec<u8> = (0..SIZE.0 * SIZE.1)
        .map(|at| u8::from(at % SIZE.0 < SIZE.0 / 2))
        .collect();
    vec![Mask::from_bitmap(&bitmap, SIZE.0, SIZE.1)]
}

fn track(prompter: &mut Prompter, frame: u64, masks: Vec<Mask>) {
    prompter.tracks(Epoch(0), FrameIndex(frame), Some(masks));
}

/// Frame and number of prompts of every answer that is ready.
fn answers(prompter: &mut Prompter) -> Vec<(u64, usize)> {
    std::iter::from_fn(|| prompter.next_answer())
        .map(|answer| (answer.header.id.frame.0, answer.prompts.len()))
        .collect()
}

#[test]
fn looks_at_the_first_frame_and_every_interval_after() {
    let mut prompter = prompter(TracksUse::None);
    (0..12).for_each(|frame| show(&mut prompter, 0, frame, 90));
    let looked: Vec<u64> = answers(&mut prompter)
        .iter()
        .filter(|(_, prompts)| *prompts == 16)
        .map(|(frame, _)| *frame)
        .collect();
    assert_eq!(looked, [0, 5, 10]);
}

#[test]
fn a_look_waits_for_the_tracks_of_the_frame_before_and_skips_them() {
    let mut prompter = prompter(EXACT);
    (0..7).for_each(|frame| show(&mut prompter, 0, frame, 90));
    assert_eq!(
        answers(&mut prompter),
        [(0, 16), (1, 0), (2, 0), (3, 0), (4, 0)]
    );
    track(&mut prompter, 3, Vec::new());
    assert_eq!(answers(&mut prompter), []);
    track(&mut prompter, 4, left_half());
    assert_eq!(answers(&mut prompter), [(5, 8), (6, 0)]);
}

#[test]
fn tracks_that_run_ahead_do_not_change_the_answer() {
    let mut prompter = prompter(EXACT);
    (0..5).for_each(|frame| show(&mut prompter, 0, frame, 90));
    assert_eq!(answers(&mut prompter).len(), 5);
    track(&mut prompter, 4, left_half());
    (5..9).for_each(|frame| track(&mut prompter, frame, Vec::new()));
    show(&mut prompter, 0, 5, 90);
    assert_eq!(answers(&mut prompter), [(5, 8)]);
}

#[test]
fn a_cut_is_looked_at_at_once_and_whole() {
    let mut prompter = prompter(EXACT);
    show(&mut prompter, 0, 0, 20);
    show(&mut prompter, 0, 1, 20);
    track(&mut prompter, 1, left_half());
    show(&mut prompter, 0, 2, 200);
    show(&mut prompter, 0, 3, 20);
    assert_eq!(answers(&mut prompter), [(0, 16), (1, 0), (2, 16), (3, 0)]);
    // The cut at frame 3 came too soon after the one before: it is looked at when it has rested.
    (4..14).for_each(|frame| {
        show(&mut prompter, 0, frame, 20);
        track(&mut prompter, frame - 1, left_half());
    });
    let expected: Vec<(u64, usize)> = (4..14)
        .map(|frame| {
            (
                frame,
                [0, 8, 16][usize::from(frame == 5 || frame == 10) + usize::from(frame == 12) * 2],
            )
        })
        .collect();
    assert_eq!(answers(&mut prompter), expected);
}

#[test]
fn live_never_waits_and_uses_the_newest_tracks() {
    let mut prompter = prompter(TracksUse::Newest);
    show(&mut prompter, 0, 0, 90);
    track(&mut prompter, 0, left_half());
    show(&mut prompter, 0, 7, 90);
    assert_eq!(answers(&mut prompter), [(0, 16), (7, 8)]);
}

#[test]
fn after_a_restart_in_mid_epoch_a_look_is_put_off_until_it_can_know_the_tracks() {
    let restarted = TracksUse::Exact { restarted: true };
    let mut mid = prompter(restarted);
    show(&mut mid, 0, 5, 90);
    show(&mut mid, 0, 6, 90);
    assert_eq!(answers(&mut mid), [(5, 0)]);
    track(&mut mid, 5, left_half());
    assert_eq!(answers(&mut mid), [(6, 8)]);

    let mut live = prompter(TracksUse::Newest);
    show(&mut live, 0, 7, 90);
    track(&mut live, 6, left_half());
    show(&mut live, 0, 8, 90);
    assert_eq!(answers(&mut live), [(7, 0), (8, 8)]);
}

#[test]
fn tracks_that_an_earlier_run_has_consumed_are_not_waited_for() {
    let mut prompter = prompter(TracksUse::Exact { restarted: true });
    (3..7).for_each(|frame| show(&mut prompter, 0, frame, 90));
    assert_eq!(answers(&mut prompter), [(3, 0), (4, 0)]);
    prompter.acknowledged(Epoch(0), FrameIndex(4));
    assert_eq!(answers(&mut prompter), [(5, 0), (6, 0)]);
    show(&mut prompter, 0, 7, 90);
    assert_eq!(answers(&mut prompter), []);
    track(&mut prompter, 6, left_half());
    assert_eq!(answers(&mut prompter), [(7, 8)]);
}

#[test]
fn tracks_that_cannot_be_read_put_the_look_off() {
    let mut prompter = prompter(EXACT);
    (0..6).for_each(|frame| show(&mut prompter, 0, frame, 90));
    assert_eq!(answers(&mut prompter).len(), 5);
    prompter.tracks(Epoch(0), FrameIndex(4), None);
    show(&mut prompter, 0, 6, 90);
    assert_eq!(answers(&mut prompter), [(5, 0), (6, 0)]);
    track(&mut prompter, 6, left_half());
    show(&mut prompter, 0, 7, 90);
    assert_eq!(answers(&mut prompter), [(7, 8)]);
}

#[test]
fn a_new_epoch_releases_the_one_before_and_starts_over() {
    let mut prompter = prompter(EXACT);
    (0..6).for_each(|frame| show(&mut prompter, 0, frame, 90));
    assert_eq!(prompter.next_answer().unwrap().prompts.len(), 16);
    show(&mut prompter, 1, 0, 90);
    let rest: Vec<(u32, u64, usize)> = std::iter::from_fn(|| prompter.next_answer())
        .map(|a| (a.header.id.epoch.0, a.header.id.frame.0, a.prompts.len()))
        .collect();
    let expected = [
        (0, 1, 0),
        (0, 2, 0),
        (0, 3, 0),
        (0, 4, 0),
        (0, 5, 0),
        (1, 0, 16),
    ];
    assert_eq!(rest, expected);
    prompter.tracks(Epoch(0), FrameIndex(5), Some(left_half()));
    assert_eq!(prompter.tracks.len(), 0);
}

proptest! {
    /// However frames and tracks interleave, every frame is answered once, in order, and alike.
    #[test]
    fn answers_do_not_depend_on_timing(order in prop::collection::vec(any::<bool>(), 0..120)) {
        const FRAMES: u64 = 30;
        let mut subject = prompter(EXACT);
        let (mut shown, mut tracked) = (0, 0);
        let mut given = Vec::new();
        let endless = order.into_iter().chain([true, false].into_iter().cycle());
        for frame_next in endless {
            if frame_next && shown < FRAMES {
                show(&mut subject, 0, shown, 90);
                shown += 1;
            } else if !frame_next && tracked < FRAMES && tracked < shown + 8 {
                let masks = if tracked % 2 == 0 { left_half() } else { Vec::new() };
                track(&mut subject, tracked, masks);
                tracked += 1;
            }
            given.extend(answers(&mut subject));
            prop_assert!(subject.tracks.len() <= FRAMES as usize);
            if shown == FRAMES && tracked == FRAMES {
                break;
            }
        }
        let expected: Vec<(u64, usize)> = (0..FRAMES)
            .map(|frame| (frame, match frame % 10 {
                0 if frame == 0 => 16,
                0 => 16,
                5 => 8,
                _ => 0,
            }))
            .collect();
        prop_assert_eq!(given, expected);
    }
}

fn detector(tracks: TracksUse, detections: DetectionsUse) -> Prompter {
    let rules = Rules {
        interval: 5,
        fill: true,
        most: 100,
        tracks,
    };
    let strategy = Box::new(crate::detections::Detected);
    Prompter::new(rules, strategy).with_detections(detections)
}

fn detected(prompter: &mut Prompter, frame: u64, found: Option<usize>) -> bool {
    let place = Candidate {
        point: [50.0, 20.0],
        bbox: None,
        score: 0.5,
        strategy: "detector",
    };
    let found = found.map(|count| vec![place; count]);
    prompter.detections(Epoch(0), FrameIndex(frame), found)
}

#[test]
fn only_a_look_waits_for_its_detections() {
    let mut prompter = detector(TracksUse::None, DetectionsUse::Exact);
    (0..8).for_each(|frame| show(&mut prompter, 0, frame, 90));
    assert_eq!(answers(&mut prompter), []);
    assert!(detected(&mut prompter, 0, Some(2)));
    let first: Vec<_> = (0..5)
        .map(|frame| (frame, if frame == 0 { 2 } else { 0 }))
        .collect();
    assert_eq!(answers(&mut prompter), first);
    // Already answered, but not acknowledged: it is acknowledged with its frame.
    assert!(detected(&mut prompter, 1, Some(3)));
    prompter.acknowledged(Epoch(0), FrameIndex(3));
    assert!(!detected(&mut prompter, 2, Some(3)));
    assert!(detected(&mut prompter, 5, Some(1)));
    assert_eq!(answers(&mut prompter), [(5, 1), (6, 0), (7, 0)]);
}

#[test]
fn detections_that_cannot_be_read_put_the_look_off() {
    let mut prompter = detector(TracksUse::None, DetectionsUse::Exact);
    show(&mut prompter, 0, 0, 90);
    detected(&mut prompter, 0, None);
    assert_eq!(answers(&mut prompter), [(0, 0)]);
    show(&mut prompter, 0, 1, 90);
    detected(&mut prompter, 1, Some(2));
    assert_eq!(answers(&mut prompter), [(1, 2)]);
}

#[test]
fn detections_on_what_is_tracked_are_left_out() {
    let mut prompter = detector(EXACT, DetectionsUse::Exact);
    for frame in 0..6 {
        show(&mut prompter, 0, frame, 90);
        detected(&mut prompter, frame, Some(1));
    }
    assert_eq!(answers(&mut prompter)[0], (0, 1));
    let right: Vec<u8> = (0..SIZE.0 * SIZE.1)
        .map(|at| u8::from(at % SIZE.0 >= SIZE.0 / 2))
        .collect();
    track(
        &mut prompter,
        4,
        vec![Mask::from_bitmap(&right, SIZE.0, SIZE.1)],
    );
    assert_eq!(answers(&mut prompter), [(5, 0)]);
}

#[test]
fn the_end_of_a_stream_waits_for_no_detections() {
    let mut prompter = detector(TracksUse::None, DetectionsUse::Exact);
    show(&mut prompter, 0, 0, 90);
    prompter.release();
    assert_eq!(answers(&mut prompter), [(0, 0)]);
}
