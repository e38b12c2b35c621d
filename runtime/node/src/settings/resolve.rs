//! From the environment to checked values, with the origin of each.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Profile, Setting, table};

/// Where an effective value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default, the same in all profiles.
    Default,
    /// The profile's column of the settings table.
    Profile(Profile),
    /// An environment variable (the graph's `env:` or the shell).
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(profile) => write!(f, "profile {}", profile.as_str()),
            Self::Environment => f.write_str("environment"),
        }
    }
}

/// One setting's effective value.
#[derive(Clone, Debug)]
pub struct Value {
    /// The row of the table.
    pub setting: &'static Setting,
    /// The value; null where there is neither a default nor a variable.
    pub json: Json,
    /// Where it came from.
    pub origin: Origin,
}

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub name: String,
    /// What was found in it.
    pub found: String,
    /// What is accepted.
    pub accepted: String,
}

/// Every mistake in the settings, reported at once.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    /// The mistakes, in the order in which the node names its settings.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        write!(
            f,
            "{count} wrong setting{}:",
            if count == 1 { "" } else { "s" }
        )?;
        for mistake in &self.mistakes {
            write!(
                f,
                "\n  {}={:?}: expected {}",
                mistake.name, mistake.found, mistake.accepted
            )?;
        }
        Ok(())
    }
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The profile in force.
    pub profile: Profile,
    /// One value per asked-for setting, in the order asked for.
    pub values: Vec<Value>,
    /// Accepted, but worth a line in the log.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// The settings as a node's typed struct, whose fields are named like the settings.
    ///
    /// # Errors
    /// Where the struct and the table disagree about a type: a mistake of the program.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let map: serde_json::Map<String, Json> = self
            .values
            .iter()
            .map(|value| (value.setting.name.to_string(), value.json.clone()))
            .chain([("CONFIG_PROFILE".to_string(), self.profile.as_str().into())])
            .collect();
        serde_json::from_value(Json::Object(map))
    }
}

/// Resolves the settings `names` from `environment` (a look-up by variable name).
///
/// An empty variable counts as not set.
///
/// # Errors
/// [`SettingsError`] with every value that is not accepted.
pub fn resolve(
    names: &[&str],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Resolved, SettingsError> {
    let lookup = |name: &str| environment(name).filter(|text| !text.trim().is_empty());
    let mut mistakes = Vec::new();
    let profile = match lookup("CONFIG_PROFILE") {
        None => Profile::default(),
        Some(text) => Profile::parse(text.trim()).unwrap_or_else(|| {
            mistakes.push(Mistake {
                name: "CONFIG_PROFILE".into(),
                found: text,
                accepted: "one of performance, balanced, quality".into(),
            });
            Profile::default()
        }),
    };
    let mut values = Vec::with_capacity(names.len());
    let mut warnings = Vec::new();
    for name in names {
        let Some(setting) = table::find(name) else {
            mistakes.push(Mistake {
                name: (*name).into(),
                found: String::new(),
                accepted: "a name from the settings table".into(),
            });
            continue;
        };
        let (text, origin) = match lookup(name) {
            Some(text) => (Some(text), Origin::Environment),
            None => setting.default.text(profile),
        };
        let json = match text {
            None => Json::Null,
            Some(text) => match setting.kind.parse(name, &text) {
                Some(parsed) => {
                    warnings.extend(parsed.warning);
                    parsed.value
                }
                None => {
                    mistakes.push(Mistake {
                        name: (*name).into(),
                        found: text,
                        accepted: setting.kind.accepted(),
                    });
                    continue;
                }
            },
        };
        values.push(Value {
            setting,
            json,
            origin,
        });
    }
    if mistakes.is_empty() {
        Ok(Resolved {
            profile,
            values,
            warnings,
        })
    } else {
        Err(SettingsError { mistakes })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_string())
        }
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    struct Typed {
        target_fps: f64,
        processing_resolution: u32,
        video_buffer_size: usize,
    }

    const NAMES: &[&str] = &["TARGET_FPS", "PROCESSING_RESOLUTION", "VIDEO_BUFFER_SIZE"];

    #[test]
    fn a_profile_sets_defaults_and_variables_override_them() {
        let resolved = resolve(
            NAMES,
            env(&[("CONFIG_PROFILE", "quality"), ("TARGET_FPS", "12")]),
        )
        .unwrap();
        let typed: Typed = resolved.typed().unwrap();
        assert_eq!(typed.target_fps, 12.0);
        assert_eq!(typed.processing_resolution, 1080);
        assert_eq!(typed.video_buffer_size, 30);
        let origins: Vec<Origin> = resolved.values.iter().map(|v| v.origin).collect();
        assert_eq!(
            origins,
            [
                Origin::Environment,
                Origin::Profile(Profile::Quality),
                Origin::Default
            ]
        );
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_what_is_accepted() {
        let error = resolve(
            NAMES,
            env(&[
                ("CONFIG_PROFILE", "fast"),
                ("TARGET_FPS", "many"),
                ("VIDEO_BUFFER_SIZE", "-3"),
            ]),
        )
        .unwrap_err();
        assert_eq!(error.mistakes.len(), 3);
        let text = error.to_string();
        assert!(text.contains("CONFIG_PROFILE=\"fast\": expected one of performance"));
        assert!(text.contains("TARGET_FPS=\"many\": expected a number"));
        assert!(text.contains("VIDEO_BUFFER_SIZE=\"-3\": expected a whole number"));
    }

    #[test]
    fn a_resolution_snaps_to_the_nearest_with_a_warning() {
        let resolved = resolve(NAMES, env(&[("PROCESSING_RESOLUTION", "700")])).unwrap();
        assert_eq!(
            resolved.typed::<Typed>().unwrap().processing_resolution,
            720
        );
        assert!(resolved.warnings[0].contains("taking 720"));
    }

    #[test]
    fn an_unusual_rate_is_accepted_with_a_warning() {
        let resolved = resolve(NAMES, env(&[("TARGET_FPS", "60")])).unwrap();
        assert!(resolved.warnings[0].contains("usual"));
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let resolved = resolve(NAMES, env(&[("TARGET_FPS", " ")])).unwrap();
        assert_eq!(resolved.typed::<Typed>().unwrap().target_fps, 15.0);
    }

    #[test]
    fn every_default_in_the_table_is_accepted_by_its_own_kind() {
        for setting in table::TABLE {
            for profile in Profile::ALL {
                if let (Some(text), _) = setting.default.text(profile) {
                    assert!(
                        setting.kind.parse(setting.name, &text).is_some(),
                        "{} default {text}",
                        setting.name
                    );
                }
            }
        }
    }

    #[test]
    fn names_in_the_table_are_unique() {
        let mut names: Vec<&str> = table::TABLE.iter().map(|s| s.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
