//! What a setting's text may be, and how it becomes a value.

use serde_json::Value as Json;
use tracklens_schemas::Shard;

/// The accepted values of one setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true`/`false`, also `1`/`0`, `yes`/`no`, `on`/`off`.
    Bool,
    /// A whole number in `min..=max`.
    Integer {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// A number in `min..=max`; values outside `usual` are accepted with a warning.
    Number {
        /// Smallest accepted value.
        min: f64,
        /// Largest accepted value.
        max: f64,
        /// The range in which no warning is given.
        usual: (f64, f64),
    },
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// One of a few numbers; any other positive number snaps to the nearest, with a warning.
    Snap(&'static [i64]),
    /// Comma-separated words, each from the list (any word where the list is empty).
    Words(&'static [&'static str]),
    /// Any text.
    Text,
    /// A file or folder.
    Path,
    /// One of n parts of all streams, `i/n`.
    Shard,
}

/// A parsed value, with a warning where one is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) value: Json,
    pub(crate) warning: Option<String>,
}

impl Kind {
    /// The accepted values in words, for error messages and tables.
    #[must_use]
    pub fn accepted(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Integer { min, max } if *max == i64::MAX => {
                format!("a whole number, {min} or more")
            }
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max, .. } if max.is_infinite() => {
                format!("a number, {min} or more")
            }
            Self::Number { min, max, .. } => format!("a number from {min} to {max}"),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Snap(numbers) => {
                let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                format!("one of {} (others snap to the nearest)", list.join(", "))
            }
            Self::Words([]) => "words, separated by commas".into(),
            Self::Words(words) => {
                format!("any of {}, separated by commas", words.join(", "))
            }
            Self::Text => "text".into(),
            Self::Path => "a path".into(),
            Self::Shard => "i/n with i from 0 to n-1".into(),
        }
    }

    /// Parses `text`; `None` where it is not accepted.
    pub(crate) fn parse(&self, name: &str, text: &str) -> Option<Parsed> {
        let text = text.trim();
        let plain = |value: Json| {
            Some(Parsed {
                value,
                warning: None,
            })
        };
        match self {
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => plain(true.into()),
                "false" | "0" | "no" | "off" => plain(false.into()),
                _ => None,
            },
            Self::Integer { min, max } => {
                let number: i64 = text.parse().ok()?;
                (*min..=*max).contains(&number).then_some(())?;
                plain(number.into())
            }
            Self::Number { min, max, usual } => {
                let number: f64 = text.parse().ok()?;
                (number.is_finite() && (*min..=*max).contains(&number)).then_some(())?;
                let warning = (number < usual.0 || number > usual.1).then(|| {
                    format!(
                        "{name}={text} is outside the usual {} to {}",
                        usual.0, usual.1
                    )
                });
                Some(Parsed {
                    value: number.into(),
                    warning,
                })
            }
            Self::OneOf(words) => {
                let word = words.iter().find(|w| w.eq_ignore_ascii_case(text))?;
                plain((*word).into())
            }
            Self::Snap(numbers) => {
                let number: i64 = text.parse().ok().filter(|n| *n > 0)?;
                let nearest = *numbers.iter().min_by_key(|n| n.abs_diff(number))?;
                let warning = (nearest != number)
                    .then(|| format!("{name}={number} is not supported, taking {nearest}"));
                Some(Parsed {
                    value: nearest.into(),
                    warning,
                })
            }
            Self::Words(accepted) => {
                let mut list = Vec::new();
                for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                    if accepted.is_empty() {
                        list.push(Json::from(word));
                    } else {
                        let word = accepted.iter().find(|w| w.eq_ignore_ascii_case(word))?;
                        list.push(Json::from(*word));
                    }
                }
                plain(list.into())
            }
            Self::Text | Self::Path => plain(text.into()),
            Self::Shard => plain(text.parse::<Shard>().ok()?.to_string().into()),
        }
    }
}
