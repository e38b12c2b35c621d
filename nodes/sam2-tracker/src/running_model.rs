//! Which model runs: a smaller one where memory gets short, or where the load is too much.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracklens_onnx::SessionSettings;
use tracklens_sam2::{Engines, ModelConfig, ModelFolder, model_folder};
use tracklens_schemas::Quality;

use crate::memory_pressure::{available_mib, smaller};

/// Models that took over (counter; `from`, `to`).
const SWITCHES: &str = "sam2_model_switches_total";
/// Seconds to open a model (gauge; `model_size`).
pub const LOAD: &str = "video_processor_model_load_seconds";
/// Time from one look at free memory to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// When, and among which models.
#[derive(Clone, Debug)]
pub struct SwitchRules {
    /// Least free memory in MiB.
    pub least_mib: u64,
    /// Where models are installed.
    pub folders: Vec<PathBuf>,
    /// How they are opened.
    pub sessions: SessionSettings,
}

/// Another model, ready to go on.
pub type Other = (Engines, ModelConfig);

/// The name of the model that runs, and what may take its place.
#[derive(Debug)]
pub struct RunningModel {
    name: String,
    /// `None`: it stays.
    rules: Option<SwitchRules>,
    last_look: Instant,
    /// A smaller model has been asked for, because of the load.
    eased: bool,
    /// The model that has made way for it.
    back_to: Option<String>,
}

impl RunningModel {
    /// This model runs; without rules, or where none is smaller, it stays.
    #[must_use]
    pub fn new(name: String, rules: Option<SwitchRules>) -> Self {
        let rules = rules.filter(|rules| !smaller(&name, &rules.folders).is_empty());
        Self {
            name,
            rules,
            last_look: Instant::now(),
            eased: false,
            back_to: None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether another may take its place.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.rules.is_some()
    }

    /// A smaller model, where free memory has fallen below the limit; looks every few seconds.
    pub fn relieve_memory(&mut self) -> Option<Other> {
        let least = self.rules.as_ref()?.least_mib;
        if self.last_look.elapsed() < INTERVAL {
            return None;
        }
        self.last_look = Instant::now();
        let free = available_mib().filter(|mib| *mib < least)?;
        let other = self.smaller(&format!(
            "{free} MiB of memory are free, less than MODEL_SWITCH_THRESHOLD_MB={least}"
        ))?;
        // There is no room for the one that made way before.
        self.back_to = None;
        Some(other)
    }

    /// A smaller model where the quality of a frame asks for one, and the one before where it does no
    /// longer.
    pub fn follow(&mut self, quality: Quality) -> Option<Other> {
        self.rules.as_ref()?;
        match (quality.wants_smaller_model(), self.eased) {
            (true, false) => {
                self.eased = true;
                let before = self.name.clone();
                let other = self.smaller("more frames come than this model can follow")?;
                self.back_to = Some(before);
                Some(other)
            }
            (false, true) => {
                self.eased = false;
                let before = self.back_to.take()?;
                self.open(&before, "there is room for it again")
            }
            _ => None,
        }
    }

    fn smaller(&mut self, why: &str) -> Option<Other> {
        let names = smaller(&self.name, &self.rules.as_ref()?.folders);
        names.into_iter().find_map(|name| self.open(name, why))
    }

    fn open(&mut self, name: &str, why: &str) -> Option<Other> {
        let rules = self.rules.as_ref()?;
        let start = Instant::now();
        let opened = model_folder::find(name, &rules.folders)
            .and_then(|path| ModelFolder::open(&path))
            .and_then(|folder| Ok((Engines::open(&folder, &rules.sessions)?, folder.config)));
        match opened {
            Ok(other) => {
                tracing::warn!(
                    "{why}: going on with the model {name} instead of {}",
                    self.name
                );
                metrics::counter!(
                    SWITCHES, "from" => self.name.clone(), "to" => name.to_string()
                )
                .increment(1);
                metrics::gauge!(LOAD, "model_size" => name.to_string())
                    .set(start.elapsed().as_secs_f64());
                name.clone_into(&mut self.name);
                Some(other)
            }
            Err(error) => {
                tracing::warn!("the model {name} cannot be used: {error}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn least() -> Quality {
        Quality::LEAST
    }

    fn running(name: &str, folder: &std::path::Path) -> RunningModel {
        let library = std::env::var_os("ORT_DYLIB_PATH").expect("make sets ORT_DYLIB_PATH");
        let sessions = SessionSettings {
            library: library.into(),
            ..SessionSettings::default()
        };
        let rules = SwitchRules {
            least_mib: 0,
            folders: vec![folder.to_path_buf()],
            sessions,
        };
        RunningModel::new(name.into(), Some(rules))
    }

    #[test]
    fn a_load_that_is_too_much_takes_a_smaller_model_and_gives_the_first_back() {
        // The embedded model under two names: sizes are told by names.
        let folder = tempfile::tempdir().unwrap();
        let nano = std::fs::canonicalize("models/nano").unwrap();
        for name in ["tiny", "nano"] {
            std::os::unix::fs::symlink(&nano, folder.path().join(name)).unwrap();
        }
        let mut model = running("tiny", folder.path());
        assert!(model.follow(Quality::FULL).is_none());
        assert!(model.follow(least()).is_some());
        assert_eq!(model.name(), "nano");
        assert!(model.follow(least()).is_none(), "once");
        assert!(model.follow(Quality::FULL).is_some());
        assert_eq!(model.name(), "tiny");
        assert!(model.relieve_memory().is_none());
    }

    #[test]
    fn the_smallest_stays_and_so_does_one_that_may_not_be_switched() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = running("nano", folder.path());
        assert!(model.follow(least()).is_none());
        assert!(model.follow(Quality::FULL).is_none());
        let mut fixed = RunningModel::new("tiny".into(), None);
        assert!(fixed.follow(least()).is_none());
        assert_eq!(fixed.name(), "tiny");
    }
}
