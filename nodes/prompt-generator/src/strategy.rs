//! What a strategy is, and how one is made for every stream.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tracklens_plugin::{Kind, Plugin, PluginError};
use tracklens_schemas::{FrameIndex, Image, StreamId};

use crate::detections::Detected;
use crate::plugged_in::PluggedIn;
use crate::prompt_file::HandMade;
use crate::{Grid, Hybrid, Motion, PromptFile, Proposal, Saliency, StrategyError};

/// A frame as strategies see it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// Its number in the epoch.
    pub index: FrameIndex,
    /// The pixels, at processing resolution.
    pub image: Image<'a>,
    /// Nothing before this frame belongs to it: an epoch or a scene begins.
    pub fresh: bool,
    /// Objects are looked for on this frame.
    pub look: bool,
}

impl Frame<'_> {
    /// Width and height of the source frame in pixels.
    #[must_use]
    pub fn source_size(&self) -> (u32, u32) {
        (self.image.info.source_width, self.image.info.source_height)
    }
}

/// Proposes places where objects may be, for one stream.
pub trait Strategy {
    /// Takes note of a frame and, where it is to be looked at, proposes places. Every frame of the
    /// stream comes here once, in order.
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal;
}

/// The strategies that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyKind {
    /// Points evenly over the frame.
    Grid,
    /// What moves.
    Motion,
    /// What stands out.
    Saliency,
    /// All of these, joined and ranked.
    Hybrid,
    /// Prompts from a file.
    File,
    /// What another node has found.
    Detector,
}

impl StrategyKind {
    const ALL: [(&'static str, Self); 6] = [
        ("grid", Self::Grid),
        ("motion", Self::Motion),
        ("saliency", Self::Saliency),
        ("hybrid", Self::Hybrid),
        ("file", Self::File),
        ("detector", Self::Detector),
    ];

    /// The strategy of this name, as in `SAM2_PROMPT_STRATEGY`.
    ///
    /// # Errors
    /// [`StrategyError::Unknown`] with all names.
    pub fn named(name: &str) -> Result<Self, StrategyError> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| StrategyError::Unknown {
                found: name.into(),
                expected: Self::ALL.map(|(known, _)| known).join(", "),
            })
    }
}

/// Makes the strategies of all streams.
#[derive(Clone, Debug)]
pub struct Strategies {
    kind: StrategyKind,
    density: usize,
    file: Option<Arc<PromptFile>>,
    plugin: Option<Rc<Plugin>>,
}

impl Strategies {
    /// Strategies of this kind, with `density` points per side in their grids; `file` is where
    /// [`StrategyKind::File`] reads its prompts.
    ///
    /// # Errors
    /// Where the file is needed and cannot be used.
    pub fn new(
        kind: StrategyKind,
        density: usize,
        file: Option<&Path>,
    ) -> Result<Self, StrategyError> {
        let file = match (kind, file) {
            (StrategyKind::File, None) => return Err(StrategyError::NoFile),
            (StrategyKind::File, Some(path)) => Some(Arc::new(PromptFile::read(path)?)),
            _ => None,
        };
        Ok(Self {
            kind,
            density,
            file,
            plugin: None,
        })
    }

    /// The plug-in in this library, configured with this JSON text, in the place of all that is built
    /// in: a prompt strategy, or a detector, whose objects are prompts too.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub fn plugin(path: &Path, config: &str) -> Result<Self, StrategyError> {
        let plugin = match Plugin::load(path, Kind::PromptStrategy, config) {
            Err(PluginError::Kind { found, .. }) if found == Kind::Detector.to_string() => {
                Plugin::load(path, Kind::Detector, config)
            }
            loaded => loaded,
        };
        let plugin = plugin.map_err(StrategyError::Plugin)?;
        Ok(Self {
            kind: StrategyKind::Grid,
            density: 1,
            file: None,
            plugin: Some(Rc::new(plugin)),
        })
    }

    /// A strategy for a new stream.
    #[must_use]
    pub fn make(&self) -> Box<dyn Strategy> {
        if let Some(plugin) = &self.plugin {
            return Box::new(PluggedIn::new(plugin.again()));
        }
        match self.kind {
            StrategyKind::Grid => Box::new(Grid::new(self.density)),
            StrategyKind::Motion => Box::new(Motion::new(self.density)),
            StrategyKind::Saliency => Box::new(Saliency::default()),
            StrategyKind::Hybrid => Box::new(Hybrid::new(self.density)),
            StrategyKind::File => Box::new(HandMade::new(self.file.clone().unwrap_or_default())),
            StrategyKind::Detector => Box::new(Detected),
        }
    }
}
