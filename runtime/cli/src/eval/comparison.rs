//! Ways of following side by side that are shown nothing: how well objects are segmented, with and
//! without regard to who is who, and how often an object changes its track.

use std::collections::BTreeMap;

use comfy_table::Table;
use serde::Serialize;
use tracklens_schemas::Mask;

use super::annotation::Annotation;
use super::dataset::Sequence;
use super::davis::{self, Score};
use super::follow::{fitted, scores};
use super::masks::StreamMasks;
use super::report::{Percent, hundredths};
use super::run::Run;

/// Overlap from which a track is an object's (CLEAR MOT, Bernardin and Stiefelhagen 2008): masks that
/// share no pixel cannot both have more.
const MATCH: f64 = 0.5;

/// What one way made of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Frames that count for the scores.
    pub(crate) frames: usize,
    /// Of the one track that overlaps the object most over the whole sequence.
    pub(crate) one: Score,
    /// Of whichever track overlaps it most on each frame.
    pub(crate) any: Score,
    /// Times its track changes.
    pub(crate) switches: u32,
    /// The part of the frames with the object on which it has a track.
    pub(crate) covered: f64,
}

/// Compares an object with the tracks of its stream.
pub(crate) fn compare(sequence: &Sequence, object: u8, tracks: &StreamMasks) -> Outcome {
    let one = best_track(sequence, object, tracks);
    let of_one = scores(sequence, object, |frame| tracks.mask(frame, one?));
    let best: BTreeMap<u64, (u32, f64)> = sequence
        .truth
        .iter()
        .filter_map(|(&frame, truth)| Some((frame, best_on(frame, truth, object, tracks)?)))
        .collect();
    let of_any = scores(sequence, object, |frame| {
        let (track, _) = best.get(&frame)?;
        tracks.mask(frame, *track)
    });
    let seen = sequence.masks(object).filter(|(_, truth)| truth.area() > 0);
    let matches: Vec<Option<u32>> = seen
        .map(|(frame, _)| {
            let (track, overlap) = best.get(&frame)?;
            (*overlap >= MATCH).then_some(*track)
        })
        .collect();
    let matched = matches.iter().flatten().count();
    Outcome {
        frames: of_one.len(),
        one: Score::mean(&of_one),
        any: Score::mean(&of_any),
        switches: switches(&matches),
        covered: matched as f64 / matches.len().max(1) as f64,
    }
}

/// How often the track of an object changes; while it has none, the last one counts.
fn switches(matches: &[Option<u32>]) -> u32 {
    let mut tracks = matches.iter().flatten();
    let Some(mut last) = tracks.next() else {
        return 0;
    };
    let mut changes = 0;
    for track in tracks {
        changes += u32::from(track != last);
        last = track;
    }
    changes
}

/// The track that overlaps an object most, summed over the annotated frames.
fn best_track(sequence: &Sequence, object: u8, tracks: &StreamMasks) -> Option<u32> {
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for (frame, truth) in sequence.masks(object) {
        for (track, mask) in tracks.on(frame) {
            *sums.entry(track).or_default() += davis::region(&fitted(mask, &truth), &truth);
        }
    }
    most(sums).map(|(track, _)| track)
}

/// The track that overlaps an object most on a frame, and how much.
fn best_on(
    frame: u64,
    annotation: &Annotation,
    object: u8,
    tracks: &StreamMasks,
) -> Option<(u32, f64)> {
    let truth: Mask = annotation.mask(object);
    most(
        tracks
            .on(frame)
            .map(|(track, mask)| (track, davis::region(&fitted(mask, &truth), &truth))),
    )
}

/// The greatest overlap above nothing; of equals the oldest track.
fn most(overlaps: impl IntoIterator<Item = (u32, f64)>) -> Option<(u32, f64)> {
    let touching = overlaps.into_iter().filter(|(_, overlap)| *overlap > 0.0);
    touching.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// One way of following, on all objects.
#[derive(Debug, Serialize)]
pub(crate) struct WayTable {
    pub(crate) way: String,
    /// What a frame costs the tracker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ms_per_frame: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompts_per_frame: Option<f64>,
    /// Frames a second through the whole graph, all sequences together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fps: Option<f64>,
    pub(crate) sequences: Vec<Row>,
    /// Means of the scores and of the covered part; the sum of the switches.
    pub(crate) all: Row,
}

/// One way's result on one object, or on all.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) frames: usize,
    #[serde(flatten)]
    pub(crate) one: Percent,
    pub(crate) any_id: Percent,
    pub(crate) id_switches: u32,
    /// In percent.
    pub(crate) covered: f64,
}

impl Row {
    fn new(name: &str, outcome: &Outcome) -> Self {
        Self {
            name: name.into(),
            frames: outcome.frames,
            one: outcome.one.into(),
            any_id: outcome.any.into(),
            id_switches: outcome.switches,
            covered: hundredths(outcome.covered),
        }
    }
}

impl WayTable {
    /// The outcomes on all objects, by their names.
    pub(crate) fn new(way: &str, run: &Run, outcomes: &[(String, Outcome)]) -> Self {
        let scores = |read: fn(&Outcome) -> Score| {
            let scores: Vec<Score> = outcomes.iter().map(|(_, outcome)| read(outcome)).collect();
            Score::mean(&scores)
        };
        let covered: f64 = outcomes.iter().map(|(_, outcome)| outcome.covered).sum();
        let all = Outcome {
            frames: outcomes.iter().map(|(_, outcome)| outcome.frames).sum(),
            one: scores(|outcome| outcome.one),
            any: scores(|outcome| outcome.any),
            switches: outcomes.iter().map(|(_, outcome)| outcome.switches).sum(),
            covered: covered / outcomes.len().max(1) as f64,
        };
        let rows = outcomes
            .iter()
            .map(|(name, outcome)| Row::new(name, outcome));
        Self {
            way: way.into(),
            ms_per_frame: run.ms_per_frame,
            prompts_per_frame: run.prompts_per_frame,
            fps: run.fps,
            sequences: rows.collect(),
            all: Row::new("all", &all),
        }
    }
}

/// Fills a table: object by object the ways below each other, at the end all objects.
pub(crate) fn fill(table: &mut Table, ways: &[WayTable]) {
    table.set_header([
        "sequence",
        "way",
        "frames",
        "J&F",
        "J&F any id",
        "covered",
        "id switches",
        "ms a frame",
        "prompts",
    ]);
    let objects = ways.first().map_or(0, |way| way.sequences.len());
    for object in 0..objects {
        for way in ways {
            table.add_row(cells(way, &way.sequences[object], [None; 2]));
        }
    }
    for way in ways {
        table.add_row(cells(
            way,
            &way.all,
            [way.ms_per_frame, way.prompts_per_frame],
        ));
    }
}

fn cells(way: &WayTable, row: &Row, cost: [Option<f64>; 2]) -> Vec<String> {
    let number = |number: f64| format!("{number:.1}");
    let mut cells = vec![row.name.clone(), way.way.clone(), row.frames.to_string()];
    cells.extend([row.one.j_and_f, row.any_id.j_and_f, row.covered].map(number));
    cells.push(row.id_switches.to_string());
    cells.extend(cost.map(|cost| cost.map_or("-".into(), number)));
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A 10x2 mask of so many columns from `left` on.
    fn mask(left: usize, columns: usize) -> Mask {
        let bitmap: Vec<u8> = (0..20)
            .map(|at| u8::from((left..left + columns).contains(&(at % 10))))
            .collect();
        Mask::from_bitmap(&bitmap, 10, 2)
    }

    /// Ten frames of an object in the first five columns, hidden on the sixth.
    fn sequence() -> Sequence {
        let truth = (0..10).map(|frame| {
            let seen = (frame != 5).then(|| (255, mask(0, 5)));
            (frame, Annotation::of(10, 2, seen.into_iter().collect()))
        });
        Sequence {
            id: "a".parse().unwrap(),
            source: String::new(),
            truth: truth.collect(),
        }
    }

    #[test]
    fn a_switch_is_another_track_than_the_last_one() {
        let (a, b, none) = (Some(1), Some(2), None);
        assert_eq!(switches(&[]), 0);
        assert_eq!(switches(&[none, none]), 0);
        assert_eq!(switches(&[none, a, a, none, a]), 0);
        assert_eq!(switches(&[a, none, b, b]), 1);
        assert_eq!(switches(&[a, b, a, b, b]), 3);
    }

    #[test]
    fn one_id_counts_on_all_frames_and_any_id_frame_by_frame() {
        let mut tracks = StreamMasks::default();
        for frame in (0..10).filter(|&frame| frame != 5) {
            // The object's track is 1, then 2, and for a frame hardly there.
            let track = if frame < 7 { 1 } else { 2 };
            let columns = if frame == 2 { 2 } else { 5 };
            tracks.add(frame, track, mask(0, columns));
            tracks.add(frame, 9, mask(7, 3));
        }
        let outcome = compare(&sequence(), 255, &tracks);
        assert_eq!((outcome.frames, outcome.switches), (8, 1));
        assert!((outcome.covered - 8.0 / 9.0).abs() < 1e-9);
        // Of eight frames that count two belong to track 2.
        assert!(
            (outcome.one.region - (5.0 + 0.4) / 8.0).abs() < 1e-9,
            "{outcome:?}"
        );
        assert!(
            (outcome.any.region - (7.0 + 0.4) / 8.0).abs() < 1e-9,
            "{outcome:?}"
        );
    }

    #[test]
    fn without_tracks_there_is_nothing_but_the_hidden_frame() {
        let outcome = compare(&sequence(), 255, &StreamMasks::default());
        assert_eq!((outcome.switches, outcome.covered), (0, 0.0));
        assert!((outcome.one.region - 1.0 / 8.0).abs() < 1e-9);
    }

    #[test]
    fn the_last_lines_are_all_objects_with_their_cost() {
        let run = Run {
            ms_per_frame: Some(25.0),
            ..Run::default()
        };
        let outcome = compare(&sequence(), 255, &StreamMasks::default());
        let outcomes = [("dog".to_string(), outcome), ("cat".to_string(), outcome)];
        let ways = ["video", "frame"].map(|way| WayTable::new(way, &run, &outcomes));
        let mut table = Table::new();
        fill(&mut table, &ways);
        assert_eq!(table.row_count(), 6);
        let json = serde_json::to_value(&ways[0]).unwrap();
        assert_eq!(json["sequences"][0]["id_switches"], 0);
        assert_eq!(json["all"]["frames"], 16);
        assert_eq!(json["ms_per_frame"], 25.0);
    }
}
