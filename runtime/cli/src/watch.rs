//! A graph from its start to its end: progress meanwhile, and Ctrl-C passed on once.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::dora::Dataflow;
use crate::progress::Progress;
use crate::summary::Summary;

/// How often the run is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// Ctrl-C and `kill`, remembered instead of obeyed on the spot.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on both signals only set a flag.
    pub(crate) fn catch() -> eyre::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    /// Whether one of them came.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Has dora run a graph to its end, or until it is interrupted or `look`, which is called with the summary as
/// often as it is read, breaks off: nodes then drain, flush and close their files.
pub(crate) fn watch(
    dora: &[OsString],
    folder: &Path,
    variables: &[(&str, String)],
    interrupt: &Interrupt,
    mut look: impl FnMut(&Summary) -> ControlFlow<()>,
) -> eyre::Result<ExitStatus> {
    let mut dataflow = Dataflow::start(dora, folder, variables)?;
    let mut progress = Progress::new(folder)?;
    let status = loop {
        if let Some(status) = dataflow.ended()? {
            break status;
        }
        if interrupt.came() {
            dataflow.stop()?;
        }
        let summary = Summary::read(folder);
        progress.show(summary.as_ref())?;
        if summary
            .as_ref()
            .is_some_and(|summary| look(summary).is_break())
        {
            dataflow.stop()?;
        }
        std::thread::sleep(INTERVAL);
    };
    progress.finish();
    Ok(status)
}
