//! Finding the project's own tools: beside the working folder or beside this binary.

use std::env;
use std::path::{Path, PathBuf};

/// The first of `names` that exists in the working folder, in the binary's folder, or in any
/// folder above either.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let working = env::current_dir().ok();
    let binary = env::current_exe().ok();
    [working.as_deref(), binary.as_deref().and_then(Path::parent)]
        .into_iter()
        .flatten()
        .flat_map(Path::ancestors)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| path.exists())
}

/// An executable on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The dora CLI: on PATH, else the one that `make setup` installs.
pub(crate) fn dora() -> Option<PathBuf> {
    on_path("dora").or_else(|| find(&[".tools/bin/dora"]))
}

/// The binary of one of our nodes: beside this one, else in the project, else on PATH.
pub(crate) fn node(name: &str) -> Option<PathBuf> {
    let own = env::current_exe().ok();
    let beside = own
        .as_deref()
        .and_then(Path::parent)
        .map(|folder| folder.join(name));
    beside
        .filter(|path| path.is_file())
        .or_else(|| find(&[format!("target/release/{name}").as_str()]))
        .or_else(|| on_path(name))
}

/// The ONNX Runtime library: `ORT_DYLIB_PATH`, else the one that `make setup` installs.
pub(crate) fn onnxruntime() -> Option<PathBuf> {
    match env::var_os("ORT_DYLIB_PATH") {
        Some(path) if !path.is_empty() => Some(path.into()),
        _ => find(&[".tools/lib/libonnxruntime.so"]),
    }
}

/// The folder with weights: `TRACKLENS_MODELS`, else one that lies beside the project.
pub(crate) fn models() -> Option<PathBuf> {
    match env::var_os("TRACKLENS_MODELS") {
        Some(path) if !path.is_empty() => Some(path.into()),
        _ => find(&["shared/models"]),
    }
}
