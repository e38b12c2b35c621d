//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Draw tracks on their video
    Render(RenderArguments),
    /// Print a table of the tracks in a file
    Tracks(TracksArguments),
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
