//! A dataflow under `dora run`, in a process group of its own, so that Ctrl-C is passed on once.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use eyre::{OptionExt, WrapErr};

use crate::project;

/// The file in the output folder that gets what dora and the nodes print.
pub(crate) const LOG: &str = "run.log";

/// A running dataflow.
pub(crate) struct Dataflow {
    child: Child,
    asked_to_stop: bool,
}

impl Dataflow {
    /// Starts the graph with these variables; its output goes to a log in `folder`.
    pub(crate) fn start(
        graph: &Path,
        folder: &Path,
        variables: &[(&str, String)],
    ) -> eyre::Result<Self> {
        let dora = project::dora().ok_or_eyre("there is no dora command: type `make setup`")?;
        let path = folder.join(LOG);
        let log =
            File::create(&path).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        let child = Command::new(&dora)
            .arg("run")
            .arg(graph)
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
