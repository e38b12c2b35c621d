//! Running a graph with the real dora CLI, in an output folder of its own.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::{Output, root};

/// One graph at a time: two at once would share two cores and dora's ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A graph to be run.
#[derive(Debug)]
pub struct Graph {
    file: PathBuf,
    sources: String,
    environment: Vec<(String, String)>,
    recording: Option<(Option<String>, PathBuf)>,
    replay: Option<Vec<String>>,
    _folder: Option<tempfile::TempDir>,
}

impl Graph {
    /// A graph in `graphs/`, by its file name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::at(root().join("graphs").join(name))
    }

    /// A graph anywhere.
    #[must_use]
    pub fn at(file: PathBuf) -> Self {
        assert!(file.is_file(), "no graph {}", file.display());
        Self {
            file,
            sources: String::new(),
            environment: Vec::new(),
            recording: None,
            replay: None,
            _folder: None,
        }
    }

    /// A recording, as `dora replay` plays it with these options.
    #[must_use]
    pub fn replay(recording: impl Into<PathBuf>, options: &[&str]) -> Self {
        Self {
            replay: Some(options.iter().map(ToString::to_string).collect()),
            ..Self::at(recording.into())
        }
    }

    /// `graphs/live.yml`, but lossless: what comes out can be counted.
    #[must_use]
    pub fn live_but_lossless() -> Self {
        Self::changed("live.yml", |text| {
            text.replace("FLOW_MODE: live", "FLOW_MODE: lossless")
        })
    }

    /// A graph in `graphs/` with a change in its text.
    #[must_use]
    pub fn changed(name: &str, change: impl FnOnce(&str) -> String) -> Self {
        let text = std::fs::read_to_string(root().join("graphs").join(name)).expect("a graph");
        let target = format!("path: {}/target/", root().display());
        let text = change(&text).replace("path: ../target/", &target);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a graph");
        Self {
            _folder: Some(folder),
            ..Self::at(file)
        }
    }

    /// Adds a stream.
    #[must_use]
    pub fn source(mut self, id: &str, url: impl Into<PathBuf>) -> Self {
        let url: PathBuf = url.into();
        self.sources += &format!("- {{id: {id}, url: '{}'}}\n", url.display());
        self
    }

    /// Sets a variable for all nodes.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Has `dora record` run the graph: messages of these topics (`node/output`, separated by commas)
    /// go into a file.
    #[must_use]
    pub fn record(mut self, topics: &str, file: impl Into<PathBuf>) -> Self {
        self.recording = Some((Some(topics.into()), file.into()));
        self
    }

    /// The same with everything that can be recorded.
    #[must_use]
    pub fn record_all(mut self, file: impl Into<PathBuf>) -> Self {
        self.recording = Some((None, file.into()));
        self
    }

    /// What dora is told.
    fn arguments(&self) -> Vec<OsString> {
        let file = OsString::from(&self.file);
        if let Some(options) = &self.replay {
            let options = options.iter().map(OsString::from);
            return ["replay".into(), file].into_iter().chain(options).collect();
        }
        match &self.recording {
            None => ["run".into(), file].into(),
            Some((topics, recording)) => {
                let output = ["--output".into(), recording.into()];
                let topics = topics.iter().map(OsString::from);
                let topics = topics.flat_map(|topics| ["--topics".into(), topics]);
                let record = ["record".into(), file].into_iter();
                record.chain(output).chain(topics).collect()
            }
        }
    }

    /// Starts the graph.
    #[must_use]
    pub fn start(self) -> Run {
        let turn = ONE_AT_A_TIME
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("run.log")).expect("run.log");
        let mut command = Command::new(dora());
        command
            .args(self.arguments())
            .env("PATH", path_with_nodes());
        command
            .current_dir(root())
            .env("OUT_DIR", folder.path())
            .env("METRICS_ENABLED", "false")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("run.log"))
            .stderr(log);
        if !self.sources.is_empty() {
            command.env("SOURCES", &self.sources);
        }
        command.envs(self.environment);
        let child = command.spawn().expect("dora starts (make setup)");
        Run {
            _graph: self._folder,
            child,
            output: Some(Output { folder }),
            _turn: turn,
        }
    }

    /// Runs the graph to its end; panics unless it ends by itself with exit code 0 in time.
    #[must_use]
    pub fn run(self) -> Output {
        let mut run = self.start();
        let status = run.wait(Duration::from_secs(300));
        assert!(status.success(), "{status}: {}", run.log());
        run.into_output()
    }
}

/// The PATH, with our nodes first: `dora record` looks for its node there.
fn path_with_nodes() -> OsString {
    let before = std::env::var_os("PATH").unwrap_or_default();
    let own = root().join("target/release");
    let folders = std::iter::once(own).chain(std::env::split_paths(&before));
    std::env::join_paths(folders).expect("no folder has a colon")
}

/// The dora command: the one that `make setup` installed, or the one on the PATH.
#[must_use]
pub fn dora() -> PathBuf {
    let own = root().join(".tools/bin/dora");
    if own.is_file() { own } else { "dora".into() }
}

/// A running graph.
#[derive(Debug)]
pub struct Run {
    child: Child,
    output: Option<Output>,
    _graph: Option<tempfile::TempDir>,
    _turn: MutexGuard<'static, ()>,
}

impl Run {
    /// The output folder.
    #[must_use]
    pub fn output(&self) -> &Output {
        self.output.as_ref().expect("kept until into_output")
    }

    /// The output folder of a run that is over.
    #[must_use]
    pub fn into_output(mut self) -> Output {
        self.output.take().expect("kept until now")
    }

    /// What dora and the nodes have logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.output().text("run.log")
    }

    /// Waits until `condition` holds; panics with the log if it takes too long.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Output) -> bool) {
        let start = Instant::now();
        while !condition(self.output()) {
            let ended = self.child.try_wait().expect("the child can be waited for");
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(120),
                "waiting for {what}: {ended:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until at least this many rows' worth of bytes are in `tracks.jsonl`.
    pub fn wait_for_rows(&mut self, rows: usize) {
        self.wait_until("rows", |output| {
            output.text("tracks.jsonl").lines().count() >= rows
        });
    }

    /// Waits for the end; panics with the log if it does not come in time.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < limit, "hangs:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Processes of this run with this program name.
    #[must_use]
    pub fn pids(&self, program: &str) -> Vec<u32> {
        self.pids_with(program, "")
    }

    /// Those of them whose environment has this text.
    #[must_use]
    pub fn pids_with(&self, program: &str, variable: &str) -> Vec<u32> {
        let mark = format!("OUT_DIR={}\0", self.output().folder().display());
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let exe = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let environ = String::from_utf8_lossy(&environ);
            let ours = environ.contains(&mark) && environ.contains(variable);
            if ours && exe.file_name().is_some_and(|name| name == program) {
                pids.push(pid);
            }
        }
        pids
    }

    /// Resident memory of a node, which must be running, in MiB.
    #[must_use]
    pub fn resident(&self, program: &str) -> f64 {
        self.memory(program, "VmRSS:")
    }

    /// The same without what it shares with others: the pools of its senders, also of those that were
    /// killed.
    #[must_use]
    pub fn own_memory(&self, program: &str) -> f64 {
        self.memory(program, "RssAnon:")
    }

    fn memory(&self, program: &str, line: &str) -> f64 {
        let pids = self.pids(program);
        assert_eq!(pids.len(), 1, "{program} runs once: {pids:?}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", pids[0])).expect("status");
        let kib = status.lines().find_map(|text| text.strip_prefix(line));
        let kib = kib.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.expect("a number") / 1024.0
    }

    /// kill -9 on a node, which must be running.
    pub fn kill(&self, program: &str) {
        self.kill_with(program, "");
    }

    /// The same, where several run the same program: the one whose environment has this text.
    pub fn kill_with(&self, program: &str, variable: &str) {
        let pids = self.pids_with(program, variable);
        assert_eq!(
            pids.len(),
            1,
            "{program} runs once: {pids:?}\n{}",
            self.log()
        );
        signal("-KILL", pids[0]);
    }

    /// Holds a node, which must be running, so that it says nothing more.
    pub fn hold(&self, program: &str) {
        let pids = self.pids(program);
        assert_eq!(pids.len(), 1, "{program} runs once: {pids:?}");
        signal("-STOP", pids[0]);
    }

    /// What Ctrl-C (or `dora stop`) does: asks the whole dataflow to stop.
    pub fn stop(&self) {
        signal("-INT", self.child.id());
    }
}

fn signal(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("kill");
    assert!(status.success());
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}
