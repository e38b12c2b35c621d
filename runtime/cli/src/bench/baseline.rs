//! The pipeline of tests/baseline/, which does the same in Python.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use eyre::{OptionExt, WrapErr};
use serde::{Deserialize, Serialize};
use tracklens_schemas::jsonl::TrackRow;

use super::case::Case;
use crate::args::BenchArguments;
use crate::diff::overlap;
use crate::{project, tracks};

/// What one variant gave.
#[derive(Debug, Serialize)]
pub(super) struct Baseline {
    pub(super) objects: usize,
    pub(super) variant: &'static str,
    pub(super) fps: f64,
    cpu_ms_per_frame: f64,
    max_rss_mib: f64,
    /// Overlap of its masks with ours, by frame and object.
    pub(super) mean_iou: f64,
    pub(super) least_iou: f64,
}

/// What the pipeline prints.
#[derive(Deserialize)]
struct Told {
    fps: f64,
    cpu_ms_per_frame: f64,
    max_rss_mib: f64,
}

pub(super) fn variant(processes: bool) -> &'static str {
    match processes {
        false => "one process",
        true => "one process per stage",
    }
}

impl Baseline {
    pub(super) fn measure(
        python: &Path,
        processes: bool,
        case: &Case,
        arguments: &BenchArguments,
        folder: &Path,
    ) -> eyre::Result<Self> {
        let script = project::find(&["tests/baseline/pipeline.py"])
            .ok_or_eyre("there is no tests/baseline here: type this in the project's folder")?;
        let folder = case.folder(folder);
        let rows = folder.join(if processes {
            "processes.jsonl"
        } else {
            "process.jsonl"
        });
        let mut command = Command::new(python);
        command
            .arg(&script)
            .arg(&case.clip)
            .arg("--model")
            .arg(super::model_folder(&arguments.model)?)
            .arg("--prompts")
            .arg(case.prompts(arguments, &folder)?)
            .arg("--out")
            .arg(&rows);
        if processes {
            command.arg("--processes");
        }
        let output = command
            .output()
            .wrap_err_with(|| format!("cannot run {}", python.display()))?;
        eyre::ensure!(
            output.status.success(),
            "the Python pipeline failed; install what it needs with `pip install -r \
             tests/baseline/requirements.txt`:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let told: Told =
            serde_json::from_str(text.trim()).wrap_err("the Python pipeline's report")?;
        let overlaps = overlaps(&folder.join("tracks.jsonl"), &rows)?;
        eyre::ensure!(
            !overlaps.is_empty(),
            "no rows in common with the Python pipeline"
        );
        Ok(Self {
            objects: case.objects,
            variant: variant(processes),
            fps: told.fps,
            cpu_ms_per_frame: told.cpu_ms_per_frame,
            max_rss_mib: told.max_rss_mib,
            mean_iou: overlaps.iter().sum::<f64>() / overlaps.len() as f64,
            least_iou: overlaps.iter().copied().fold(1.0, f64::min),
        })
    }
}

/// IoU of the masks of the same frame and object; frames that only one of the two has (ours may play
/// the clip more than once) are left out.
fn overlaps(ours: &Path, theirs: &Path) -> eyre::Result<Vec<f64>> {
    let read = |path: &Path| -> eyre::Result<BTreeMap<(u64, u32), TrackRow>> {
        tracks::rows(path)?
            .map(|row| row.map(|row| ((row.frame, row.track_id), row)))
            .collect()
    };
    let (ours, theirs) = (read(ours)?, read(theirs)?);
    let mut all = Vec::new();
    for (key, row) in &ours {
        if let Some(other) = theirs.get(key) {
            all.push(overlap(row, other)?);
        }
    }
    Ok(all)
}
