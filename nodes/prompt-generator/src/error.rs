//! What keeps a strategy from being made.

use std::fmt;

/// A file of prompts that cannot be used: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFileError {
    /// The file.
    pub path: String,
    /// The mistakes, in the order of the entries.
    pub mistakes: Vec<String>,
}

impl fmt::Display for PromptFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PROMPT_FILE {:?} cannot be used ({} to mend); each entry should be like {{frame: 0, \
             points: [[x, y]]}}, {{frame: 0, box: [x0, y0, x1, y1]}} or {{frame: 0, mask: {{size: \
             [height, width], counts: TEXT}}}}",
            self.path,
            match self.mistakes.len() {
                1 => "1 mistake".to_string(),
                count => format!("{count} mistakes"),
            }
        )?;
        self.mistakes
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for PromptFileError {}

/// Why a strategy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StrategyError {
    /// No such strategy.
    #[error("SAM2_PROMPT_STRATEGY={found:?}: expected one of {expected}")]
    Unknown {
        /// The name.
        found: String,
        /// All names.
        expected: String,
    },
    /// `file` without a file.
    #[error(
        "SAM2_PROMPT_STRATEGY=file needs PROMPT_FILE: the path of a JSON or YAML list of prompts"
    )]
    NoFile,
    /// The file is not there or is no text.
    #[error("PROMPT_FILE {path:?} cannot be read: {reason}; give the path of a JSON or YAML list")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] PromptFileError),
    /// The plug-in cannot be used. Its error is told here, hence no source that would tell it again.
    #[error("PROMPT_PLUGIN: {0}")]
    Plugin(tracklens_plugin::PluginError),
}
