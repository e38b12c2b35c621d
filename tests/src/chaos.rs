//! Kills nodes at random over a run, and looks at what is left: no row twice, no frame lost (lossless), no
//! id given twice, memory bounded, the run ends well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{Coded, Graph, Output, Run, Sender, clip, ffmpeg, frame_count, free_port};

/// More memory of its own than any node of these graphs needs, in MiB.
const MEMORY: f64 = 600.0;
/// A killed node must be back and rows must flow before this.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// The pace of a sender.
const PERIOD: Duration = Duration::from_millis(40);

/// Which graph is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `graphs/file.yml`, on a file.
    Lossless,
    /// `graphs/live.yml`, with a sender at 25 frames a second.
    Live,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// The graph.
    pub mode: Mode,
    /// Who is killed when.
    pub seed: u64,
    /// How many kills.
    pub kills: u32,
    /// In how much time.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// From the kill of a node to the first row after it was back, in seconds, by node.
    pub recovery: BTreeMap<&'static str, Vec<f64>>,
    /// The most memory of its own seen, in MiB, by node.
    pub memory: BTreeMap<&'static str, f64>,
    /// Rows written.
    pub rows: usize,
    /// Frames that came through, and frames that were sent.
    pub frames: (u64, u64),
}

impl Mode {
    /// The programs that may be killed. A file's decoder begins anew, so it is killed early alone.
    fn victims(self, early: bool) -> &'static [&'static str] {
        match self {
            Self::Lossless if early => &[
                "tracklens-decoder",
                "tracklens-buffer",
                "tracklens-iou-tracker",
                "tracklens-publisher",
            ],
            Self::Lossless => &[
                "tracklens-buffer",
                "tracklens-iou-tracker",
                "tracklens-publisher",
            ],
            Self::Live => &[
                "tracklens-ingest",
                "tracklens-decoder",
                "tracklens-buffer",
                "tracklens-iou-tracker",
                "tracklens-publisher",
            ],
        }
    }
}

/// Runs it; panics where something does not hold, with the seed and the log. `None` without clips.
pub fn chaos(chaos: &Chaos, told: &mut dyn FnMut(&str)) -> Option<Report> {
    eprintln!("{chaos:?}");
    match chaos.mode {
        Mode::Lossless => lossless(chaos, told),
        Mode::Live => Some(live(chaos, told)),
    }
}

/// Nodes may be restarted as often as it takes.
fn lifted(text: &str) -> String {
    text.replace("max_restarts: 5", "max_restarts: 100000")
}

fn lossless(chaos: &Chaos, told: &mut dyn FnMut(&str)) -> Option<Report> {
    let street = clip("pedestrians.mp4")?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("street.mp4");
    // The tracker is slowed to some 25 frames a second; the file is a little longer than the kills take.
    let frames = (chaos.time.as_secs_f64() * 25.0) as u64 + 200;
    repeated(&street, frames, &file);
    let slow = |text: &str| lifted(text).replace("DETECTOR: motion", SLOW);
    let mut run = Graph::changed("file.yml", slow)
        .env("SINKS", "jsonl")
        .source("street", &file)
        .start();
    let mut report = Report::default();
    run.wait_for_rows(20);
    disturb(chaos, &mut run, &mut report, told);
    let status = run.wait(chaos.time + Duration::from_secs(300));
    assert!(status.success(), "{chaos:?}: {status}: {}", run.log());
    let output = run.into_output();
    let count = frame_count(&file);
    report.frames = (output.frames("street"), count);
    assert_eq!(
        report.frames.0,
        count,
        "{chaos:?}: {}",
        output.text("run.log")
    );
    look_at_rows(chaos, &output, &mut report);
    Some(report)
}

const SLOW: &str = "DETECTOR: motion\n      TRIAL_DELAY_MS: 30";

fn repeated(clip: &Path, frames: u64, file: &Path) {
    let (count, clip) = (frames.to_string(), clip.display().to_string());
    let file = file.display().to_string();
    ffmpeg(&[
        "-stream_loop",
        "-1",
        "-i",
        &clip,
        "-frames:v",
        &count,
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        &file,
    ]);
}

fn live(chaos: &Chaos, told: &mut dyn FnMut(&str)) -> Report {
    let coded = Coded::made("h264", "640x360", 250);
    let port = free_port();
    let mut run = Graph::changed("live.yml", lifted)
        .env("INGEST_PORT", &port.to_string())
        .env("SINKS", "jsonl")
        .env("PROCESSING_RESOLUTION", "480")
        .env("TARGET_FPS", "25")
        .start();
    let mut report = Report::default();
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(port, &coded, &over));
        let over = Over(&over);
        run.wait_for_rows(20);
        disturb(chaos, &mut run, &mut report, told);
        drop(over);
        sending.join().expect("the sender")
    });
    run.wait_until("the end of the stream", |output| {
        output.told("cam", "state") == "closed"
    });
    run.stop();
    let status = run.wait(Duration::from_secs(60));
    assert!(status.success(), "{chaos:?}: {status}: {}", run.log());
    let output = run.into_output();
    look_at_rows(chaos, &output, &mut report);
    report.frames.1 = sent;
    report.frames.0 = frames_with_rows(&output);
    report
}

/// Sets it when it goes, also where something did not hold: the scope waits for the sender.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends at its pace until all is over, and connects anew when the connection breaks; how many
/// pictures.
fn send(port: u16, coded: &Coded, over: &AtomicBool) -> u64 {
    let mut sender = Sender::connect(port, "/streams/cam");
    let start = Instant::now();
    let mut sent = 0;
    for picture in coded.pictures.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        if !sender.send(picture) {
            sender = Sender::connect(port, "/streams/cam");
        }
        sent += 1;
        let due = start + PERIOD * u32::try_from(sent).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sender.close();
    sent
}

/// The test picture always has something that moves, so a frame that came through has a row.
fn frames_with_rows(output: &Output) -> u64 {
    let rows = output.rows();
    let frames = rows
        .iter()
        .map(|row| (row["epoch"].as_u64(), row["frame"].as_u64()));
    frames.collect::<BTreeSet<_>>().len() as u64
}

/// Kills at random moments, and waits each time until rows flow again.
fn disturb(chaos: &Chaos, run: &mut Run, report: &mut Report, told: &mut dyn FnMut(&str)) {
    let mut random = fastrand::Rng::with_seed(chaos.seed);
    let start = Instant::now();
    let pause = chaos.time / chaos.kills.max(1);
    for kill in 0..chaos.kills {
        // Somewhere in its share of the time.
        let due = start + pause * kill + pause.mul_f64(random.f64());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let victims = chaos.mode.victims(kill < chaos.kills / 5);
        let victim = victims[random.usize(..victims.len())];
        remember_memory(chaos, run, report);
        let seconds = kill_and_wait(chaos, run, victim);
        let name = victim.trim_start_matches("tracklens-");
        report.recovery.entry(name).or_default().push(seconds);
        told(&format!(
            "kill {} of {}: {name}, back after {seconds:.2} s",
            kill + 1,
            chaos.kills
        ));
    }
    let end = start + chaos.time;
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    remember_memory(chaos, run, report);
}

/// How long until there are new rows from behind a node that is back.
fn kill_and_wait(chaos: &Chaos, run: &mut Run, victim: &'static str) -> f64 {
    let start = Instant::now();
    let fails = |run: &Run, what: &str| -> ! {
        panic!(
            "{chaos:?}: {victim} {what} after {PATIENCE:?}: {}",
            run.log()
        );
    };
    // It may still be on its way back from the kill before.
    let old = loop {
        match run.pids(victim)[..] {
            [pid] => break pid,
            _ if start.elapsed() > PATIENCE => fails(run, "is not there"),
            _ => std::thread::sleep(LOOK),
        }
    };
    run.kill(victim);
    let killed = Instant::now();
    while run.pids(victim).iter().all(|pid| *pid == old) {
        if killed.elapsed() > PATIENCE {
            fails(run, "is not back");
        }
        std::thread::sleep(LOOK);
    }
    let rows = run.output().path("tracks.jsonl");
    let size = || rows.metadata().map_or(0, |file| file.len());
    let before = size();
    while size() <= before {
        if killed.elapsed() > PATIENCE {
            fails(run, "gives no rows");
        }
        std::thread::sleep(LOOK);
    }
    killed.elapsed().as_secs_f64()
}

fn remember_memory(chaos: &Chaos, run: &Run, report: &mut Report) {
    for program in chaos.mode.victims(true) {
        if run.pids(program).len() == 1 {
            let now = run.own_memory(program);
            assert!(now < MEMORY, "{chaos:?}: {program} has {now:.0} MiB");
            let most = report
                .memory
                .entry(program.trim_start_matches("tracklens-"));
            let most = most.or_insert(0.0);
            *most = most.max(now);
        }
    }
}

/// No row twice, in order, and no id for a second object.
fn look_at_rows(chaos: &Chaos, output: &Output, report: &mut Report) {
    output.assert_rows_once_and_in_order();
    let rows = output.rows();
    report.rows = rows.len();
    let mut begun = BTreeSet::new();
    for row in &rows {
        if row["state"] == "new" {
            let id = row["track_id"].as_u64();
            assert!(begun.insert(id), "{chaos:?}: an id is given twice: {row}");
        }
    }
    assert!(!begun.is_empty(), "{chaos:?}: no tracks");
}
