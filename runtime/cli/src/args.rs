//! What can be typed.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Follows every object in many videos at once.
#[derive(Debug, Parser)]
#[command(version, about, after_help = "Try it:  make demo")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what this machine has, what it lacks, and what to type
    Doctor,
    /// Print the effective settings and where each comes from
    Config(ConfigArguments),
    /// Run a graph and watch it
    Run(RunArguments),
    /// Run a graph and record it
    Record(RecordArguments),
    /// Play a recording, and make anew what comes after
    Replay(ReplayArguments),
    /// Tell what is in a recording
    Inspect(InspectArguments),
    /// Write a recording in another form: MCAP, for Foxglove
    Export(McapArguments),
    /// Compare the tracks of two runs
    Diff(DiffArguments),
    /// List the streams of a running TrackLens
    Streams(StreamsArguments),
    /// Draw tracks on their video
    Render(RenderArguments),
    /// Print a table of the tracks in a file
    Tracks(TracksArguments),
    /// Find out what models there are, get them, check them
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Measure a tracker on an annotated dataset
    Eval(EvalArguments),
    /// Measure speed: what a frame costs, by objects, lines and streams
    Bench(BenchArguments),
}

/// `tracklens bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens bench street.mp4
  tracklens bench street.mp4 --objects 1,4,8 --streams 1,2,4
  tracklens bench street.mp4 --objects 1 --live 25 --live-mbit 2
  python3 -m venv venv && venv/bin/pip install -r tests/baseline/requirements.txt
  tracklens bench street.mp4 --boxes boxes.yml --baseline venv/bin/python

A table, bench.json, and plots (PNG) of how the cost grows. Objects are shown by boxes on the first frame and
never let go, so that every frame does the full work. --boxes is `size: [width, height]` and
`boxes: [{box: [x0, y0, x1, y1]}, ...]`; without it, or where it has too few, they lie on a grid.
Nothing else should run meanwhile. Wants the project's folder, ffmpeg and ffprobe.")]
pub struct BenchArguments {
    /// The video
    pub clip: PathBuf,
    /// The model of sam2-tracker: a name, or its folder
    #[arg(long, default_value = "nano")]
    pub model: String,
    /// Numbers of objects
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,4,8",
        value_name = "NUMBERS"
    )]
    pub objects: Vec<usize>,
    /// Lines of the picture, each with one object
    #[arg(long, value_delimiter = ',', value_name = "LINES")]
    pub resolutions: Vec<u32>,
    /// Numbers of streams, each with one object
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    pub streams: Vec<usize>,
    /// The latency of one live camera on the network with so many frames a second, too
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=240))]
    pub live: Option<u32>,
    /// The live camera's bit rate in Mbit/s; 0.2 bits a pixel where none is given (4.6 at 720 lines and
    /// 25 frames a second)
    #[arg(long, value_name = "MBIT", requires = "live", value_parser = bit_rate)]
    pub live_mbit: Option<f64>,
    /// Lines of the picture where they do not vary
    #[arg(long, default_value_t = 720)]
    pub height: u32,
    /// Frames of each stream to measure
    #[arg(long, default_value_t = 200)]
    pub frames: u64,
    /// Boxes of the objects
    #[arg(long, value_name = "FILE")]
    pub boxes: Option<PathBuf>,
    /// Run tests/baseline/ beside it with this Python
    #[arg(long, value_name = "PYTHON")]
    pub baseline: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "out/bench")]
    pub out: PathBuf,
}

fn bit_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1000.0).contains(&rate) => Ok(rate),
        _ => Err("expected Mbit/s from 0.01 to 1000".into()),
    }
}

/// `tracklens config`.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  tracklens config
  tracklens config --profile quality --node buffer
  TARGET_FPS=12 tracklens config")]
pub struct ConfigArguments {
    /// The profile to show, whatever CONFIG_PROFILE says: performance, balanced or quality
    #[arg(long)]
    pub profile: Option<String>,
    /// Only what this node reads
    #[arg(long)]
    pub node: Option<String>,
}

/// `tracklens run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens run graphs/demo.yml
  tracklens run graphs/file.yml --source street.mp4 --out out/street
  tracklens run graphs/file.yml --source door=a.mp4 --source yard=b.mkv
  tracklens run graphs/legacy.yml --live --source rtsp://camera.local/main

The output folder gets summary.json, run.log and what the graph's publisher writes. Settings are
environment variables (`tracklens config` lists them). Ctrl-C ends the run with complete files.

Exit code: 0 where every source gave frames, 1 where one did not, 2 where nothing could be run.")]
pub struct RunArguments {
    /// The graph, for example graphs/file.yml
    pub graph: PathBuf,
    /// A file or URL, with a name for its stream if wanted (for graphs without SOURCES of their own)
    #[arg(long = "source", value_name = "URL | ID=URL")]
    pub sources: Vec<String>,
    /// Where the output goes [default: out/ and the graph's name]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Newest frame wins, instead of every frame once
    #[arg(long)]
    pub live: bool,
}

/// `tracklens record`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens record graphs/file.yml --source street.mp4 --out out/street
  tracklens record graphs/live.yml --output night.drec
  tracklens record graphs/file.yml --source street.mp4 --topics tracker/tracks

By default that is recorded from which everything can be made anew, chunks where the graph has them and
else the decoder's frames, and all that is small: events, prompts, tracks, identifications. The file is
one of `dora record`'s, so `dora replay` plays it, too.

Exit code: as with `tracklens run`.")]
pub struct RecordArguments {
    /// What is run, and how
    #[command(flatten)]
    pub run: RunArguments,
    /// The recording [default: recording.drec in the output folder]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// These outputs alone, as node/output
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "TOPICS",
        conflicts_with = "all"
    )]
    pub topics: Vec<String>,
    /// All outputs, the same pixels at every node
    #[arg(long)]
    pub all: bool,
}

/// `tracklens replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens replay night.drec
  tracklens replay night.drec --speed 0 --out out/again
  tracklens replay night.drec --from 90 --stream door
  SAM2_PROMPT_STRATEGY=hybrid tracklens replay night.drec --speed 0

Plays the nodes at the beginning (ingest or decoder) and runs all behind them: other settings, a mended
node, a debugger. Variables set for the recorded run are not in the recording; set them again. In a
lossless graph the player waits for credit at any speed, so nothing is dropped.

Exit code: 0 where the run ended well, 1 where not, 2 where nothing could be played.")]
pub struct ReplayArguments {
    /// The recording
    pub file: PathBuf,
    /// 1 is as recorded, 2 twice as fast, 0 as fast as frames are taken
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Again and again, until Ctrl-C
    #[arg(long = "loop")]
    pub repeat: bool,
    /// Pass over what was recorded in the first seconds
    #[arg(long, value_name = "SECONDS")]
    pub from: Option<f64>,
    /// Play one stream alone
    #[arg(long, value_name = "ID")]
    pub stream: Option<String>,
    /// Play these nodes, and run the others
    #[arg(long, value_delimiter = ',', value_name = "NODES")]
    pub replace: Vec<String>,
    /// Where the output goes [default: out/ and the recording's name]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `tracklens inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens inspect night.drec
  tracklens inspect night.drec --json | jq .topics

Tells the graph, the streams, and of every output how many messages there are, how fast they came, how
large they are, which frames are missing, and when there was how much. Every checksum is compared.

Exit code: 0 where the recording is whole, 1 where it is cut off or damaged, 2 where it is none.")]
pub struct InspectArguments {
    /// The recording
    pub file: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `tracklens export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens export --mcap night.drec
  tracklens export --mcap night.drec --output night.mcap --max-width 640

Frames become pictures, tracks boxes over them and rows, and identifications, prompts and events rows.
In Foxglove, open the file and show /STREAM/decoder/frames with the annotations /STREAM/tracker/annotations.
A damaged recording is exported up to the fault.

Exit code: 0 where all of it was exported, 1 where the recording ends early, 2 where nothing was.")]
pub struct McapArguments {
    /// The recording
    pub file: PathBuf,
    /// As MCAP, the only form so far
    #[arg(long, required = true)]
    pub mcap: bool,
    /// Where it goes [default: beside the recording]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Pictures are made no wider than this
    #[arg(long, value_name = "PIXELS", default_value_t = 1920)]
    pub max_width: u32,
}

/// `tracklens diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tracklens diff out/yesterday/tracks.jsonl out/today/tracks.jsonl --min-iou 0.95

The ids of the second run are given to those of the first by the greatest sum of IoU, so other numbers
alone are no difference. The first frame on which a track is missing, its mask is another, or its state
is, is named.

Exit code: 0 where the tracks are the same, 1 where they differ, 2 where a file cannot be read.")]
pub struct DiffArguments {
    /// The rows of the one run
    pub first: PathBuf,
    /// The rows of the other
    pub second: PathBuf,
    /// Masks that overlap at least so much are the same
    #[arg(long, value_name = "IOU", default_value_t = 1.0)]
    pub min_iou: f64,
}

/// `tracklens streams`.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  tracklens streams
  tracklens streams --watch
  tracklens streams --json | jq '.streams[] | select(.state == \"stale\")'

Asks the metrics of the nodes on this machine: METRICS_PORT and the hundred ports from there on.

Exit code: 0 where a node answers, 1 where none does.")]
pub struct StreamsArguments {
    /// Look again every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// JSON; with --watch one line a second
    #[arg(long)]
    pub json: bool,
    /// Closed streams, too, as long as the nodes remember them
    #[arg(long)]
    pub all: bool,
    /// Where rows of ten metrics ports begin [default: METRICS_PORT and the nine rows above it]
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub ports: Vec<u16>,
}

/// `tracklens render`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tracklens render --video street.mp4 --tracks out/street/tracks.jsonl --out overlay.mp4")]
pub struct RenderArguments {
    /// The video that the tracks were found in
    #[arg(long)]
    pub video: String,
    /// The publisher's JSON Lines
    #[arg(long)]
    pub tracks: PathBuf,
    /// The video to write, H.264 in MP4
    #[arg(long)]
    pub out: PathBuf,
    /// The stream to draw, where the file holds several
    #[arg(long)]
    pub stream: Option<String>,
    /// A picture of evenly spaced frames, as PNG
    #[arg(long, value_name = "PNG")]
    pub contact_sheet: Option<PathBuf>,
}

/// `tracklens tracks`.
#[derive(Debug, Args)]
pub struct TracksArguments {
    /// The publisher's JSON Lines
    pub file: PathBuf,
    /// Rows to print, longest tracks first; 0 is all
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
}

/// `tracklens models`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  tracklens models list
  tracklens models export tiny            fetches the checkpoint where it is not there yet
  tracklens models pull small --url https://example.org/sam2.1-small
  tracklens models verify nano")]
pub enum ModelsCommand {
    /// Print the sizes, which are installed where, and what to type for the others
    List,
    /// Download a checkpoint, or a finished model from where somebody published it
    Pull(PullArguments),
    /// Make a model folder of a SAM 2.1 checkpoint (needs Python)
    Export(ExportArguments),
    /// Check that a model folder is complete and as its model.toml says
    Verify(VerifyArguments),
}

/// `tracklens models pull`.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// The size: tiny, small, base or large; with --url any name
    pub name: String,
    /// A published model's address, where SHA256SUMS, model.toml and the modules lie; or a .pt file's
    #[arg(long)]
    pub url: Option<String>,
    /// The folder to put it into [default: ~/.local/share/tracklens/models]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `tracklens models export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The size: tiny, small, base or large
    pub name: String,
    /// The checkpoint; without it the one that `pull` downloads
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The Python (3.10 or newer) that the exporter's own environment is made with
    #[arg(long, value_name = "PY", default_value = "python3")]
    pub python: PathBuf,
    /// The folder to put the model into
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `tracklens models verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// A model folder, or the name of an installed model
    pub model: String,
}

/// What the tracker is told of an object on its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptKind {
    /// The mask itself
    Mask,
    /// The mask's tight box
    Box,
    /// The one pixel deepest inside the mask
    Click,
}

impl fmt::Display for PromptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mask => "mask",
            Self::Box => "box",
            Self::Click => "click",
        })
    }
}

/// Who follows the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tracker {
    /// sam2-tracker, through graphs/sam2.yml
    Sam2,
    /// iou-tracker, through graphs/file.yml: the track that lies on the object's first mask
    Iou,
    /// SAM 2 on every frame by itself, without memory: iou-tracker, through graphs/legacy-sam2.yml
    Sam2Frame,
    /// Nobody: the first mask, never moved
    Static,
}

/// Ways of following with the same model that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// With memory, from frame to frame: sam2-tracker
    Video,
    /// Every frame by itself, masks joined by their overlap: iou-tracker with DETECTOR=sam2
    Frame,
}

impl Way {
    /// Who follows in this way.
    #[must_use]
    pub fn tracker(self) -> Tracker {
        match self {
            Self::Video => Tracker::Sam2,
            Self::Frame => Tracker::Sam2Frame,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Video => "video",
            Self::Frame => "frame",
        })
    }
}

impl fmt::Display for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sam2 => "sam2",
            Self::Iou => "iou",
            Self::Sam2Frame => "sam2-frame",
            Self::Static => "static",
        })
    }
}

/// `tracklens eval`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tracklens eval --dataset davis16 --model nano --prompt click
  tracklens eval --dataset davis16 --tracker static
  SAM2_PROMPT_STRATEGY=motion tracklens eval --dataset davis16 --discover --json found.json
  GRID_PROMPT_DENSITY=8 tracklens eval --dataset davis16 --compare video,frame

The dataset is a folder with Annotations/<sequence>/00000.png … and JPEGImages/<sequence>/00000.jpg …
(or <sequence>.mp4). See docs/evaluation.md.")]
pub struct EvalArguments {
    /// The dataset's folder
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// The model of sam2-tracker: an installed one's name, or its folder
    #[arg(long, env = "SAM2_MODEL_SIZE", default_value = "nano")]
    pub model: String,
    /// How objects are shown to sam2-tracker
    #[arg(long, value_enum, default_value = "mask")]
    pub prompt: PromptKind,
    /// Who follows them
    #[arg(long, value_enum, default_value = "sam2")]
    pub tracker: Tracker,
    /// Set the J&F of `static` and `iou` beside the tracker's
    #[arg(long, conflicts_with = "discover")]
    pub baselines: bool,
    /// Show nothing: see which objects are found
    #[arg(long)]
    pub discover: bool,
    /// Show nothing, and set these ways of following side by side
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "WAYS",
        conflicts_with_all = ["discover", "baselines", "tracker", "prompt"]
    )]
    pub compare: Vec<Way>,
    /// Only these sequences
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub sequences: Vec<String>,
    /// Write the result as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keep the run's graph, prompts, tracks and log here
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}
