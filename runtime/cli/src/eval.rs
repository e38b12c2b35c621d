//! `tracklens eval`: how well a tracker follows the objects of an annotated dataset.

use std::io::Write;

use eyre::OptionExt;

use crate::args::{EvalArguments, Tracker};
use crate::watch::Interrupt;

mod annotation;
mod comparison;
mod dataset;
mod davis;
mod discovery;
mod distance;
mod endpoint;
mod follow;
pub(crate) mod graph;
mod masks;
mod prompt_count;
mod prompt_file;
mod report;
mod run;
mod tracker_time;

use comparison::WayTable;
use dataset::Sequence;
use davis::Score;
use graph::Graph;
use masks::StreamMasks;
use report::{Followed, Found, Report, Rows, Table};
use run::{Run, run};

pub(crate) fn eval(arguments: &EvalArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let tracker = arguments.tracker;
    eyre::ensure!(
        !(arguments.discover && tracker == Tracker::Static),
        "--discover needs a tracker that finds objects: sam2 or iou"
    );
    eyre::ensure!(
        arguments.discover || tracker != Tracker::Sam2Frame,
        "sam2-frame sees every frame by itself and cannot be shown an object once: use --discover, \
         or --compare video,frame"
    );
    if arguments.baselines {
        // Whether it can be run is better known before the tracker's run than after.
        Graph::read(run::IOU)?;
    }
    let interrupt = Interrupt::catch()?;
    let sequences = dataset::read(&arguments.dataset, &arguments.sequences)?;
    if !arguments.compare.is_empty() {
        return compare(arguments, &sequences, &interrupt, out);
    }
    if !arguments.discover {
        require_objects(&sequences)?;
    }
    let run = match tracker {
        Tracker::Static => Run::default(),
        Tracker::Sam2 | Tracker::Sam2Frame | Tracker::Iou => {
            run(arguments, &sequences, &interrupt)?
        }
    };
    let rows = if arguments.discover {
        found(&sequences, &run, &interrupt)?
    } else {
        let mut table = followed(tracker, &sequences, &run, &interrupt)?;
        if arguments.baselines {
            baselines(&mut table, arguments, &sequences, &interrupt)?;
        }
        Rows::Followed(table)
    };
    let with_model = matches!(tracker, Tracker::Sam2 | Tracker::Sam2Frame);
    let report = Report {
        dataset: arguments.dataset.display().to_string(),
        tracker: tracker.to_string(),
        model: with_model.then(|| arguments.model.clone()),
        prompt: (!arguments.discover && tracker == Tracker::Sam2).then_some(arguments.prompt),
        frames: run.frames.max(annotated(&sequences)),
        fps: run.fps,
        rows,
    };
    say(arguments, &report, out)
}

fn annotated(sequences: &[Sequence]) -> u64 {
    sequences.iter().map(|s| s.truth.len() as u64).sum()
}

fn say(arguments: &EvalArguments, report: &Report, out: &mut dyn Write) -> eyre::Result<bool> {
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    report.print(out)?;
    Ok(true)
}

/// The same model in several ways, each shown nothing.
fn compare(
    arguments: &EvalArguments,
    sequences: &[Sequence],
    interrupt: &Interrupt,
    out: &mut dyn Write,
) -> eyre::Result<bool> {
    let mut ways = Vec::new();
    for way in &arguments.compare {
        let keep = arguments.keep.as_ref();
        let own = EvalArguments {
            tracker: way.tracker(),
            discover: true,
            keep: keep.map(|folder| folder.join(way.to_string())),
            ..arguments.clone()
        };
        let run = run(&own, sequences, interrupt)?;
        let outcomes = each_object(sequences, &run, interrupt, comparison::compare)?;
        ways.push(WayTable::new(&way.to_string(), &run, &outcomes));
    }
    let report = Report {
        dataset: arguments.dataset.display().to_string(),
        tracker: Tracker::Sam2.to_string(),
        model: Some(arguments.model.clone()),
        prompt: None,
        frames: annotated(sequences),
        fps: None,
        rows: Rows::Compared { ways },
    };
    say(arguments, &report, out)
}

/// Every sequence must show what is to be followed.
fn require_objects(sequences: &[Sequence]) -> eyre::Result<()> {
    for sequence in sequences {
        let first = sequence
            .first()
            .filter(|(_, annotation)| annotation.objects().is_empty());
        if let Some((frame, _)) = first {
            eyre::bail!(
                "sequence {}: annotation {frame:05}.png shows no object, so there is nothing to follow",
                sequence.id
            );
        }
    }
    Ok(())
}

/// Scores of the objects that were shown.
fn followed(
    tracker: Tracker,
    sequences: &[Sequence],
    run: &Run,
    interrupt: &Interrupt,
) -> eyre::Result<Table> {
    let nothing = StreamMasks::default();
    let (mut rows, mut means) = (Vec::new(), Vec::new());
    for sequence in sequences {
        let (first, shown) = sequence
            .first()
            .ok_or_eyre("a sequence without annotations")?;
        let tracks = run.streams.get(sequence.id.as_str()).unwrap_or(&nothing);
        let pairs = follow::pair(shown.objects(), first, tracks, tracker == Tracker::Sam2);
        for (&object, mask) in shown.objects() {
            eyre::ensure!(
                !interrupt.came(),
                "interrupted while scoring {}",
                sequence.id
            );
            let scores = follow::scores(sequence, object, |frame| match tracker {
                Tracker::Static => Some(mask),
                _ => tracks.mask(frame, *pairs.get(&object)?),
            });
            let score = Score::mean(&scores);
            means.push(score);
            rows.push(Followed {
                name: name(sequence, object, shown.objects().len()),
                frames: scores.len(),
                score: score.into(),
                baselines: Default::default(),
            });
        }
    }
    Ok(Table {
        sequences: rows,
        mean: Score::mean(&means).into(),
        baselines: Default::default(),
    })
}

/// Sets the scores of those who know less beside the tracker's.
fn baselines(
    table: &mut Table,
    arguments: &EvalArguments,
    sequences: &[Sequence],
    interrupt: &Interrupt,
) -> eyre::Result<()> {
    let others = [Tracker::Static, Tracker::Iou].into_iter();
    for tracker in others.filter(|&tracker| tracker != arguments.tracker) {
        let run = match tracker {
            Tracker::Static => Run::default(),
            _ => {
                let keep = arguments.keep.as_ref();
                let arguments = EvalArguments {
                    tracker,
                    keep: keep.map(|folder| folder.join(tracker.to_string())),
                    ..arguments.clone()
                };
                run(&arguments, sequences, interrupt)?
            }
        };
        let other = followed(tracker, sequences, &run, interrupt)?;
        table.compare(&tracker.to_string(), &other);
    }
    Ok(())
}

/// What is to be said of every annotated object, with its name.
fn each_object<T>(
    sequences: &[Sequence],
    run: &Run,
    interrupt: &Interrupt,
    score: impl Fn(&Sequence, u8, &StreamMasks) -> T,
) -> eyre::Result<Vec<(String, T)>> {
    let nothing = StreamMasks::default();
    let mut scores = Vec::new();
    for sequence in sequences {
        let tracks = run.streams.get(sequence.id.as_str()).unwrap_or(&nothing);
        let objects = sequence.objects();
        for &object in &objects {
            eyre::ensure!(
                !interrupt.came(),
                "interrupted while scoring {}",
                sequence.id
            );
            let name = name(sequence, object, objects.len());
            scores.push((name, score(sequence, object, tracks)));
        }
    }
    Ok(scores)
}

/// Which objects an unprompted run found.
fn found(sequences: &[Sequence], run: &Run, interrupt: &Interrupt) -> eyre::Result<Rows> {
    let best = each_object(sequences, run, interrupt, discovery::best)?;
    let rows = best.into_iter().map(|(name, best)| Found::new(name, &best));
    let rows: Vec<Found> = rows.collect();
    let count = rows.iter().filter(|row| row.found).count();
    Ok(Rows::Found {
        found: report::hundredths(count as f64 / rows.len().max(1) as f64),
        sequences: rows,
        prompts_per_frame: run.prompts_per_frame,
        look_ms_per_frame: run.look_ms_per_frame,
        track_ms_per_frame: run.ms_per_frame,
    })
}

/// A sequence is called after itself, its objects with their numbers where there are several.
fn name(sequence: &Sequence, object: u8, objects: usize) -> String {
    match objects {
        1 => sequence.id.to_string(),
        _ => format!("{}/{object}", sequence.id),
    }
}
