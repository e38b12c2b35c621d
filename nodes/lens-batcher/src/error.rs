//! What keeps the node from starting, said so that the reader knows what to do.

use std::path::PathBuf;

use tracklens_plugin::PluginError;

/// An error at the start.
#[derive(Debug, thiserror::Error)]
pub enum LensError {
    /// A setting that the backend needs is not set.
    #[error("LENS_BACKEND={backend} needs {setting}: {what}")]
    Unset {
        /// The backend.
        backend: &'static str,
        /// The setting or variable.
        setting: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// A setting has a value that cannot be used.
    #[error("{setting}={value:?}: expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is expected.
        expected: String,
    },
    /// A gallery that cannot be read.
    #[error("LENS_GALLERY {}: {reason}; it should hold a folder per name with its pictures, NAME/*.jpg or *.png", path.display())]
    Gallery {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A description of an HTTP service that cannot be used.
    #[error("LENS_HTTP_SERVICE {}: {reason} (docs/nodes.md has an example)", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The image server cannot be started.
    #[error(
        "LENS_IMAGE_SERVER={address}: cannot be listened on: {reason}; set it to a free address"
    )]
    ImageServer {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// A folder cannot be made or used.
    #[error("{setting} {}: {reason}; set it to a folder that can be written", path.display())]
    Folder {
        /// The setting.
        setting: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A plug-in cannot be used.
    #[error(transparent)]
    Plugin(#[from] PluginError),
}
