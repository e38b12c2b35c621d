//! What can be wrong with a plug-in.

use crate::Kind;

/// Why a plug-in cannot be used, or has not done its work. `plugin` is the path of its library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// There is no such file.
    #[error("plug-in {plugin:?} cannot be opened: {reason}; give the path of a shared library")]
    Missing {
        /// The path.
        plugin: String,
        /// What the system says.
        reason: String,
    },
    /// The file is there, but the system's loader refuses it.
    #[error("plug-in {plugin:?} is no shared library that this machine can load: {reason}")]
    NoLibrary {
        /// The path.
        plugin: String,
        /// What the loader says.
        reason: String,
    },
    /// A library without our symbol.
    #[error("{plugin:?} is no TrackLens plug-in: it does not export the function tracklens_plugin")]
    NoSymbol {
        /// The path.
        plugin: String,
    },
    /// Null where something should be, or no magic number.
    #[error("plug-in {plugin:?} has a broken table: {reason}")]
    Table {
        /// The path.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// Built for another version of the interface.
    #[error(
        "plug-in {plugin:?} has version {found} of the plug-in interface, expected {expected}; \
         build it again with this TrackLens' tracklens_plugin.h or crate tracklens-plugin"
    )]
    Version {
        /// The path.
        plugin: String,
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A plug-in for something else.
    #[error("plug-in {plugin:?} is of kind {found}, expected {expected}")]
    Kind {
        /// The path.
        plugin: String,
        /// Its kind.
        found: String,
        /// The kind that was asked for.
        expected: Kind,
    },
    /// The configuration is not JSON.
    #[error("plug-in {plugin:?} has a configuration that is not JSON: {reason}")]
    Config {
        /// The path.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// The plug-in does not want to start.
    #[error("plug-in {plugin:?} refuses its configuration: {reason}")]
    Refused {
        /// The path.
        plugin: String,
        /// What it says.
        reason: String,
    },
    /// A batch that plug-ins of this kind are not given: the host's mistake.
    #[error("plug-in {plugin:?} cannot be given this batch: {reason}")]
    Input {
        /// The path.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// The plug-in's columns are not those of its kind.
    #[error("plug-in {plugin:?} returned other columns than its kind has: {reason}")]
    Columns {
        /// The path.
        plugin: String,
        /// The difference.
        reason: String,
    },
    /// The plug-in's batch is damaged.
    #[error("plug-in {plugin:?} returned a batch that cannot be read: {reason}")]
    Output {
        /// The path.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// The plug-in reported an error.
    #[error("plug-in {plugin:?} failed: {reason}")]
    Failed {
        /// The path.
        plugin: String,
        /// What it says.
        reason: String,
    },
    /// The plug-in panicked.
    #[error("plug-in {plugin:?} panicked: {reason}")]
    Panicked {
        /// The path.
        plugin: String,
        /// The panic's message.
        reason: String,
    },
}

impl PluginError {
    /// One word, for a metric's label.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "error",
            Self::Panicked { .. } => "panic",
            Self::Columns { .. } => "columns",
            Self::Output { .. } => "batch",
            Self::Refused { .. } => "refused",
            _ => "unusable",
        }
    }
}
