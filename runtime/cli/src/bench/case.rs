//! One run of the graph: so many objects, streams and lines.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eyre::OptionExt;
use serde::Serialize;

use super::processes::{Process, Sample};
use super::stages::{self, Stage};
use crate::args::BenchArguments;
use crate::eval::graph::Graph;
use crate::summary::Summary;
use crate::watch::{Interrupt, watch};
use crate::{dora, project, summary};

/// A range of ports that other runs on this machine do not use.
pub(super) const METRICS_PORT: u16 = 9390;
/// Frames of each stream before the clock starts: memories fill up, buffers are allocated.
pub(super) const WARM_UP: u64 = 12;
const TRACKER: &str = "sam2-tracker";

/// What is run.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) clip: PathBuf,
    pub(super) objects: usize,
    streams: usize,
}

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) objects: usize,
    pub(super) streams: usize,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u64,
    pub(super) fps: f64,
    /// Of all processes of the dataflow.
    pub(super) cpu_ms: f64,
    /// The same less the sessions' run time.
    pub(super) rest_cpu_ms: f64,
    /// Of the cores' time, what a virtual machine's host gave to others.
    pub(super) stolen_percent: f64,
    pub(super) stages: Vec<Stage>,
    pub(super) processes: Vec<Process>,
    pub(super) copies: Vec<Copy>,
}

/// A copy of pixels on a frame's way.
#[derive(Debug, Serialize)]
pub(super) struct Copy {
    pub(super) what: &'static str,
    pub(super) bytes: u64,
}

impl Measured {
    /// Memory of all processes, shared pages left out.
    pub(super) fn own_mib(&self) -> f64 {
        self.processes.iter().map(|process| process.own_mib).sum()
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let clip = self.clip.file_stem().unwrap_or_default().to_string_lossy();
        write!(
            f,
            "{clip}, {} objects, {} streams",
            self.objects, self.streams
        )
    }
}

impl Case {
    pub(super) fn new(clip: &Path, objects: usize, streams: usize) -> Self {
        Self {
            clip: clip.to_owned(),
            objects,
            streams,
        }
    }

    /// The folder with what a case leaves.
    pub(super) fn folder(&self, folder: &Path) -> PathBuf {
        let clip = self.clip.file_stem().unwrap_or_default().to_string_lossy();
        folder.join(format!(
            "{clip}-{}-objects-{}-streams",
            self.objects, self.streams
        ))
    }

    /// Boxes on the first frame: those of a file, as many as there are, then a grid.
    pub(super) fn prompts(
        &self,
        arguments: &BenchArguments,
        folder: &Path,
    ) -> eyre::Result<PathBuf> {
        let clip = self.clip.display().to_string();
        let reader =
            tracklens_video::Reader::open(&clip, tracklens_video::ReaderOptions::default())?;
        let info = (reader.info().width, reader.info().height);
        let mut boxes = match &arguments.boxes {
            Some(file) => boxes_of(file, info)?,
            None => Vec::new(),
        };
        boxes.truncate(self.objects);
        let missing = self.objects - boxes.len();
        boxes.extend(grid(missing, info));
        let lines = boxes.iter().map(|[x0, y0, x1, y1]| {
            format!("- {{frame: 0, box: [{x0:.0}, {y0:.0}, {x1:.0}, {y1:.0}]}}\n")
        });
        let path = folder.join("prompts.yml");
        fs::write(&path, lines.collect::<String>())?;
        Ok(path)
    }

    pub(super) fn measure(
        &self,
        arguments: &BenchArguments,
        folder: &Path,
        interrupt: &Interrupt,
    ) -> eyre::Result<Measured> {
        let folder = self.folder(folder);
        fs::create_dir_all(&folder)?;
        let graph = self.graph(arguments, &folder)?;
        let mut variables = vec![("OUT_DIR", folder.display().to_string())];
        if let Some(path) = project::onnxruntime() {
            variables.push(("ORT_DYLIB_PATH", path.display().to_string()));
        }
        let warm = WARM_UP * self.streams as u64;
        let (mut first, mut last): (Option<Sample>, Option<Sample>) = (None, None);
        let mut pages = BTreeMap::new();
        play(&graph, &folder, &variables, interrupt, |summary| {
            let frames = summary.frames();
            let newer = last.as_ref().is_none_or(|last| frames > last.frames);
            if frames < warm || !newer {
                return ControlFlow::Continue(());
            }
            let Some(sample) = Sample::take(frames, summary.elapsed_s) else {
                return ControlFlow::Continue(());
            };
            // A node that is busy may not answer in time.
            pages.extend(stages::pages(METRICS_PORT));
            match &first {
                None => first = Some(sample),
                // At the end processes go, and take their times with them.
                Some(first) if sample.seconds > first.seconds && sample.has_all_of(first) => {
                    last = Some(sample);
                }
                Some(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        let (first, last) = first.zip(last).ok_or_eyre(format!(
            "{self}: too few frames to measure; ask for more with --frames"
        ))?;
        let whole = Summary::read(&folder).unwrap_or_default();
        let stream = whole.streams.first();
        let size = stream.map_or((0, 0), |stream| (stream.width, stream.height));
        let stages = stages::stages(&pages);
        let processes = first.until(&last);
        let cpu_ms = processes.iter().map(|process| process.cpu_ms).sum::<f64>();
        Ok(Measured {
            name: format!(
                "{}x{}, {} objects, {} streams",
                size.0, size.1, self.objects, self.streams
            ),
            objects: self.objects,
            streams: self.streams,
            width: size.0,
            height: size.1,
            frames: last.frames - first.frames,
            fps: (last.frames - first.frames) as f64 / (last.seconds - first.seconds),
            cpu_ms,
            rest_cpu_ms: rest(&processes, &stages),
            stolen_percent: first.cores.stolen_percent(last.cores),
            stages,
            processes,
            copies: copies(size),
        })
    }

    fn graph(&self, arguments: &BenchArguments, folder: &Path) -> eyre::Result<PathBuf> {
        let mut graph = Graph::read("graphs/bench.yml")?;
        let clip = self.clip.display();
        let sources = (0..self.streams)
            .map(|stream| format!("{{id: clip-{stream}, url: '{clip}'}}"))
            .collect::<Vec<_>>()
            .join(", ");
        let frames = arguments.frames + WARM_UP;
        let loops = frames.div_ceil(frames_of(&self.clip)?.max(1));
        let prompts = self.prompts(arguments, folder)?;
        graph.set_all("METRICS_ENABLED", "true")?;
        graph.set_all("METRICS_PORT", &METRICS_PORT.to_string())?;
        graph.set("decoder", "SOURCES", &format!("[{sources}]"))?;
        graph.set("decoder", "SOURCE_LOOP", &loops.to_string())?;
        graph.set("prompt-generator", "SAM2_PROMPT_STRATEGY", "file")?;
        graph.set(
            "prompt-generator",
            "PROMPT_FILE",
            &prompts.display().to_string(),
        )?;
        let model = super::model_folder(&arguments.model)?;
        // Every object stays, whatever becomes of it: so every frame does the full work.
        for (name, value) in [
            ("SAM2_MODEL_SIZE", model.display().to_string().as_str()),
            ("MIN_OBJECT_AREA", "1"),
            ("PROMPT_MAX_OVERLAP", "1"),
            ("PROMPT_MIN_IOU", "0"),
            ("PROMPT_MIN_STABILITY", "0"),
            ("TRACK_DUPLICATE_IOU", "1.1"),
            ("TRACK_LOST_FRAMES", "100000"),
        ] {
            graph.set("sam2-tracker", name, value)?;
        }
        let path = folder.join("graph.yml");
        graph.write(&path)?;
        Ok(path)
    }
}

/// Runs a graph to its end, or until `look` breaks off.
pub(super) fn play(
    graph: &Path,
    folder: &Path,
    variables: &[(&str, String)],
    interrupt: &Interrupt,
    look: impl FnMut(&Summary) -> ControlFlow<()>,
) -> eyre::Result<()> {
    let _old = fs::remove_file(folder.join(summary::FILE));
    let status = watch(&dora::run(graph), folder, variables, interrupt, look)?;
    eyre::ensure!(!interrupt.came(), "interrupted");
    eyre::ensure!(
        status.success(),
        "dora ended with {status}: see {}",
        folder.join(dora::LOG).display()
    );
    Ok(())
}

/// CPU time of a frame that is no inference: all of the other processes, and of the tracker taking in
/// frames (with preprocessing) and prompts, and making masks.
fn rest(processes: &[Process], stages: &[Stage]) -> f64 {
    let others = processes.iter().filter(|p| p.name != TRACKER);
    let others: f64 = others.map(|process| process.cpu_ms).sum();
    let own = stages.iter().filter(|stage| {
        stage.node == TRACKER && ["frames", "prompts", "masks"].contains(&stage.operation.as_str())
    });
    others + own.filter_map(|stage| stage.cpu).sum::<f64>() * 1000.0
}

/// The copies of a yuv420p frame of this size in graphs/bench.yml (docs/architecture.md names the places).
fn copies((width, height): (u32, u32)) -> Vec<Copy> {
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    let bytes = u64::from(width * height + 2 * chroma);
    let what = [
        "decoder: FFmpeg's picture into the shared sample",
        "buffer: the decoder's sample into its own",
    ];
    what.map(|what| Copy { what, bytes }).into()
}

pub(super) fn frames_of(clip: &Path) -> eyre::Result<u64> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-count_packets"])
        .args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"])
        .arg(clip)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.trim().trim_end_matches(',').parse();
    number.map_err(|_| eyre::eyre!("ffprobe cannot count the frames of {}", clip.display()))
}

type Corners = [f32; 4];

/// The boxes of a file, from the size it was written for to this one.
fn boxes_of(file: &Path, (width, height): (u32, u32)) -> eyre::Result<Vec<Corners>> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "box")]
        corners: Corners,
    }
    #[derive(serde::Deserialize)]
    struct Boxes {
        size: [f32; 2],
        boxes: Vec<Entry>,
    }
    let text = fs::read_to_string(file)
        .map_err(|error| eyre::eyre!("cannot read the boxes {}: {error}", file.display()))?;
    let boxes: Boxes =
        serde_yaml::from_str(&text).map_err(|error| eyre::eyre!("{}: {error}", file.display()))?;
    let (x, y) = (width as f32 / boxes.size[0], height as f32 / boxes.size[1]);
    let scaled = boxes.boxes.iter().map(|entry| {
        let [x0, y0, x1, y1] = entry.corners;
        [x0 * x, y0 * y, x1 * x, y1 * y]
    });
    Ok(scaled.collect())
}

/// Boxes side by side all over the frame.
fn grid(count: usize, (width, height): (u32, u32)) -> Vec<Corners> {
    let columns = (1..)
        .find(|columns| columns * columns >= count)
        .unwrap_or(1);
    let (w, h) = (
        width as f32 / columns as f32,
        height as f32 / columns as f32,
    );
    let cell = |at: usize| {
        let (x, y) = ((at % columns) as f32 * w, (at / columns) as f32 * h);
        [x + 0.2 * w, y + 0.2 * h, x + 0.8 * w, y + 0.8 * h]
    };
    (0..count).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_of_a_grid_lie_apart_and_inside() {
        let boxes = grid(7, (640, 360));
        assert_eq!(boxes.len(), 7);
        for [x0, y0, x1, y1] in &boxes {
            assert!(0.0 <= *x0 && x0 < x1 && *x1 <= 640.0, "{boxes:?}");
            assert!(0.0 <= *y0 && y0 < y1 && *y1 <= 360.0, "{boxes:?}");
        }
        assert!(boxes[0][2] < boxes[1][0]);
    }
}
