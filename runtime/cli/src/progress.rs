//! The progress bar of a run, and what its nodes warn of meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::dora::LOG;
use crate::summary::Summary;

/// Lines of dora and its transport that say nothing about the run.
const NOISE: [&str; 3] = ["Scouting delay", "node_failure", "with stderr output"];

/// Shows how far a run is, on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    log: Option<BufReader<File>>,
    line: String,
}

impl Progress {
    pub(crate) fn new(folder: &Path) -> eyre::Result<Self> {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template(
            "{spinner} {pos} frames, {msg}, {elapsed}",
        )?);
        Ok(Self {
            bar,
            log: File::open(folder.join(LOG)).ok().map(BufReader::new),
            line: String::new(),
        })
    }

    pub(crate) fn show(&mut self, summary: Option<&Summary>) -> eyre::Result<()> {
        self.pass_on_warnings();
        self.bar.tick();
        let Some(summary) = summary else {
            self.bar.set_message("starting");
            return Ok(());
        };
        if let Some(expected) = summary.expected_frames()
            && self.bar.length() != Some(expected)
        {
            self.bar.set_length(expected);
            self.bar.set_style(ProgressStyle::with_template(
                "{bar:30} {pos}/{len} frames, {msg}, {elapsed}, {eta} left",
            )?);
        }
        self.bar.set_position(summary.frames());
        let fps = summary.frames() as f64 / summary.elapsed_s.max(0.001);
        self.bar
            .set_message(format!("{fps:.0} fps, {} objects", summary.objects()));
        Ok(())
    }

    /// Prints the nodes' new warnings and errors above the bar.
    fn pass_on_warnings(&mut self) {
        let Some(log) = &mut self.log else { return };
        // A line that is not whole yet stays in the buffer until the rest of it is there.
        while log.read_line(&mut self.line).is_ok_and(|bytes| bytes > 0) {
            if !self.line.ends_with('\n') {
                break;
            }
            let line = self.line.trim_end();
            let loud = line.contains(" WARN ") || line.contains("ERROR");
            if loud && !NOISE.iter().any(|noise| line.contains(noise)) {
                eprintln!("{line}");
            }
            self.line.clear();
        }
    }

    pub(crate) fn finish(mut self) {
        self.pass_on_warnings();
        self.bar.finish_and_clear();
    }
}
