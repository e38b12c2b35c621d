//! `tracklens models pull`: a checkpoint, or a finished model that somebody published.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use eyre::WrapErr;
use ureq::Agent;
use ureq::http::StatusCode;

use super::checksum::{SUMS, parse_sums};
use super::description::FILE;
use super::download::{DownloadError, Wanted, client, fetch, text};
use super::{catalogue, folders, verify};
use crate::args::PullArguments;

/// The folder of checkpoints among the models.
const CHECKPOINTS: &str = "checkpoints";
/// Largest list of checksums, in bytes.
const SUMS_LIMIT: u64 = 64 * 1024;
/// Most files of a model.
const MAX_FILES: usize = 64;

pub(crate) fn pull(arguments: &PullArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let home = match &arguments.dir {
        Some(folder) => folder.clone(),
        None => folders::home()?,
    };
    let name = &arguments.name;
    match arguments.url.as_deref() {
        Some(base) if !is_checkpoint(base) => model(name, base, &home, out),
        url => {
            let path = checkpoint(name, url, &home, out)?;
            writeln!(
                out,
                "Next: tracklens models export {name} --checkpoint {}",
                path.display()
            )?;
            Ok(true)
        }
    }
}

fn is_checkpoint(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.ends_with(".pt") || path.ends_with(".pth")
}

/// Downloads a checkpoint, unless it is there, and gives its path.
pub(crate) fn checkpoint(
    name: &str,
    url: Option<&str>,
    home: &Path,
    out: &mut dyn Write,
) -> eyre::Result<PathBuf> {
    let folder = home.join(CHECKPOINTS);
    let known = catalogue::checkpoint(name);
    let (url, file, sha256) = match (url, known) {
        (None, known) => {
            let known = known?;
            (
                known.url(),
                known.file.to_string(),
                Some(known.sha256.to_string()),
            )
        }
        // A mirror must serve the same file.
        (Some(url), Ok(known)) => (
            url.to_string(),
            known.file.to_string(),
            Some(known.sha256.to_string()),
        ),
        (Some(url), Err(_)) => {
            check_name(name)?;
            let file = format!("{name}.pt");
            let remembered = remembered(&folder.join(&file));
            (url.to_string(), file, remembered)
        }
    };
    let path = folder.join(file);
    let wanted = Wanted {
        url: &url,
        target: &path,
        sha256: sha256.as_deref(),
    };
    let found = fetch(&client(), &wanted)?;
    if sha256.is_some() {
        writeln!(out, "{}: sha256 {found}, as expected", path.display())?;
    } else {
        remember(&path, &found)?;
        writeln!(
            out,
            "{}: sha256 {found}\nNo checksum is known for this file: it was trusted as it came. From now \
             on another file under this address is refused.",
            path.display()
        )?;
    }
    Ok(path)
}

/// Where the checksum of a file that was trusted on first use is kept.
fn memory(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

fn remembered(path: &Path) -> Option<String> {
    let sums = parse_sums(&fs::read_to_string(memory(path)).ok()?).ok()?;
    sums.into_iter().next().map(|(_, sum)| sum)
}

fn remember(path: &Path, sum: &str) -> eyre::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let memory = memory(path);
    fs::write(&memory, format!("{sum}  {name}\n"))
        .wrap_err_with(|| format!("cannot write {}", memory.display()))
}

/// A name that is a folder's name and nothing else.
fn check_name(name: &str) -> eyre::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    eyre::ensure!(
        !name.is_empty() && !name.starts_with('.') && name.chars().all(fits),
        "a model's name consists of letters, digits, '.', '_' and '-', is {name:?}"
    );
    Ok(())
}

/// Downloads a model whose files and SHA256SUMS lie at `base`.
fn model(name: &str, base: &str, home: &Path, out: &mut dyn Write) -> eyre::Result<bool> {
    check_name(name)?;
    let base = base.trim_end_matches('/');
    let client = client();
    let files = files(&client, base)?;
    // Beside the model until it is whole; what has come is used by the next attempt.
    let coming = home.join(format!(".{name}.coming"));
    for (file, sum) in &files {
        let url = format!("{base}/{file}");
        let wanted = Wanted {
            url: &url,
            target: &coming.join(file),
            sha256: Some(sum),
        };
        fetch(&client, &wanted)?;
    }
    let verified = verify::examine(&coming);
    if !verified.mistakes.is_empty() {
        for mistake in &verified.mistakes {
            writeln!(out, "{mistake}")?;
        }
        fs::remove_dir_all(&coming)?;
        eyre::bail!("{base} is no model: it was thrown away");
    }
    let target = home.join(name);
    replace(&coming, &target)
        .wrap_err_with(|| format!("cannot put {} in place", target.display()))?;
    verify::verify(&target, out)
}

fn files(client: &Agent, base: &str) -> eyre::Result<Vec<(String, String)>> {
    let url = format!("{base}/{SUMS}");
    let needed = "a published model is a folder with model.toml, the modules and SHA256SUMS \
                  (`sha256sum *.onnx model.toml > SHA256SUMS`)";
    let list = match text(client, &url, SUMS_LIMIT) {
        Err(DownloadError::Refused { url, status }) if status == StatusCode::NOT_FOUND => {
            eyre::bail!("there is no {url}: {needed}")
        }
        list => list?,
    };
    let files = parse_sums(&list).map_err(|mistake| eyre::eyre!("{url}: {mistake}"))?;
    eyre::ensure!(
        files.iter().any(|(name, _)| name == FILE) && files.len() <= MAX_FILES,
        "{url} has {} files, expected {FILE} and modules: {needed}",
        files.len()
    );
    Ok(files.into_iter().filter(|(name, _)| name != SUMS).collect())
}

/// Puts a folder in the place of another, which is removed.
pub(super) fn replace(new: &Path, target: &Path) -> std::io::Result<()> {
    let mut old = target.as_os_str().to_owned();
    old.push(".old");
    let old = PathBuf::from(old);
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    remove(&old)?;
    match fs::rename(target, &old) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(new, target)?;
    remove(&old)
}
