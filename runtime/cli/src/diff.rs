//! `tracklens diff`: two runs' tracks beside each other.
//!
//! Ids of different runs need not agree: those of the second run are given to those of the first by the
//! assignment that has the greatest sum of IoU over all frames of a stream (Hungarian method), as
//! identity measures for multi-object tracking do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

use eyre::WrapErr;
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use tracklens_schemas::Mask;
use tracklens_schemas::jsonl::TrackRow;

use crate::args::DiffArguments;
use crate::tracks;

/// Weights of the assignment are whole numbers.
const SCALE: f64 = 1e4;

type FrameKey = (u32, u64);

/// The rows of one stream, by frame and track.
#[derive(Default)]
struct Run(BTreeMap<FrameKey, BTreeMap<u32, TrackRow>>);

pub(crate) fn diff(arguments: &DiffArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let (a, b) = (&arguments.first, &arguments.second);
    if bytes(a)? == bytes(b)? {
        writeln!(out, "identical, byte for byte")?;
        return Ok(true);
    }
    let (mut first, mut second) = (read(a)?, read(b)?);
    let streams: BTreeSet<String> = first.keys().chain(second.keys()).cloned().collect();
    let mut same = true;
    for stream in streams {
        let runs = (first.remove(&stream), second.remove(&stream));
        let comparison = match &runs {
            (Some(a), Some(b)) => compare(a, b, arguments.min_iou)?,
            (only, _) => {
                let file = if only.is_some() { a } else { b };
                writeln!(out, "{stream}: only in {}", file.display())?;
                same = false;
                continue;
            }
        };
        same &= comparison.first.is_none();
        comparison.tell(&stream, out)?;
    }
    if same {
        writeln!(
            out,
            "the same tracks, at an IoU of {} or more",
            arguments.min_iou
        )?;
    }
    Ok(same)
}

fn bytes(path: &Path) -> eyre::Result<Vec<u8>> {
    fs::read(path).wrap_err_with(|| format!("cannot read {}", path.display()))
}

fn read(path: &Path) -> eyre::Result<BTreeMap<String, Run>> {
    let mut streams: BTreeMap<String, Run> = BTreeMap::new();
    for row in tracks::rows(path)? {
        let row = row?;
        let run = streams.entry(row.stream_id.clone()).or_default();
        let frame = run.0.entry((row.epoch, row.frame)).or_default();
        frame.insert(row.track_id, row);
    }
    Ok(streams)
}

/// What two runs have in common.
#[derive(Debug, Default, PartialEq)]
struct Comparison {
    rows: (u64, u64),
    tracks: (usize, usize),
    /// Rows of both runs on the same frame, of tracks that were given to each other.
    common: u64,
    iou_sum: f64,
    lowest: Option<f64>,
    /// Ids of the second run that are other numbers in the first.
    renumbered: usize,
    /// The first frame on which the runs differ, and how.
    first: Option<(FrameKey, String)>,
}

fn compare(a: &Run, b: &Run, min_iou: f64) -> eyre::Result<Comparison> {
    let ids = assign(a, b)?;
    let mut comparison = Comparison {
        rows: (a.count(), b.count()),
        tracks: (a.ids().len(), b.ids().len()),
        renumbered: ids.iter().filter(|(second, first)| second != first).count(),
        ..Comparison::default()
    };
    let frames: BTreeSet<FrameKey> = a.0.keys().chain(b.0.keys()).copied().collect();
    let nothing = BTreeMap::new();
    for frame in frames {
        let rows = (
            a.0.get(&frame).unwrap_or(&nothing),
            b.0.get(&frame).unwrap_or(&nothing),
        );
        let mut seen = BTreeSet::new();
        for (id, second) in rows.1 {
            let first = ids.get(id).and_then(|id| rows.0.get(id));
            let Some(first) = first else {
                comparison.differs(frame, || {
                    format!("track {id} of the second run has no partner")
                });
                continue;
            };
            seen.insert(first.track_id);
            let iou = overlap(first, second)?;
            comparison.common += 1;
            comparison.iou_sum += iou;
            comparison.lowest = Some(comparison.lowest.map_or(iou, |lowest| lowest.min(iou)));
            if iou < min_iou {
                comparison.differs(frame, || {
                    format!("track {} (second run: {id}): IoU {iou:.3}", first.track_id)
                });
            } else if (first.visible, &first.state) != (second.visible, &second.state) {
                comparison.differs(frame, || {
                    let (was, is) = (&first.state, &second.state);
                    format!(
                        "track {} (second run: {id}): {was}, then {is}",
                        first.track_id
                    )
                });
            }
        }
        if let Some(id) = rows.0.keys().find(|id| !seen.contains(id)) {
            comparison.differs(frame, || {
                format!("track {id} of the first run has no partner")
            });
        }
    }
    Ok(comparison)
}

impl Run {
    fn count(&self) -> u64 {
        self.0.values().map(|rows| rows.len() as u64).sum()
    }

    fn ids(&self) -> BTreeSet<u32> {
        self.0
            .values()
            .flat_map(|rows| rows.keys().copied())
            .collect()
    }
}

impl Comparison {
    fn differs(&mut self, frame: FrameKey, how: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some((frame, how()));
        }
    }

    fn tell(&self, stream: &str, out: &mut dyn Write) -> eyre::Result<()> {
        let (a, b) = self.rows;
        writeln!(
            out,
            "{stream}: {a} and {b} rows, {} and {} tracks",
            self.tracks.0, self.tracks.1
        )?;
        if let Some(lowest) = self.lowest {
            let mean = self.iou_sum / self.common as f64;
            writeln!(
                out,
                "  {} rows on the same track and frame, IoU {mean:.4} on average, {lowest:.4} at least",
                self.common
            )?;
        }
        if self.renumbered > 0 {
            writeln!(out, "  {} tracks have other numbers", self.renumbered)?;
        }
        match &self.first {
            Some(((epoch, frame), how)) => {
                writeln!(
                    out,
                    "  first difference at epoch {epoch}, frame {frame}: {how}"
                )?;
            }
            None => writeln!(out, "  no difference")?,
        }
        Ok(())
    }
}

/// Which track of the first run each of the second is.
fn assign(a: &Run, b: &Run) -> eyre::Result<BTreeMap<u32, u32>> {
    let (of_a, of_b): (Vec<u32>, Vec<u32>) =
        (a.ids().into_iter().collect(), b.ids().into_iter().collect());
    // More columns than rows, as the method wants it.
    let flipped = of_b.len() > of_a.len();
    let (rows, columns) = if flipped {
        (&of_a, &of_b)
    } else {
        (&of_b, &of_a)
    };
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut weights = Matrix::new(rows.len(), columns.len(), 0_i64);
    for (frame, seconds) in &b.0 {
        let Some(firsts) = a.0.get(frame) else {
            continue;
        };
        for (second, row) in seconds {
            for (first, other) in firsts {
                let iou = overlap(row, other)?;
                let (row, column) = if flipped {
                    (first, second)
                } else {
                    (second, first)
                };
                let places = (rows.binary_search(row), columns.binary_search(column));
                if let (Ok(row), Ok(column)) = places {
                    // The same number weighs a little more: it is kept where nothing speaks against it.
                    weights[(row, column)] += (iou * SCALE) as i64 + i64::from(first == second);
                }
            }
        }
    }
    let (_, chosen) = kuhn_munkres(&weights);
    let pairs = chosen.into_iter().enumerate();
    let pairs = pairs.filter(|place| weights[*place] > 1);
    let pairs = pairs.map(|(row, column)| match flipped {
        true => (columns[column], rows[row]),
        false => (rows[row], columns[column]),
    });
    Ok(pairs.collect())
}

/// IoU of the masks of two rows; of two that show nothing, 1.
pub(crate) fn overlap(a: &TrackRow, b: &TrackRow) -> eyre::Result<f64> {
    if a.mask == b.mask {
        return Ok(1.0);
    }
    let mask = |row: &TrackRow| -> eyre::Result<Mask> {
        row.mask().wrap_err_with(|| {
            format!(
                "{}, frame {}, track {}",
                row.stream_id, row.frame, row.track_id
            )
        })
    };
    let (a, b) = (mask(a)?, mask(b)?);
    if (a.width(), a.height()) != (b.width(), b.height()) {
        return Ok(0.0);
    }
    Ok(f64::from(a.iou(&b)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A run in which every track is a bar at this place, frame by frame.
    fn run(tracks: &[(u32, &[u32])]) -> Run {
        let mut run = Run::default();
        for (id, places) in tracks {
            for (frame, place) in places.iter().enumerate() {
                let mask = Mask::from_runs(vec![*place, 10, 90 - place], 10, 10).unwrap();
                let counts = String::from_utf8(mask.encode()).unwrap();
                let row = serde_json::json!({
                    "stream_id": "a", "epoch": 0, "frame": frame, "pts_ns": 0, "track_id": id,
                    "bbox": [0, 0, 1, 1], "score": 1, "area": 10, "visible": true,
                    "state": "tracked", "mask": {"size": [10, 10], "counts": counts},
                });
                let row: TrackRow = serde_json::from_value(row).unwrap();
                let frame = run.0.entry((0, frame as u64)).or_default();
                frame.insert(*id, row);
            }
        }
        run
    }

    #[test]
    fn the_same_tracks_under_other_numbers_are_the_same() {
        let a = run(&[(1, &[0, 0, 0]), (2, &[50, 50, 50])]);
        let b = run(&[(7, &[50, 50, 50]), (9, &[0, 0, 0])]);
        let found = compare(&a, &b, 1.0).unwrap();
        assert_eq!((found.first, found.common, found.renumbered), (None, 6, 2));
        assert_eq!(
            (found.rows, found.tracks, found.lowest),
            ((6, 6), (2, 2), Some(1.0))
        );
    }

    #[test]
    fn the_first_difference_is_named() {
        let a = run(&[(1, &[0, 0, 0])]);
        let b = run(&[(1, &[0, 5, 40])]);
        let found = compare(&a, &b, 0.9).unwrap();
        let (frame, how) = found.first.unwrap();
        assert_eq!(frame, (0, 1));
        assert!(how.contains("IoU 0.333"), "{how}");
        assert_eq!(
            compare(&a, &run(&[(1, &[0, 0, 0])]), 1.0).unwrap().first,
            None
        );
        let more = run(&[(1, &[0, 0, 0]), (2, &[30])]);
        let (_, how) = compare(&a, &more, 0.9).unwrap().first.unwrap();
        assert!(how.contains("track 2 of the second run"), "{how}");
        let (frame, how) = compare(&a, &run(&[(1, &[0, 0])]), 0.9)
            .unwrap()
            .first
            .unwrap();
        assert!(
            frame == (0, 2) && how.contains("track 1 of the first run"),
            "{how}"
        );
    }

    #[test]
    fn runs_of_nothing_can_be_compared() {
        let found = compare(&run(&[]), &run(&[(1, &[0])]), 0.9).unwrap();
        assert_eq!(found.rows, (0, 1));
        assert!(found.first.is_some());
    }
}
