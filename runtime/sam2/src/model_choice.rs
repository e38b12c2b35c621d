//! Which of the installed models is used: the one that is named, else the profile's, else the
//! built-in one.

use std::path::PathBuf;

use crate::model_folder::{ModelError, ModelFolder, find, search_path};

/// The model that is part of the project.
const BUILT_IN: &str = "nano";

/// What the settings of a node say about its model.
#[derive(Clone, Copy, Debug)]
pub struct ModelChoice<'a> {
    /// CONFIG_PROFILE.
    pub profile: &'a str,
    /// SAM2_MODEL_SIZE: a model by its name.
    pub size: Option<&'a str>,
    /// SAM2_MODEL_DIR: the folder that is looked into first.
    pub dir: Option<&'a PathBuf>,
    /// TRACKLENS_MODELS: a folder that is looked into after the project's own.
    pub models: Option<&'a PathBuf>,
}

impl ModelChoice<'_> {
    /// Finds and checks the model's folder.
    ///
    /// # Errors
    /// Where the model is not installed, or its folder is not in order.
    pub fn open(&self) -> Result<ModelFolder, ModelError> {
        let folders = self.folders();
        if let Some(name) = self.size {
            return ModelFolder::open(&find(name, &folders)?);
        }
        let wanted = match self.profile {
            "performance" => "tiny",
            "quality" => "base",
            _ => "small",
        };
        if let Ok(path) = find(wanted, &folders) {
            return ModelFolder::open(&path);
        }
        let path = find(BUILT_IN, &folders)?;
        tracing::info!(
            "SAM 2.1 {wanted} is not installed: tracking with the built-in model {BUILT_IN} \
             (`tracklens models pull {wanted}` installs it)"
        );
        ModelFolder::open(&path)
    }

    /// Where models are looked for.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let program = std::env::current_exe().ok();
        let current = std::env::current_dir().ok();
        let given: Vec<PathBuf> = self.dir.into_iter().cloned().collect();
        let mut folders = search_path(&given, program.as_deref(), current.as_deref());
        folders.extend(self.models.cloned());
        let home = std::env::home_dir().map(|home| home.join(".local/share/tracklens/models"));
        folders.extend(home.filter(|folder| folder.is_dir()));
        folders
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_model_that_is_named_is_not_replaced_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_path_buf();
        let choice = ModelChoice {
            profile: "balanced",
            size: Some("no-such-model"),
            dir: Some(&dir),
            models: None,
        };
        let error = choice.open().unwrap_err().to_string();
        assert!(
            error.contains("no-such-model") && error.contains("SAM2_MODEL_DIR"),
            "{error}"
        );
    }

    #[test]
    fn without_a_name_the_profiles_model_is_taken_where_it_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_path_buf();
        std::fs::create_dir(dir.join("base")).unwrap();
        std::fs::write(dir.join("base/model.toml"), "no model").unwrap();
        let choice = ModelChoice {
            profile: "quality",
            size: None,
            dir: Some(&dir),
            models: None,
        };
        // It is taken, and found to be broken.
        let error = choice.open().unwrap_err().to_string();
        assert!(error.contains("base/model.toml"), "{error}");
    }
}
