//! What an evaluation found, as a table and as JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table as Lines, presets};
use eyre::WrapErr;
use serde::Serialize;

use super::comparison::{self, WayTable};
use super::davis::Score;
use super::discovery::Best;
use crate::args::PromptKind;

/// The whole of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) dataset: String,
    pub(crate) tracker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// How objects were shown to the tracker; none where it had to find them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<PromptKind>,
    /// Frames of all sequences.
    pub(crate) frames: u64,
    /// Frames a second through the whole graph, all sequences together; none where no graph ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fps: Option<f64>,
    #[serde(flatten)]
    pub(crate) rows: Rows,
}

/// A row for each object.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Rows {
    /// Objects that were shown.
    Followed(Table),
    /// Objects that were to be found.
    Found {
        sequences: Vec<Found>,
        /// Objects found, in percent.
        found: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompts_per_frame: Option<f64>,
        /// Milliseconds a frame costs the prompt-generator.
        #[serde(skip_serializing_if = "Option::is_none")]
        look_ms_per_frame: Option<f64>,
        /// Milliseconds a frame costs the tracker.
        #[serde(skip_serializing_if = "Option::is_none")]
        track_ms_per_frame: Option<f64>,
    },
    /// Ways of following side by side.
    Compared { ways: Vec<WayTable> },
}

/// The objects that were shown, and their mean.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) sequences: Vec<Followed>,
    pub(crate) mean: Percent,
    /// The means of others on the same objects.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) baselines: BTreeMap<String, Percent>,
}

impl Table {
    /// Sets another tracker's scores on the same objects beside these.
    pub(crate) fn compare(&mut self, name: &str, other: &Self) {
        self.baselines.insert(name.into(), other.mean);
        for (row, other) in self.sequences.iter_mut().zip(&other.sequences) {
            row.baselines.insert(name.into(), other.score);
        }
    }
}

/// One object that was shown.
#[derive(Debug, Serialize)]
pub(crate) struct Followed {
    pub(crate) name: String,
    /// Frames that count.
    pub(crate) frames: usize,
    #[serde(flatten)]
    pub(crate) score: Percent,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) baselines: BTreeMap<String, Percent>,
}

/// A score in percent, as the benchmark's tables have it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percent {
    pub(crate) j: f64,
    pub(crate) f: f64,
    pub(crate) j_and_f: f64,
}

impl From<Score> for Percent {
    fn from(score: Score) -> Self {
        Self {
            j: hundredths(score.region),
            f: hundredths(score.contour),
            j_and_f: hundredths(score.both()),
        }
    }
}

/// One object that was to be found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) found: bool,
    /// Mean overlap of the best track, in percent.
    pub(crate) overlap: f64,
    /// The frame from which on it is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<u64>,
    /// The part of the object's frames on which it is followed, in percent.
    pub(crate) share: f64,
}

impl Found {
    pub(crate) fn new(name: String, best: &Best) -> Self {
        Self {
            name,
            found: best.found(),
            overlap: hundredths(best.overlap),
            from: best.track.map(|_| best.from),
            share: hundredths(best.share),
        }
    }
}

/// In percent, to the hundredth.
pub(crate) fn hundredths(part: f64) -> f64 {
    (part * 10_000.0).round() / 100.0
}

impl Report {
    /// Prints what was done, then the table, whose last line is the mean.
    pub(crate) fn print(&self, out: &mut dyn Write) -> eyre::Result<()> {
        let mut about = vec![format!("tracker {}", self.tracker)];
        about.extend(self.model.iter().map(|model| format!("model {model}")));
        about.extend(self.prompt.map(|prompt| format!("prompt {prompt}")));
        about.push(format!("{} frames", self.frames));
        about.extend(self.fps.map(|fps| format!("{fps:.1} fps")));
        if let Rows::Found {
            prompts_per_frame: prompts,
            look_ms_per_frame: look,
            track_ms_per_frame: track,
            ..
        } = &self.rows
        {
            about.extend(prompts.map(|prompts| format!("{prompts:.2} prompts a frame")));
            about.extend(look.map(|ms| format!("{ms:.1} ms a frame to look")));
            about.extend(track.map(|ms| format!("{ms:.1} ms a frame to follow")));
        }
        writeln!(out, "{}\n{}", about.join(", "), self.table().trim_fmt())?;
        Ok(())
    }

    fn table(&self) -> Lines {
        let mut table = Lines::new();
        table.load_preset(presets::NOTHING);
        match &self.rows {
            Rows::Followed(Table {
                sequences,
                mean,
                baselines,
            }) => {
                let header = ["sequence", "frames", "J", "F", "J&F"].map(str::to_string);
                table.set_header(header.into_iter().chain(baselines.keys().cloned()));
                for row in sequences {
                    table.add_row(scored(&row.name, row.frames, row.score, &row.baselines));
                }
                let frames = sequences.iter().map(|row| row.frames).sum();
                table.add_row(scored("mean", frames, *mean, baselines));
            }
            Rows::Compared { ways } => comparison::fill(&mut table, ways),
            Rows::Found {
                sequences, found, ..
            } => {
                table.set_header(["sequence", "found", "overlap", "from frame", "share"]);
                for row in sequences {
                    table.add_row([
                        row.name.clone(),
                        if row.found { "yes" } else { "no" }.into(),
                        format!("{:.1}", row.overlap),
                        row.from.map_or("-".into(), |from| from.to_string()),
                        format!("{:.1}", row.share),
                    ]);
                }
                let mean = |number: fn(&Found) -> f64| {
                    let sum: f64 = sequences.iter().map(number).sum();
                    format!("{:.1}", sum / sequences.len().max(1) as f64)
                };
                table.add_row([
                    "mean".into(),
                    format!("{found:.1} %"),
                    mean(|row| row.overlap),
                    "-".into(),
                    mean(|row| row.share),
                ]);
            }
        }
        let words = match &self.rows {
            Rows::Compared { .. } => 2,
            _ => 1,
        };
        for column in table.column_iter_mut().skip(words) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Writes it as JSON; whoever reads the file meanwhile sees the old or the new one.
    pub(crate) fn write(&self, path: &Path) -> eyre::Result<()> {
        let new = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, path))
            .wrap_err_with(|| format!("cannot write {}", path.display()))
    }
}

/// One line: a score, and the others' J&F.
fn scored(
    name: &str,
    frames: usize,
    score: Percent,
    baselines: &BTreeMap<String, Percent>,
) -> Vec<String> {
    let mut cells = vec![name.to_string(), frames.to_string()];
    let others = baselines.values().map(|other| other.j_and_f);
    let numbers = [score.j, score.f, score.j_and_f].into_iter().chain(others);
    cells.extend(numbers.map(|number| format!("{number:.1}")));
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_line_is_the_mean() {
        let score = Score {
            region: 0.5,
            contour: 0.25,
        };
        let table = |score: Score| Table {
            sequences: vec![Followed {
                name: "dog".into(),
                frames: 10,
                score: score.into(),
                baselines: BTreeMap::new(),
            }],
            mean: score.into(),
            baselines: BTreeMap::new(),
        };
        let mut compared = table(score);
        compared.compare("iou", &table(Score::default()));
        let report = Report {
            dataset: "d".into(),
            tracker: "sam2".into(),
            model: Some("nano".into()),
            prompt: Some(PromptKind::Mask),
            frames: 12,
            fps: Some(20.0),
            rows: Rows::Followed(compared),
        };
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("tracker sam2, model nano, prompt mask, 12 frames, 20.0 fps\n"));
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["mean", "10", "50.0", "25.0", "37.5", "0.0"]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["mean"]["j_and_f"], 37.5);
        assert_eq!(json["sequences"][0]["name"], "dog");
        assert_eq!(json["sequences"][0]["baselines"]["iou"]["j"], 0.0);
        assert_eq!(json["prompt"], "mask");
    }
}
