//! Sessions, and the one environment that they share.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use crate::OnnxError;

/// ONNX Runtime allows one environment per process, and it must outlive all sessions.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// What a session runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// A CUDA GPU, or an error.
    Cuda,
    /// A CUDA GPU where library and machine have one, otherwise the CPU.
    Auto,
}

impl Device {
    /// The device of this name, as in `SAM2_DEVICE`: cpu, cuda or auto; any other is the CPU.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "cuda" => Self::Cuda,
            "auto" => Self::Auto,
            _ => Self::Cpu,
        }
    }
}

/// The library to load: the one named by ORT_DYLIB_PATH, or the one the system finds.
#[must_use]
pub fn library(named: Option<&Path>) -> PathBuf {
    named.map_or_else(|| "libonnxruntime.so".into(), Path::to_path_buf)
}

/// How sessions are made.
#[derive(Clone, Debug, Default)]
pub struct SessionSettings {
    /// The ONNX Runtime library.
    pub library: PathBuf,
    /// Threads of one inference; 0: as many as ONNX Runtime likes.
    pub threads: usize,
    /// What to run on.
    pub device: Device,
}

/// Opens a model, and the library the first time.
///
/// # Errors
/// What is missing or wrong with library, model or device.
pub fn open(model: &Path, settings: &SessionSettings) -> Result<Session, OnnxError> {
    let path = model.display().to_string();
    let bytes = std::fs::metadata(model)
        .and_then(|meta| match meta.is_file() {
            true => Ok(meta.len()),
            false => Err(std::io::ErrorKind::NotFound.into()),
        })
        .map_err(|error| OnnxError::ModelMissing {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    let environment = environment(&settings.library)?;
    let broken = |error: &dyn std::fmt::Display| OnnxError::ModelBroken {
        path: path.clone(),
        bytes,
        reason: one_line(error),
    };
    let mut builder = Session::builder(&environment).map_err(|error| broken(&error))?;
    if settings.threads > 0 {
        builder = builder
            .with_intra_threads(settings.threads)
            .map_err(|error| broken(&error))?;
    }
    // Threads that wait by spinning would take the cores from the other nodes.
    builder = builder
        .with_intra_op_spinning(false)
        .map_err(|error| broken(&error))?;
    place(&mut builder, settings.device)?;
    builder
        .commit_from_file(model)
        .map_err(|error| broken(&error))
}

/// Whether sessions run on the CPU; loads the library the first time.
///
/// # Errors
/// Where the library cannot be loaded.
pub fn on_cpu(settings: &SessionSettings) -> Result<bool, OnnxError> {
    let _loaded = environment(&settings.library)?;
    Ok(match settings.device {
        Device::Cpu => true,
        Device::Cuda => false,
        Device::Auto => !matches!(CUDA::is_available(), Ok(true)),
    })
}

/// Puts a session on its device.
fn place(builder: &mut SessionBuilder, device: Device) -> Result<(), OnnxError> {
    if device == Device::Cpu {
        return Ok(());
    }
    let placed = match CUDA::is_available() {
        Ok(true) => CUDA::default()
            .register(builder)
            .map_err(|error| one_line(&error)),
        Ok(false) => Err("the library was built without it".into()),
        Err(error) => Err(one_line(&error)),
    };
    match (placed, device) {
        (Ok(()), _) => Ok(()),
        (Err(reason), Device::Cuda) => Err(OnnxError::NoCuda { reason }),
        (Err(reason), _) => {
            tracing::debug!(reason, "no CUDA: running on the CPU");
            Ok(())
        }
    }
}

fn environment(library: &Path) -> Result<Environment, OnnxError> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*slot {
        return Ok(environment.clone());
    }
    let failed = |reason: String| OnnxError::Library {
        path: library.display().to_string(),
        reason,
    };
    let builder = ort::init_from(library).map_err(|error| match error {
        LoadDynamicError::BadVersion { version_str, path } => OnnxError::LibraryTooOld {
            path: path.display().to_string(),
            found: version_str,
            least: ort::MINOR_VERSION,
        },
        other => failed(one_line(&other)),
    })?;
    let built = builder.with_name("tracklens").build();
    let environment = built.map_err(|error| failed(one_line(&error)))?;
    *slot = Some(environment.clone());
    Ok(environment)
}

fn one_line(text: &dyn std::fmt::Display) -> String {
    text.to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
