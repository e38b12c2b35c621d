//! `tracklens models export`: a model folder made of a checkpoint, by the Python tool in
//! `nodes/sam2-tracker/models/export`, in a Python environment of its own.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use eyre::{OptionExt, WrapErr};

use super::catalogue::{self, Checkpoint};
use super::{checksum, folders, pull, verify};
use crate::args::ExportArguments;
use crate::project;

/// The tool, seen from the project's folder.
const TOOL: &str = "nodes/sam2-tracker/models/export";
/// In the environment: the checksum of the requirements that it was made from.
const MARK: &str = "made-from";

pub(crate) fn export(arguments: &ExportArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let name = &arguments.name;
    let known = catalogue::checkpoint(name)?;
    let tool = project::find(&[TOOL]).filter(|tool| tool.join("export.py").is_file());
    let tool = tool.ok_or_eyre(format!(
        "there is no {TOOL}/export.py here: type this in the project's folder"
    ))?;
    let home = match &arguments.dir {
        Some(folder) => folder.clone(),
        None => folders::home()?,
    };
    let (checkpoint, sha256) = weights(arguments, known, out)?;
    let python = environment(&tool.join("requirements.txt"), &arguments.python, out)?;
    let target = home.join(name);
    let coming = std::path::absolute(home.join(format!(".{name}.exporting")))?;
    if coming.exists() {
        fs::remove_dir_all(&coming)?;
    }
    fs::create_dir_all(&home).wrap_err_with(|| format!("cannot make {}", home.display()))?;
    say(
        out,
        &format!("exporting {name} to {} (some minutes)", target.display()),
    )?;
    let mut command = Command::new(&python);
    command
        .arg("export.py")
        .args(["--size", name, "--sha256", &sha256])
        .arg("--checkpoint")
        .arg(&checkpoint)
        .arg("--output")
        .arg(&coming)
        .current_dir(&tool);
    run(&mut command, "the export")?;
    let verified = verify::examine(&coming);
    eyre::ensure!(
        verified.mistakes.is_empty(),
        "what was exported is no whole model: {}",
        verified.mistakes.join("; ")
    );
    pull::replace(&coming, &target)
        .wrap_err_with(|| format!("cannot put {} in place", target.display()))?;
    verify::verify(&target, out)
}

/// The checkpoint and its checksum: the given one, else the published one, downloaded where it is not
/// there yet.
fn weights(
    arguments: &ExportArguments,
    known: Checkpoint,
    out: &mut dyn Write,
) -> eyre::Result<(PathBuf, String)> {
    let Some(path) = &arguments.checkpoint else {
        let path = pull::checkpoint(&arguments.name, None, &folders::home()?, out)?;
        return Ok((path, known.sha256.into()));
    };
    let (sha256, _) = checksum::sha256(path)
        .wrap_err_with(|| format!("cannot read the checkpoint {}", path.display()))?;
    if sha256 != known.sha256 {
        say(
            out,
            &format!(
                "{} is not the file that Meta published, but perhaps one trained on from it: taken as \
                 it is (sha256 {sha256})",
                path.display()
            ),
        )?;
    }
    Ok((path.canonicalize()?, sha256))
}

/// The Python of an environment with these requirements, made where it is missing or another's.
fn environment(requirements: &Path, python: &Path, out: &mut dyn Write) -> eyre::Result<PathBuf> {
    let (mark, _) = checksum::sha256(requirements)
        .wrap_err_with(|| format!("cannot read {}", requirements.display()))?;
    let folder = cache()?.join("export-python");
    let own = folder.join("bin/python");
    let made = fs::read_to_string(folder.join(MARK)).is_ok_and(|made| made.trim() == mark);
    if made && own.exists() {
        return Ok(own);
    }
    say(
        out,
        &format!(
            "making a Python environment in {} (PyTorch and more: several GB, some minutes)",
            folder.display()
        ),
    )?;
    let mut make = Command::new(python);
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    run(&mut make, "making a Python environment (python3 -m venv)")?;
    let mut install = Command::new(&own);
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check", "-r"])
        .arg(requirements);
    run(&mut install, "installing the exporter's requirements")?;
    fs::write(folder.join(MARK), mark)?;
    Ok(own)
}

/// The user's folder for what can be made again.
fn cache() -> eyre::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let cache = match set("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&set("HOME").ok_or_eyre("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(cache.join("tracklens"))
}

/// Runs a command whose output the user sees as it comes.
fn run(command: &mut Command, what: &str) -> eyre::Result<()> {
    let program = command.get_program().to_os_string();
    let status = command
        .status()
        .wrap_err_with(|| format!("cannot start {}", program.display()))?;
    eyre::ensure!(
        status.success(),
        "{what} failed ({status}); the lines above say why"
    );
    Ok(())
}

fn say(out: &mut dyn Write, line: &str) -> eyre::Result<()> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
