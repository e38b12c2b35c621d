//! One live camera: how long it takes from a frame's last byte off the network to its row in the file,
//! decoding included.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::fs;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use eyre::{OptionExt, WrapErr};
use serde::Serialize;

use super::case::{METRICS_PORT, frames_of, play};
use super::processes::Cores;
use super::stages;
use crate::args::BenchArguments;
use crate::eval::graph::Graph;
use crate::summary::Summary;
use crate::watch::Interrupt;

const TRACKER: &str = "iou-tracker";

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    width: u32,
    height: u32,
    /// Frames a second of the camera.
    rate: u32,
    /// Its bit rate.
    mbit: f64,
    frames: u64,
    /// From capture to row, all of it.
    p50_ms: f64,
    p99_ms: f64,
    /// What the tracker's work takes of it, on average.
    tracker_ms: f64,
    /// Of the cores' time, what a virtual machine's host gave to others.
    stolen_percent: f64,
}

impl Display for Live {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self {
            width,
            height,
            rate,
            mbit,
            frames,
            p50_ms,
            p99_ms,
            tracker_ms,
            stolen_percent,
        } = self;
        write!(
            f,
            "live, {width}x{height} at {rate} frames and {mbit:.1} Mbit a second, {frames} frames: from capture to row \
             p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, of which the tracker (motion) works {tracker_ms:.1} ms; \
             {stolen_percent:.1} % of the cores' time stolen"
        )
    }
}

impl Live {
    /// Sends a clip in real time through graphs/live.yml, with a tracker that costs little: what is
    /// measured is the way.
    pub(super) fn measure(
        clip: &Path,
        (rate, bits): (u32, u64),
        arguments: &BenchArguments,
        folder: &Path,
        interrupt: &Interrupt,
    ) -> eyre::Result<Self> {
        let folder = folder.join("live");
        fs::create_dir_all(&folder)?;
        let loops = arguments.frames.div_ceil(frames_of(clip)?.max(1));
        let camera = Camera::start(clip, loops)?;
        let mut graph = Graph::read("graphs/live.yml")?;
        for (name, value) in [
            ("METRICS_ENABLED", "true".to_string()),
            ("METRICS_PORT", METRICS_PORT.to_string()),
            (
                "SOURCES",
                format!("[{{id: camera, url: '{}'}}]", camera.url),
            ),
            ("SOURCE_RECONNECT", "false".to_string()),
            ("TARGET_FPS", rate.to_string()),
            ("PROCESSING_RESOLUTION", arguments.height.to_string()),
            ("DETECTOR", "motion".to_string()),
            ("SINKS", "jsonl".to_string()),
        ] {
            graph.set_all(name, &value)?;
        }
        let path = folder.join("graph.yml");
        graph.write(&path)?;
        let mut pages = BTreeMap::new();
        let before = Cores::now();
        let variables = [("OUT_DIR", folder.display().to_string())];
        play(&path, &folder, &variables, interrupt, |summary| {
            if summary.frames() > 0 {
                pages.extend(stages::pages(METRICS_PORT));
            }
            // A live graph waits for more streams.
            match summary
                .streams
                .iter()
                .any(|stream| stream.state == "closed")
            {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let stolen_percent = before.stolen_percent(Cores::now());
        let summary = Summary::read(&folder).unwrap_or_default();
        let stream = summary.streams.first();
        let measured = stream.and_then(|stream| Some((stream, stream.latency_ms?)));
        let (stream, latency) = measured.ok_or_eyre("no frame came through the live graph")?;
        let stages = stages::stages(&pages);
        let tracker = stages
            .iter()
            .find(|stage| stage.node == TRACKER && stage.operation == "frames");
        Ok(Self {
            width: stream.width,
            height: stream.height,
            rate,
            mbit: bits as f64 / 1e6,
            frames: stream.frames,
            p50_ms: latency.p50,
            p99_ms: latency.p99,
            tracker_ms: tracker.map_or(0.0, |stage| 1000.0 * stage.mean),
            stolen_percent,
        })
    }
}

/// FFmpeg as a camera: sends a clip in real time to the first that connects, and ends.
struct Camera {
    child: Child,
    url: String,
}

impl Camera {
    fn start(clip: &Path, rounds: u64) -> eyre::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("tcp://127.0.0.1:{port}");
        let child = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-re"])
            .args(["-stream_loop", &rounds.saturating_sub(1).to_string()])
            .arg("-i")
            .arg(clip)
            .args(["-c", "copy", "-flush_packets", "1", "-f", "nut"])
            .arg(format!("{url}?listen=1&tcp_nodelay=1"))
            .stdout(Stdio::null())
            .spawn()
            .wrap_err("cannot run ffmpeg: type `make setup`")?;
        Ok(Self { child, url })
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // One that has ended cannot be killed, only waited for.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
