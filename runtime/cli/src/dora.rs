//! A dataflow under `dora run`, in a process group of its own, so that Ctrl-C is passed on once.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use eyre::{OptionExt, WrapErr};

use crate::project;

/// The file in the output folder that gets what dora and the nodes print.
pub(crate) const LOG: &str = "run.log";

/// What dora is told to run a graph.
pub(crate) fn run(graph: &Path) -> Vec<OsString> {
    ["run".into(), graph.into()].into()
}

/// A running dataflow.
pub(crate) struct Dataflow {
    child: Child,
    asked_to_stop: bool,
}

impl Dataflow {
    /// Has dora do this, with these variables; its output goes to a log in `folder`.
    pub(crate) fn start(
        arguments: &[OsString],
        folder: &Path,
        variables: &[(&str, String)],
    ) -> eyre::Result<Self> {
        let dora = project::dora().ok_or_eyre("there is no dora command: type `make setup`")?;
        let path = folder.join(LOG);
        let log =
            File::create(&path).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        let child = Command::new(&dora)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .wrap_err_with(|| format!("cannot start {}", dora.display()))?;
        Ok(Self {
            child,
            asked_to_stop: false,
        })
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> eyre::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks the dataflow to stop: nodes drain, flush and close their files.
    pub(crate) fn stop(&mut self) -> eyre::Result<()> {
        if !self.asked_to_stop {
            self.asked_to_stop = true;
            let pid = self.child.id().to_string();
            let status = Command::new("kill").args(["-INT", &pid]).status()?;
            eyre::ensure!(status.success(), "cannot signal dora (process {pid})");
        }
        Ok(())
    }
}

impl Drop for Dataflow {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Nothing is left to be said of a dora that cannot be stopped.
            let _stopped = self.stop();
            let _ended = self.child.wait();
        }
    }
}

/// What nodes have said before they gave up, each once: `tracker: 1 wrong setting: …`.
pub(crate) fn node_errors(log: &str) -> Vec<String> {
    let mut errors: Vec<String> = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        // That another node is gone is no cause.
        let is_cause = |said: &str| said.contains(" ERROR ") && !said.contains("exited before");
        let Some((node, said)) = node_line(line).filter(|(_, said)| is_cause(said)) else {
            continue;
        };
        let (_, said) = said.split_once(" ERROR ").unwrap_or_default();
        let mut text = format!("{node}: {}", said.trim());
        // A message of several lines goes on indented.
        while let Some((_, more)) = lines
            .peek()
            .and_then(|line| node_line(line))
            .filter(|(_, more)| more.starts_with("  "))
        {
            text = format!("{text} {}", more.trim());
            lines.next();
        }
        if !errors.contains(&text) {
            errors.push(text);
        }
    }
    errors
}

/// What a node has said about messages and faults: numbers, warnings and errors.
pub(crate) fn said_by(log: &str, node: &str) -> Vec<String> {
    let lines = log.lines().filter_map(node_line);
    let own = lines.filter(|(name, _)| *name == node);
    let said = own.filter_map(|(_, said)| {
        let levels = [" INFO ", " WARN ", " ERROR "];
        let (_, text) = levels.iter().find_map(|level| said.split_once(level))?;
        let numbers = [
            " recorded",
            "not whole",
            "the recording ",
            "played ",
            " dropped",
            " not ",
        ];
        let counts = text.starts_with("recorded") || numbers.iter().any(|part| text.contains(part));
        counts.then(|| text.trim().to_string())
    });
    said.collect()
}

/// The node and its words, of a line of the log that is a node's.
fn node_line(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" stdout ")?;
    rest.trim_start().split_once(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recorder_tells_at_its_end_is_found() {
        let log = "12:39 stdout __dora_record__: 2026-11-25T15:12:39.4Z  INFO Using ZID: d7d\n\
             12:40 stdout __dora_record__: 2026-11-25T15:12:40.2Z  INFO t/tracks: 5 recorded\n\
             12:40 stdout tracker: 2026-11-25T15:12:40.2Z  INFO 7 recorded\n\
             12:41 stdout __dora_record__: 2026-11-25T15:12:40.2Z  WARN recorded, but not whole\n";
        let told = ["t/tracks: 5 recorded", "recorded, but not whole"];
        assert_eq!(said_by(log, "__dora_record__"), told);
    }

    #[test]
    fn what_a_node_said_before_it_gave_up_is_found_once() {
        let said = "23:37:51 stdout tracker: 2026-11-24T23:37:51.3Z  WARN Scouting delay\n\
             23:37:51 stdout tracker: 2026-11-24T23:37:51.3Z ERROR 1 wrong setting:\n\
             23:37:51 stdout tracker:   MIN_OBJECT_AREA=\"0\": expected a whole number\n\
             23:37:51 INFO   tracker: daemon restarting\n";
        let errors = node_errors(&said.repeat(2));
        let expected = "tracker: 1 wrong setting: MIN_OBJECT_AREA=\"0\": expected a whole number";
        assert_eq!(errors, [expected]);
    }
}
