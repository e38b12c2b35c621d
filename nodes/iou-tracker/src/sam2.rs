//! The detector that is told where to look: SAM 2 (Ravi et al. 2024) on each frame by itself.
//!
//! Every frame is encoded, its prompts are answered without any memory, and the good masks
//! ([`ProposalRules`]: predicted IoU, stability, area, non-maximum suppression) are the objects. A
//! pixel belongs to one of them at most. Nothing is kept from frame to frame.

use tracklens_onnx::SessionSettings;
use tracklens_sam2::bitmap::CleanUp;
use tracklens_sam2::mask::MaskPainter;
use tracklens_sam2::preprocess::Preprocessor;
use tracklens_sam2::prompt::{Question, Target};
use tracklens_sam2::sighting::{Observer, Sighting};
use tracklens_sam2::{ColourMatrix, Engines, ModelConfig, ModelFolder, Modules, ProposalRules};
use tracklens_schemas::{Mask, StreamId};

use crate::detector::{Detection, Detector, DetectorError, Shapes, StreamFrame};
use crate::tracker::FOLLOWED_AREA;

/// Cells of the reference's masks, 256×256, for which the clean-up limit is given.
const REFERENCE_CELLS: usize = 256 * 256;

/// What is wanted of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Sam2Settings {
    /// How good a mask must be; its least area is that of an object that may begin. Known objects are
    /// followed down to a part of it.
    pub proposals: ProposalRules,
    /// Holes and specks of so many cells of a 256×256 mask are cleaned up.
    pub clean_cells: usize,
    /// Most prompts in one call of a module; 0: as many as fit.
    pub max_batch: usize,
}

impl Default for Sam2Settings {
    fn default() -> Self {
        Self {
            proposals: ProposalRules::default(),
            clean_cells: 8,
            max_batch: 0,
        }
    }
}

/// A model without its memory.
pub struct Sam2Detector<M: Modules> {
    observer: Observer<M>,
    preprocessor: Preprocessor,
    painter: MaskPainter,
    clean_up: CleanUp,
    settings: Sam2Settings,
    name: String,
}

impl Sam2Detector<Engines> {
    /// Opens a model.
    ///
    /// # Errors
    /// What is missing or wrong with library or model.
    pub fn open(
        folder: &ModelFolder,
        sessions: &SessionSettings,
        settings: Sam2Settings,
    ) -> Result<Self, DetectorError> {
        let engines = Engines::open(folder, sessions)?;
        Ok(Self::new(engines, folder.config.clone(), settings))
    }
}

impl<M: Modules> Sam2Detector<M> {
    /// A detector with a model.
    #[must_use]
    pub fn new(modules: M, config: ModelConfig, settings: Sam2Settings) -> Self {
        let mut proposals = settings.proposals;
        proposals.min_area = (proposals.min_area as f32 * FOLLOWED_AREA) as u32;
        Self {
            name: format!("{} without memory", config.model.name),
            preprocessor: Preprocessor::new(&config.input, ColourMatrix::default()),
            observer: Observer::new(modules, config, settings.max_batch),
            painter: MaskPainter::default(),
            clean_up: CleanUp::default(),
            settings: Sam2Settings {
                proposals,
                ..settings
            },
        }
    }

    fn look(&mut self, frame: &StreamFrame<'_>) -> Result<Vec<Detection>, DetectorError> {
        let info = &frame.image.info;
        let size = (info.source_width, info.source_height);
        let questions = self.questions(frame, size);
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let tensor = self.preprocessor.run(&frame.image);
        let features = self.observer.encode(tensor)?;
        let rules = &self.settings.proposals;
        let kept = self
            .observer
            .propose(&features, &questions, rules, &[], size)?;
        let (places, mut seen): (Vec<usize>, Vec<Sighting>) = kept.into_iter().unzip();
        let masks = self.paint(&mut seen, size);
        let scale = (
            info.width as f32 / info.source_width as f32,
            info.height as f32 / info.source_height as f32,
        );
        let found = places.into_iter().zip(&seen).zip(masks);
        let detections = found
            .filter_map(|((at, sighting), mask)| {
                let mask = match &questions[at].target {
                    Target::Mask(given) => given.clone(),
                    Target::Points(_) => mask,
                };
                Some(Detection {
                    bbox: mask.bbox()?.scale(scale.0, scale.1),
                    score: sighting.iou.clamp(0.0, 1.0),
                    class: None,
                    mask: Some(mask),
                })
            })
            .collect();
        self.observer.give_back(seen.into_iter());
        Ok(detections)
    }

    /// The prompts that can be used.
    fn questions(&self, frame: &StreamFrame<'_>, size: (u32, u32)) -> Vec<Question> {
        let input = &self.observer.config.input;
        let input = (input.width, input.height);
        let questions = frame.prompts.iter().filter_map(|prompt| {
            let question = Question::new(prompt, size, input);
            question
                .inspect_err(|error| {
                    tracing::debug!(stream_id = %frame.stream, %error, "a prompt is not used");
                })
                .ok()
        });
        questions.collect()
    }

    /// Masks of the source frame.
    fn paint(&mut self, seen: &mut [Sighting], size: (u32, u32)) -> Vec<Mask> {
        let cells = self.observer.config.geometry.mask;
        let limit = self.settings.clean_cells * cells[0] * cells[1];
        for sighting in seen.iter_mut() {
            let limit = limit.div_ceil(REFERENCE_CELLS);
            self.clean_up.run(&mut sighting.logits, cells, limit);
        }
        let logits: Vec<&[f32]> = seen.iter().map(|s| s.logits.as_slice()).collect();
        self.painter.paint(&logits, cells, size, true)
    }
}

impl<M: Modules> Detector for Sam2Detector<M> {
    fn model(&self) -> &str {
        &self.name
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn shapes(&self) -> Shapes {
        Shapes::Masks
    }

    fn detect(&mut self, frames: &[StreamFrame<'_>]) -> Result<Vec<Vec<Detection>>, DetectorError> {
        frames.iter().map(|frame| self.look(frame)).collect()
    }

    fn release(&mut self, _: &StreamId) {}
}
