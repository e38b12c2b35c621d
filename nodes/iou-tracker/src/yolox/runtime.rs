//! ONNX Runtime: one library and one environment per process, any number of sessions.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session;

use super::YoloxSettings;

/// ONNX Runtime allows one environment per process, and it must outlive all sessions.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

fn environment(library: &Path) -> Result<Environment, String> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*slot {
        return Ok(environment.clone());
    }
    let builder = ort::init_from(library).map_err(|error| error.to_string())?;
    let built = builder.with_name("tracklens").build();
    let environment = built.map_err(|error| error.to_string())?;
    *slot = Some(environment.clone());
    Ok(environment)
}

/// What went wrong, in ONNX Runtime's words.
pub(super) enum Loading {
    /// With the library.
    Library(String),
    /// With the model.
    Model(String),
}

/// Loads the library, the first time, and the model.
pub(super) fn load(settings: &YoloxSettings) -> Result<Session, Loading> {
    let library = |error: &dyn std::fmt::Display| Loading::Library(one_line(&error.to_string()));
    let model = |error: &dyn std::fmt::Display| Loading::Model(one_line(&error.to_string()));
    let environment =
        environment(&settings.library).map_err(|reason| Loading::Library(one_line(&reason)))?;
    let mut builder = Session::builder(&environment).map_err(|error| library(&error))?;
    if settings.threads > 0 {
        builder = builder
            .with_intra_threads(settings.threads)
            .map_err(|error| model(&error))?;
    }
    // Threads that wait by spinning would take the cores from the other nodes.
    builder = builder
        .with_intra_op_spinning(false)
        .map_err(|error| model(&error))?;
    builder
        .commit_from_file(&settings.model)
        .map_err(|error| model(&error))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
