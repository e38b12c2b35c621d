//! `tracklens doctor`: what this machine has, what it lacks, and what to type.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::{models, project};

/// Space in shared memory under which large frames leave the fast path, in kilobytes.
const SMALL_SHM_KB: u64 = 300_000;

struct Finding {
    what: &'static str,
    /// What is there, or what is missing and what to type.
    found: Result<String, String>,
    /// Whether nothing runs without it.
    needed: bool,
}

pub(crate) fn doctor(out: &mut dyn Write) -> eyre::Result<bool> {
    let findings = [
        dora(),
        ffmpeg(),
        onnxruntime(),
        models(),
        detector_models(),
        gpu(),
        shared_memory(),
    ];
    let mut well = true;
    for finding in &findings {
        let (mark, text) = match &finding.found {
            Ok(text) => ("ok", text),
            Err(text) if finding.needed => ("MISSING", text),
            Err(text) => ("none", text),
        };
        well &= finding.found.is_ok() || !finding.needed;
        writeln!(out, "{mark:8} {:16} {text}", finding.what)?;
    }
    let verdict = match well {
        true => "Everything that graphs/demo.yml and graphs/file.yml need is here.",
        false => "Something needed is missing: `make setup` installs it.",
    };
    writeln!(out, "\n{verdict}")?;
    Ok(well)
}

/// The first line that a command prints; `None` where it cannot be run or fails.
fn first_line(command: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim().to_string();
    (output.status.success() && !line.is_empty()).then_some(line)
}

fn dora() -> Finding {
    let found = project::dora().and_then(|path| {
        let version = first_line(&path, &["--version"])?;
        Some(format!("{version} at {}", path.display()))
    });
    Finding {
        what: "dora",
        found: found.ok_or_else(|| {
            "no dora command; type `make setup`, or `pip install dora-rs-cli==1.1.0`".into()
        }),
        needed: true,
    }
}

fn ffmpeg() -> Finding {
    let found = first_line(Path::new("ffmpeg"), &["-hide_banner", "-version"]);
    Finding {
        what: "FFmpeg",
        found: found.ok_or_else(|| "no ffmpeg; type `apt-get install ffmpeg`".into()),
        needed: true,
    }
}

fn onnxruntime() -> Finding {
    let found = match project::onnxruntime() {
        Some(path) => match path.canonicalize() {
            Ok(real) => Ok(real.display().to_string()),
            Err(error) => Err(format!("{}: {error}; set ORT_DYLIB_PATH", path.display())),
        },
        None => Err("no library; type `make setup`, or set ORT_DYLIB_PATH".into()),
    };
    Finding {
        what: "ONNX Runtime",
        found: found.map_err(|text| format!("{text} (graphs with models need it)")),
        needed: false,
    }
}

fn models() -> Finding {
    let installed: Vec<String> = models::installed()
        .iter()
        .map(|model| format!("{} in {}", model.name, model.parent().display()))
        .collect();
    Finding {
        what: "models",
        found: match installed.is_empty() {
            false => Ok(installed.join(", ")),
            true => Err("none for sam2-tracker; type `tracklens models list`".into()),
        },
        needed: false,
    }
}

fn detector_models() -> Finding {
    let found = project::models().filter(|path| path.is_dir());
    Finding {
        what: "detectors",
        found: found.map(|path| path.display().to_string()).ok_or_else(|| {
            "no folder TRACKLENS_MODELS (graphs/legacy.yml looks there for yolox-nano)".into()
        }),
        needed: false,
    }
}

fn gpu() -> Finding {
    let query = [
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ];
    Finding {
        what: "GPU",
        found: first_line(Path::new("nvidia-smi"), &query)
            .ok_or_else(|| "no NVIDIA GPU found (nvidia-smi); everything runs on the CPU".into()),
        needed: false,
    }
}

fn shared_memory() -> Finding {
    let size = Command::new("df")
        .args(["--output=size", "-k", "/dev/shm"])
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().nth(1)?.trim().parse::<u64>().ok()
        });
    let found = match size {
        Some(kilobytes) if kilobytes >= SMALL_SHM_KB => {
            Ok(format!("/dev/shm has {} MB", kilobytes / 1024))
        }
        Some(kilobytes) => Err(format!(
            "/dev/shm has {} MB, graphs ask for 256 MB: frames will be copied through sockets; \
             give a container --shm-size=1g",
            kilobytes / 1024
        )),
        None => Err("/dev/shm cannot be measured".into()),
    };
    Finding {
        what: "shared memory",
        found,
        needed: false,
    }
}
