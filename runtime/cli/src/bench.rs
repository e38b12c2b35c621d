//! `tracklens bench`: what a frame costs, in one run, so that ratios hold.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use comfy_table::{Table, presets};
use eyre::{OptionExt, WrapErr};
use serde::Serialize;

use crate::args::BenchArguments;
use crate::project;
use crate::watch::Interrupt;

mod baseline;
mod case;
mod chart;
mod live;
mod processes;
mod stages;

use baseline::Baseline;
use case::{Case, Measured};
use live::Live;

/// Where the report goes in the output folder.
const REPORT: &str = "bench.json";
/// Pixels for which a camera's stream has one bit: 4.6 Mbit/s for 1280x720 at 25 frames a second.
const PIXELS_PER_BIT: u64 = 5;

/// Everything that was measured.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    clip: String,
    model: String,
    /// By number of objects, beside the Python pipeline where it was asked for.
    objects: Vec<Measured>,
    resolutions: Vec<Measured>,
    streams: Vec<Measured>,
    baseline: Vec<Baseline>,
    live: Option<Live>,
}

#[derive(Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    version: &'static str,
    dora: String,
    onnxruntime: String,
}

impl Machine {
    fn this() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim())
            .to_string();
        let dora =
            project::dora().and_then(|dora| Command::new(dora).arg("--version").output().ok());
        let dora = dora.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let first = |text: String| text.lines().next().unwrap_or_default().trim().to_string();
        let library = project::onnxruntime().and_then(|path| path.canonicalize().ok());
        let library =
            library.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Self {
            processor: model,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            version: env!("CARGO_PKG_VERSION"),
            dora: dora.map(first).unwrap_or_default(),
            onnxruntime: library.unwrap_or_default(),
        }
    }
}

pub(crate) fn bench(arguments: &BenchArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let folder = &arguments.out;
    fs::create_dir_all(folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let folder = &folder.canonicalize()?;
    let interrupt = Interrupt::catch()?;
    let clips = Clips {
        source: arguments.clip.clone(),
        folder: folder.join("clips"),
        frames: arguments.frames + case::WARM_UP,
    };
    let mut report = Report {
        machine: Machine::this(),
        clip: name_of(&arguments.clip),
        model: arguments.model.clone(),
        objects: Vec::new(),
        resolutions: Vec::new(),
        streams: Vec::new(),
        baseline: Vec::new(),
        live: None,
    };
    writeln!(
        out,
        "{}, {} cores, TrackLens {}, {}, {}\n{}, model {}, {} frames a case\n",
        report.machine.processor,
        report.machine.cores,
        report.machine.version,
        report.machine.dora,
        report.machine.onnxruntime,
        report.clip,
        report.model,
        arguments.frames
    )?;
    let clip = clips.at(arguments.height)?;
    let measure = |case: Case| -> eyre::Result<Measured> {
        eprintln!("{case}");
        let measured = case.measure(arguments, folder, &interrupt)?;
        eprintln!("  {:.1} frames a second", measured.fps);
        Ok(measured)
    };
    for &objects in &arguments.objects {
        report.objects.push(measure(Case::new(&clip, objects, 1))?);
        if let Some(python) = &arguments.baseline {
            for processes in [false, true] {
                eprintln!("  Python, {}", baseline::variant(processes));
                let case = Case::new(&clip, objects, 1);
                let baseline = Baseline::measure(python, processes, &case, arguments, folder)?;
                eprintln!("  {:.1} frames a second", baseline.fps);
                report.baseline.push(baseline);
            }
        }
    }
    for &height in &arguments.resolutions {
        let clip = clips.at(height)?;
        report.resolutions.push(measure(Case::new(&clip, 1, 1))?);
    }
    for &streams in &arguments.streams {
        report.streams.push(measure(Case::new(&clip, 1, streams))?);
    }
    if let Some(rate) = arguments.live {
        let bits = bit_rate(arguments, rate);
        let clip = clips.camera(arguments.height, rate, bits)?;
        eprintln!("live, {rate} frames a second");
        let live = Live::measure(&clip, (rate, bits), arguments, folder, &interrupt)?;
        report.live = Some(live);
    }
    report.tell(out)?;
    report.draw(folder)?;
    let file = folder.join(REPORT);
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(&file, text).wrap_err_with(|| format!("cannot write {}", file.display()))?;
    writeln!(out, "{} and plots in {}", REPORT, folder.display())?;
    Ok(true)
}

/// Bits a second of a camera with pictures of 16 by 9.
fn bit_rate(arguments: &BenchArguments, rate: u32) -> u64 {
    let pixels = u64::from(arguments.height).pow(2) * 16 / 9;
    let usual = pixels * u64::from(rate) / PIXELS_PER_BIT;
    let wanted = arguments.live_mbit.map(|mbit| (mbit * 1e6) as u64);
    wanted.unwrap_or(usual)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The clip at the heights that are asked for, and no longer than is measured.
struct Clips {
    source: PathBuf,
    folder: PathBuf,
    frames: u64,
}

impl Clips {
    fn at(&self, height: u32) -> eyre::Result<PathBuf> {
        self.coded(
            &format!("{height}p"),
            &format!("scale=-2:{height}"),
            &["-crf", "20", "-g", "24"],
        )
    }

    /// As a camera sends it: no picture waits for a later one, one intra picture a second, and no
    /// second longer than its share of the bits.
    fn camera(&self, height: u32, rate: u32, bits: u64) -> eyre::Result<PathBuf> {
        let bits = bits.to_string();
        let group = rate.to_string();
        self.coded(
            &format!("{height}p-{rate}fps-{bits}-camera"),
            &format!("scale=-2:{height},fps={rate}"),
            &[
                "-bf", "0", "-g", &group, "-b:v", &bits, "-maxrate", &bits, "-bufsize", &bits,
            ],
        )
    }

    fn coded(&self, kind: &str, filter: &str, options: &[&str]) -> eyre::Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        let stem = self
            .source
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let path = self
            .folder
            .join(format!("{stem}-{kind}-{}.mp4", self.frames));
        if path.is_file() {
            return Ok(path);
        }
        eprintln!("making {}", path.display());
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-i"])
            .arg(&self.source)
            .args(["-an", "-vf", filter, "-pix_fmt", "yuv420p"])
            .args(["-c:v", "libx264", "-preset", "veryfast"])
            .args(options)
            .args(["-frames:v", &self.frames.to_string()])
            .arg(&path)
            .status()
            .wrap_err("cannot run ffmpeg: type `make setup`")?;
        eyre::ensure!(
            status.success(),
            "ffmpeg cannot read {}",
            self.source.display()
        );
        Ok(path)
    }
}

impl Report {
    fn tell(&self, out: &mut dyn Write) -> eyre::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header([
            "case",
            "frames/s",
            "CPU ms/frame",
            "without inference",
            "own MiB",
            "stolen",
        ]);
        for measured in self
            .objects
            .iter()
            .chain(&self.resolutions)
            .chain(&self.streams)
        {
            table.add_row([
                measured.name.clone(),
                format!("{:.1}", measured.fps),
                format!("{:.1}", measured.cpu_ms),
                format!("{:.1}", measured.rest_cpu_ms),
                format!("{:.0}", measured.own_mib()),
                format!("{:.1} %", measured.stolen_percent),
            ]);
        }
        writeln!(out, "{table}\n")?;
        if let Some(measured) = self.objects.last() {
            writeln!(out, "{}: milliseconds a frame", measured.name)?;
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            table.set_header(["node", "operation", "mean", "p50", "p99", "CPU"]);
            for stage in &measured.stages {
                let ms = |seconds: f64| format!("{:.2}", seconds * 1000.0);
                table.add_row([
                    stage.node.to_string(),
                    stage.operation.clone(),
                    ms(stage.mean),
                    ms(stage.p50),
                    ms(stage.p99),
                    stage.cpu.map(ms).unwrap_or_default(),
                ]);
            }
            writeln!(out, "{table}\n")?;
            writeln!(out, "{}: processes", measured.name)?;
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            table.set_header(["process", "CPU ms/frame", "own MiB", "resident MiB"]);
            for process in &measured.processes {
                table.add_row([
                    process.name.clone(),
                    format!("{:.2}", process.cpu_ms),
                    format!("{:.0}", process.own_mib),
                    format!("{:.0}", process.resident_mib),
                ]);
            }
            writeln!(out, "{table}\n")?;
            writeln!(out, "copies of pixels, bytes a frame")?;
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            for copy in &measured.copies {
                table.add_row([copy.what.to_string(), copy.bytes.to_string()]);
            }
            writeln!(out, "{table}\n")?;
        }
        if let Some(live) = &self.live {
            writeln!(out, "{live}\n")?;
        }
        if self.baseline.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header([
            "objects",
            "Python",
            "frames/s",
            "ours",
            "ratio",
            "IoU mean",
            "IoU least",
        ]);
        for baseline in &self.baseline {
            let ours = self.objects.iter().find(|m| m.objects == baseline.objects);
            let ours = ours.map_or(0.0, |measured| measured.fps);
            table.add_row([
                baseline.objects.to_string(),
                baseline.variant.to_string(),
                format!("{:.1}", baseline.fps),
                format!("{ours:.1}"),
                format!("{:.2}", ours / baseline.fps),
                format!("{:.4}", baseline.mean_iou),
                format!("{:.4}", baseline.least_iou),
            ]);
        }
        writeln!(out, "{table}\n")?;
        Ok(())
    }

    /// Plots: milliseconds a frame over what grows.
    fn draw(&self, folder: &Path) -> eyre::Result<()> {
        let points = |all: &[Measured], x: fn(&Measured) -> f64, y: fn(&Measured) -> f64| {
            all.iter().map(|m| (x(m), y(m))).collect::<Vec<_>>()
        };
        let ms = |m: &Measured| 1000.0 / m.fps;
        let round = |m: &Measured| 1000.0 * m.streams as f64 / m.fps;
        let charts = [
            (
                "objects",
                "milliseconds a frame, by objects",
                points(&self.objects, |m| m.objects as f64, ms),
            ),
            (
                "resolutions",
                "milliseconds a frame, by lines of the picture",
                points(&self.resolutions, |m| f64::from(m.height), ms),
            ),
            (
                "streams",
                "milliseconds for a frame of each stream, by streams",
                points(&self.streams, |m| m.streams as f64, round),
            ),
        ];
        for (name, title, points) in charts {
            if points.len() > 1 {
                chart::write(&folder.join(format!("{name}.png")), title, &points)?;
            }
        }
        Ok(())
    }
}

/// The model's folder: an installed one's name, or a path.
fn model_folder(model: &str) -> eyre::Result<PathBuf> {
    let path = PathBuf::from(model);
    if path.is_dir() {
        return Ok(path.canonicalize()?);
    }
    let names = [format!("nodes/sam2-tracker/models/{model}")];
    let found = project::find(&names.each_ref().map(String::as_str))
        .or_else(|| Some(project::models()?.join(model)).filter(|path| path.is_dir()));
    found.ok_or_eyre(format!(
        "there is no model {model}: `tracklens models` lists them"
    ))
}
