//! What to play, and how.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracklens_schemas::StreamId;

/// What `dora replay` (the first four) and `tracklens replay` pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `DORA_REPLAY_FILE`: the recording.
    pub file: PathBuf,
    /// `DORA_REPLAY_NODE`: whose messages.
    pub node: String,
    /// `DORA_REPLAY_SPEED`: 1 is as recorded, 2 twice as fast, 0 as fast as they are taken.
    pub speed: f64,
    /// `DORA_REPLAY_LOOP`: again and again, until the dataflow is stopped.
    pub repeat: bool,
    /// `TRACKLENS_REPLAY_FROM_SECONDS`: what was recorded before is passed over.
    pub from: Duration,
    /// `TRACKLENS_REPLAY_STREAM`: this stream alone.
    pub stream: Option<StreamId>,
}

/// An option that is missing or wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionError {
    /// Not set.
    #[error("{0} is not set: this node is started by `dora replay`")]
    Missing(&'static str),
    /// Set to something else than is expected.
    #[error("{name}={found:?}: expected {expected}")]
    Wrong {
        /// The variable.
        name: &'static str,
        /// What came.
        found: String,
        /// What can be.
        expected: &'static str,
    },
}

impl Options {
    /// Reads them from an environment.
    ///
    /// # Errors
    /// Where one is missing or wrong.
    pub fn read(environment: impl Fn(&str) -> Option<String>) -> Result<Self, OptionError> {
        let set = |name| environment(name).filter(|text| !text.is_empty());
        let need = |name| set(name).ok_or(OptionError::Missing(name));
        let number = |name, default: f64| {
            let text = set(name).unwrap_or_else(|| default.to_string());
            let number = f64::from_str(&text).ok();
            let number = number.filter(|number| (0.0..=1e6).contains(number));
            number.ok_or(OptionError::Wrong {
                name,
                found: text,
                expected: "a number from 0 to 1000000",
            })
        };
        let stream = set("TRACKLENS_REPLAY_STREAM").map(|text| {
            StreamId::from_str(&text).map_err(|_| OptionError::Wrong {
                name: "TRACKLENS_REPLAY_STREAM",
                found: text,
                expected: "the id of a stream",
            })
        });
        Ok(Self {
            file: need("DORA_REPLAY_FILE")?.into(),
            node: need("DORA_REPLAY_NODE")?,
            speed: number("DORA_REPLAY_SPEED", 1.0)?,
            repeat: matches!(set("DORA_REPLAY_LOOP").as_deref(), Some("true" | "1")),
            from: Duration::from_secs_f64(number("TRACKLENS_REPLAY_FROM_SECONDS", 0.0)?),
            stream: stream.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_dora_replay_passes_is_read_and_what_is_wrong_is_named() {
        let read = |more: &[(&str, &str)]| {
            let mut all = vec![
                ("DORA_REPLAY_FILE", "a.drec"),
                ("DORA_REPLAY_NODE", "camera"),
                ("DORA_REPLAY_SPEED", "0"),
            ];
            all.extend(more);
            Options::read(|name| {
                let found = all.iter().rev().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.to_string())
            })
        };
        let options = read(&[("DORA_REPLAY_LOOP", "true")]).unwrap();
        assert_eq!(
            (options.speed, options.repeat, options.from),
            (0.0, true, Duration::ZERO)
        );
        let options = read(&[("TRACKLENS_REPLAY_FROM_SECONDS", "1.5")]).unwrap();
        assert_eq!((options.from.as_millis(), options.repeat), (1500, false));
        let missing = read(&[("DORA_REPLAY_NODE", "")]).unwrap_err();
        assert_eq!(missing, OptionError::Missing("DORA_REPLAY_NODE"));
        for (name, value) in [
            ("DORA_REPLAY_SPEED", "-1"),
            ("DORA_REPLAY_SPEED", "fast"),
            ("TRACKLENS_REPLAY_STREAM", "a b"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
