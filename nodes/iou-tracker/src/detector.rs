//! What a detector is: frames of several streams in, the objects of each frame out.

use tracklens_onnx::OnnxError;
use tracklens_sam2::{InferenceError, ModelError};
use tracklens_schemas::{BBox, Image, ImageInfo, Mask, Prompt, StreamId};

/// One frame to look at.
#[derive(Clone, Copy, Debug)]
pub struct StreamFrame<'a> {
    /// The stream; detectors with a memory keep one per stream.
    pub stream: &'a StreamId,
    /// The pixels, at processing resolution.
    pub image: Image<'a>,
    /// Where to look, in source pixels; for detectors that are told.
    pub prompts: &'a [Prompt],
}

/// What a detector's masks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shapes {
    /// What hangs together: neighbours may be one blob, which is cut where both were known before.
    Blobs,
    /// A box is what is known; a mask says little more. Objects are told apart by their boxes.
    #[default]
    Boxes,
    /// The object's own pixels: objects are told apart by their masks.
    Masks,
}

/// One object in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Where it is, in pixels of the frame as it was given to the detector.
    pub bbox: BBox,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
    /// What it is, where the detector knows.
    pub class: Option<&'static str>,
    /// Its pixels, of any size that covers the whole frame (detectors work at a lower resolution);
    /// `None`: the whole box.
    pub mask: Option<Mask>,
}

impl Detection {
    /// The detection in pixels of the source frame: the mask at source size and, where there is a
    /// mask, the box around exactly its pixels. `None` if nothing is left of it inside the frame.
    #[must_use]
    pub fn into_source(self, info: &ImageInfo) -> Option<SourceDetection> {
        let (width, height) = (info.source_width, info.source_height);
        let scale_x = width as f32 / info.width as f32;
        let scale_y = height as f32 / info.height as f32;
        let bbox = self.bbox.scale(scale_x, scale_y).clamp(width, height);
        let mask = match self.mask {
            Some(mask) => mask.scale(width, height),
            None => box_mask(&bbox, width, height),
        };
        let bbox = mask.bbox()?;
        Some(SourceDetection {
            bbox,
            area: u32::try_from(mask.area()).unwrap_or(u32::MAX),
            score: self.score,
            class: self.class,
            mask,
        })
    }
}

/// A detection in pixels of the source frame.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceDetection {
    /// Box around the mask.
    pub bbox: BBox,
    /// Number of object pixels, at least 1.
    pub area: u32,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
    /// What it is, where the detector knows.
    pub class: Option<&'static str>,
    /// The object's pixels, of source size.
    pub mask: Mask,
}

/// The mask of a box: every pixel whose centre lies in it.
#[must_use]
pub fn box_mask(bbox: &BBox, width: u32, height: u32) -> Mask {
    let side = |low: f32, high: f32, end: u32| {
        let low = (low.max(0.0).round() as u32).min(end);
        (low, (high.max(0.0).round() as u32).clamp(low, end))
    };
    let (x0, x1) = side(bbox.x0, bbox.x1, width);
    let (y0, y1) = side(bbox.y0, bbox.y1, height);
    let (tall, total) = (y1 - y0, width * height);
    let mut runs = Vec::new();
    let mut covered = 0;
    if tall > 0 {
        if tall == height && x1 > x0 {
            runs.extend([x0 * height, (x1 - x0) * height]);
            covered = x1 * height;
        } else {
            for x in x0..x1 {
                let start = x * height + y0;
                runs.extend([start - covered, tall]);
                covered = start + tall;
            }
        }
    }
    if covered < total || runs.is_empty() {
        runs.push(total - covered);
    }
    Mask::from_runs(runs, width, height).unwrap_or_else(|_| Mask::empty(width, height))
}

/// Why a detector cannot be made or cannot look at a frame.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The ONNX Runtime library is missing or of the wrong kind.
    #[error("{0}; or use DETECTOR=motion, which needs none")]
    Runtime(OnnxError),
    /// The file is missing or broken.
    #[error("DETECTOR_MODEL: {0}; give the path of a YOLOX .onnx file")]
    Model(OnnxError),
    /// A SAM 2 model that is missing or not in order.
    #[error("DETECTOR=sam2: {0}")]
    Sam2(#[from] ModelError),
    /// SAM 2 failed on a frame.
    #[error(transparent)]
    Sam2Inference(#[from] InferenceError),
    /// A model of another kind.
    #[error("DETECTOR_MODEL {path:?} is no YOLOX model: expected {expected}, found {found}")]
    ModelShape {
        /// The file.
        path: String,
        /// The shapes that were expected.
        expected: String,
        /// The shapes that the model has.
        found: String,
    },
    /// A class that the model does not know.
    #[error("DETECTOR_CLASSES names {name:?}, which the model does not know; it knows {known}")]
    UnknownClass {
        /// The name.
        name: String,
        /// All names.
        known: String,
    },
    /// Inference went wrong.
    #[error("inference on {frames} frame(s) failed: {reason}")]
    Inference {
        /// Frames in the batch.
        frames: usize,
        /// What ONNX Runtime says.
        reason: String,
    },
}

impl DetectorError {
    pub(crate) fn from_onnx(error: OnnxError) -> Self {
        match error {
            OnnxError::ModelMissing { .. } | OnnxError::ModelBroken { .. } => Self::Model(error),
            _ => Self::Runtime(error),
        }
    }
}

/// Finds the objects in frames.
pub trait Detector {
    /// Name of the model, for the metadata of `tracks`.
    fn model(&self) -> &str;

    /// Most frames that are worth giving in one call.
    fn max_batch(&self) -> usize;

    /// What its masks are.
    fn shapes(&self) -> Shapes {
        Shapes::Boxes
    }

    /// The objects of each frame, in the order of the frames. At most one frame of a stream in a
    /// call; frames of a stream come in order.
    ///
    /// # Errors
    /// The frames could not be looked at; the detector stays usable.
    fn detect(&mut self, frames: &[StreamFrame<'_>]) -> Result<Vec<Vec<Detection>>, DetectorError>;

    /// Forgets a stream that was closed or opened anew.
    fn release(&mut self, stream: &StreamId);
}
