//! An identifier as a plug-in: crops in, identifications out (docs/plugins.md).

use std::path::{Path, PathBuf};

use tracklens_plugin::{Kind, Plugin};
use tracklens_schemas::{Crop, Identification, Outcome, crops, identifications};

use super::{Backend, Shot, wrong_count};
use crate::LensError;
use crate::call_error::{CallError, PictureError};
use crate::hash_cache::Answer;
use crate::question::CallResult;

/// A plug-in as set up.
#[derive(Clone, Debug)]
pub struct PlugIn {
    path: PathBuf,
    config: String,
    name: String,
}

impl PlugIn {
    /// Loads it once, to know that it can be.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn new(path: &Path, config: &str) -> Result<Self, LensError> {
        let plugin = Plugin::load(path, Kind::Identifier, config)?;
        Ok(Self {
            path: path.into(),
            config: config.into(),
            name: plugin.name().into(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fingerprint(&self) -> String {
        format!("{} {} {}", self.name, self.path.display(), self.config)
    }

    pub(crate) fn open(&self) -> Result<PlugInBackend, LensError> {
        let plugin = Plugin::load(&self.path, Kind::Identifier, &self.config)?;
        Ok(PlugInBackend(plugin))
    }
}

/// An instance.
#[derive(Debug)]
pub struct PlugInBackend(Plugin);

/// A shot as a row of `crops`.
pub(crate) fn row(shot: &Shot) -> Crop {
    let picture = &shot.view.picture;
    Crop {
        track_id: shot.track,
        bbox: shot.view.bbox,
        width: picture.width,
        height: picture.height,
        pixels: picture.pixels.clone(),
        sharpness: shot.view.sharpness,
    }
}

impl Backend for PlugInBackend {
    fn identify(&mut self, shots: &[Shot]) -> CallResult {
        let rows: Vec<Crop> = shots.iter().map(row).collect();
        let own = |reason: String| CallError::Own { reason };
        let answer = self
            .0
            .process(&crops::encode(&rows))
            .map_err(|e| own(e.to_string()))?;
        let found = identifications::decode(&answer).map_err(|e| own(e.to_string()))?;
        if found.len() != shots.len() {
            return Err(wrong_count(shots.len(), found.len()));
        }
        Ok(found.into_iter().map(result).collect())
    }
}

fn result(found: Identification) -> Result<Answer, PictureError> {
    match found.outcome {
        Outcome::Identified => Ok(Answer {
            name: found.name,
            category: found.category,
            description: found.description,
            confidence: found.confidence.clamp(0.0, 1.0),
            dimensions: found.dimensions,
        }),
        Outcome::Unknown => Ok(Answer::default()),
        Outcome::Failed => Err(PictureError {
            said: found
                .error
                .unwrap_or_else(|| "the plug-in does not say why".into()),
            retryable: true,
        }),
    }
}
