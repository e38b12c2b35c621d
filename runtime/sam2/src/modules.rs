//! The four modules of a model as pure functions, and what goes in and out of them.
//!
//! The tracker knows only this; [`crate::Engines`] does it with ONNX Runtime. Tensors are flat,
//! row-major; `B` is the number of objects in a batch (docs/models.md).

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::model_folder::Geometry;

/// An inference that failed; the model stays usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{module} failed on {objects} object(s): {reason}")]
pub struct InferenceError {
    /// The module.
    pub module: &'static str,
    /// Objects in the batch.
    pub objects: usize,
    /// What ONNX Runtime says.
    pub reason: String,
}

/// A frame that has been encoded, or could not be.
#[derive(Debug)]
pub struct Encoded<F> {
    /// Its tensor, for another attempt or another frame.
    pub pixels: Vec<f32>,
    /// Its features.
    pub frame: Result<F, InferenceError>,
    /// What that took.
    pub time: Duration,
}

/// A frame that is encoded while other work goes on.
#[derive(Debug)]
pub enum Ahead<F> {
    /// It is done.
    Ready(Encoded<F>),
    /// Another thread is at it.
    Coming(mpsc::Receiver<Encoded<F>>),
}

impl<F> Ahead<F> {
    /// Waits for it.
    ///
    /// # Errors
    /// Where the thread is gone.
    pub fn wait(self) -> Result<Encoded<F>, InferenceError> {
        match self {
            Self::Ready(encoded) => Ok(encoded),
            Self::Coming(coming) => coming.recv().map_err(|_| InferenceError {
                module: "image_encoder",
                objects: 1,
                reason: "its thread has ended".into(),
            }),
        }
    }
}

/// What the memory attention reads of `B` objects, padded to the same numbers.
#[derive(Clone, Debug, Default)]
pub struct MemoryBatch {
    /// `B`.
    pub objects: usize,
    /// Memories of each object, `M`.
    pub memories: usize,
    /// Pointers of each object, `K`.
    pub pointers: usize,
    /// B×M×Cm×h×w.
    pub memory: Vec<f32>,
    /// B×M: whose copy `memory` holds there; nothing where it holds zeros.
    pub held: Vec<Option<Arc<[f32]>>>,
    /// B×M: 0 conditioning, 1 … recent, −1 absent.
    pub memory_time: Vec<i64>,
    /// B×M: the frame, counted in frames worked on; 0 where absent.
    pub memory_step: Vec<u64>,
    /// B×K×C.
    pub pointer: Vec<f32>,
    /// B×K: frames ago, −1 absent.
    pub pointer_time: Vec<f32>,
}

/// What the mask decoder is asked about `B` objects.
#[derive(Clone, Debug, Default)]
pub struct PromptBatch {
    /// `B`.
    pub objects: usize,
    /// Points of each object, padding included: `P`.
    pub points: usize,
    /// B×P×2, pixels of the model's input.
    pub coords: Vec<f32>,
    /// B×P: 1 object, 0 background, 2 and 3 a box's corners, −1 none.
    pub labels: Vec<i64>,
    /// B×1×height×width of [`Modules::mask_prompt`]; ignored where `has_mask` is 0.
    pub masks: Vec<f32>,
    /// B: 1 where the object is asked for by a mask.
    pub has_mask: Vec<f32>,
    /// Whether candidates after the first are looked at; else they may be anything.
    pub all_candidates: bool,
}

/// Which embedding the mask decoder looks at.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a, C> {
    /// The frame as the memory attention sees it, one for each object.
    Conditioned(&'a C),
    /// The frame for objects without a memory.
    NoMemory,
    /// The frame as it is (prompts that are masks).
    Plain,
}

/// What the mask decoder says of `B` objects.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// B×N×mh×mw.
    pub logits: Vec<f32>,
    /// B×N: predicted IoU of each candidate.
    pub iou: Vec<f32>,
    /// B×N×C.
    pub pointers: Vec<f32>,
    /// B: above 0 where the object is in the frame.
    pub object_score: Vec<f32>,
}

impl Decoded {
    /// Makes room for so many objects: each tensor's numbers per object, and the tensor.
    pub(crate) fn places(
        &mut self,
        objects: usize,
        geometry: &Geometry,
    ) -> [(usize, &mut [f32]); 4] {
        let candidates = geometry.candidates;
        let place = |tensor, len: usize| -> (usize, &mut [f32]) {
            let tensor: &mut Vec<f32> = tensor;
            tensor.resize(objects * len, 0.0);
            (len, tensor)
        };
        [
            place(&mut self.logits, candidates * geometry.mask_len()),
            place(&mut self.iou, candidates),
            place(&mut self.pointers, candidates * geometry.pointer_len()),
            place(&mut self.object_score, 1),
        ]
    }
}

/// Masks of `B` objects to be remembered.
#[derive(Clone, Debug, Default)]
pub struct MaskBatch {
    /// `B`.
    pub objects: usize,
    /// Height and width of the masks.
    pub size: [usize; 2],
    /// B×1×height×width logits.
    pub logits: Vec<f32>,
    /// B.
    pub object_score: Vec<f32>,
    /// B: 1 where the mask answers a prompt.
    pub from_prompt: Vec<f32>,
}

/// A model.
pub trait Modules {
    /// An encoded frame.
    type Frame;
    /// What the memory attention makes of a frame for a batch of objects.
    type Conditioned;

    /// Height and width of a mask that is a prompt.
    fn mask_prompt(&self) -> [usize; 2];

    /// Encodes a frame: 3×H×W, RGB, normalised.
    ///
    /// # Errors
    /// Where inference fails.
    fn encode_image(&mut self, pixels: &[f32]) -> Result<Self::Frame, InferenceError>;

    /// Begins to encode a frame that will be asked for. A model that does one thing at a time does it
    /// now.
    fn encode_ahead(&mut self, pixels: Vec<f32>) -> Ahead<Self::Frame> {
        let start = Instant::now();
        let frame = self.encode_image(&pixels);
        Ahead::Ready(Encoded {
            pixels,
            frame,
            time: start.elapsed(),
        })
    }

    /// The embedding of a frame as it is: C×h×w.
    ///
    /// # Errors
    /// Where it is not at hand.
    fn embedding<'a>(&self, frame: &'a Self::Frame) -> Result<&'a [f32], InferenceError>;

    /// Shows a frame to the memories of a batch of objects.
    ///
    /// # Errors
    /// Where inference fails.
    fn attend(
        &mut self,
        frame: &Self::Frame,
        memories: &MemoryBatch,
    ) -> Result<Self::Conditioned, InferenceError>;

    /// Finds the objects' masks; `out` is overwritten.
    ///
    /// # Errors
    /// Where inference fails.
    fn decode(
        &mut self,
        frame: &Self::Frame,
        look: Look<'_, Self::Conditioned>,
        prompts: &PromptBatch,
        out: &mut Decoded,
    ) -> Result<(), InferenceError>;

    /// Makes memories of masks: Cm×h×w of each.
    ///
    /// # Errors
    /// Where inference fails.
    fn remember(
        &mut self,
        frame: &Self::Frame,
        masks: &MaskBatch,
    ) -> Result<Vec<Arc<[f32]>>, InferenceError>;
}
