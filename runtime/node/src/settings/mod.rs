//! Settings of all nodes: one table of names, kinds and defaults, resolved from `CONFIG_PROFILE`
//! and the process environment into typed structs.
//!
//! A node names the settings it reads; [`resolve`] looks each up, checks it, and reports *every*
//! mistake at once with the values that would have been accepted. Nothing downstream of here reads
//! the environment again.

mod kind;
mod resolve;
mod table;

pub use kind::Kind;
pub use resolve::{Mistake, Origin, Resolved, SettingsError, Value, resolve};
pub use table::{Default, Setting, TABLE, find};

/// The three sets of defaults, chosen by `CONFIG_PROFILE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// Speed before quality.
    Performance,
    /// The default.
    #[default]
    Balanced,
    /// Quality before speed.
    Quality,
}

impl Profile {
    /// All profiles, in the order of the settings table's columns.
    pub const ALL: [Self; 3] = [Self::Performance, Self::Balanced, Self::Quality];

    /// The name as typed in `CONFIG_PROFILE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Performance => "performance",
            Self::Balanced => "balanced",
            Self::Quality => "quality",
        }
    }

    /// Parses a profile name; `None` for an unknown one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
    }
}
