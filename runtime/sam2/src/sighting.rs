//! Batches: the objects of a frame through the modules, as many at once as fit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracklens_schemas::Mask;

use crate::bitmap::Bitmap;
use crate::memory_bank::{Memory, Shown};
use crate::model_folder::{MemoryRules, ModelConfig};
use crate::modules::{
    Ahead, Decoded, Encoded, InferenceError, Look, MaskBatch, MemoryBatch, Modules, PromptBatch,
};
use crate::prompt::{Question, Target};
use crate::proposals::{Proposal, ProposalRules};
use crate::resample::resize;
use crate::selection::{Asked, Choice, choose, stability, takes_first};
use crate::stages::Stages;

/// Bytes of attention weights in one call.
const ATTENTION_BYTES: usize = 512 << 20;
/// Most prompts in one call of the decoder.
const MOST_PROMPTS: usize = 16;
/// Logits of a mask that was given: object and background (`_use_mask_as_output`).
const GIVEN: [f32; 2] = [10.0, -10.0];
/// Shift of the logits under which a proposal must be stable (SAM's automatic mask generator).
const STABILITY_SHIFT: f32 = 1.0;
/// Logit where there is no object (`NO_OBJ_SCORE`).
const NO_OBJECT: f32 = -1024.0;

/// What the model says of one object on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// mh×mw.
    pub logits: Vec<f32>,
    /// C.
    pub pointer: Arc<[f32]>,
    /// Predicted IoU of the mask.
    pub iou: f32,
    /// Above 0: in the frame.
    pub object_score: f32,
}

impl Sighting {
    /// What is remembered of it: of the frame `step`, the memory encoder's answer.
    #[must_use]
    pub fn memory(&self, step: u64, tensor: Arc<[f32]>, rules: &MemoryRules) -> Memory {
        let well = rules.least_iou.is_none_or(|least| self.iou >= least);
        Memory {
            sure: well && self.object_score > 0.0,
            step,
            tensor: Some(tensor),
            pointer: self.pointer.clone(),
        }
    }
}

/// A model with its description and buffers.
pub struct Observer<M> {
    modules: M,
    /// The description.
    pub config: ModelConfig,
    batch: usize,
    memories: MemoryBatch,
    prompts: PromptBatch,
    decoded: Decoded,
    masks: MaskBatch,
    spare: Vec<Vec<f32>>,
    times: Stages,
}

impl<M: Modules> Observer<M> {
    /// `max_batch` objects at once; 0: as many as fit.
    #[must_use]
    pub fn new(modules: M, config: ModelConfig, max_batch: usize) -> Self {
        let batch = match max_batch {
            0 => {
                let [_, height, width] = config.geometry.embedding;
                let cells = height * width;
                let memories = config.memory.frames + config.memory.conditioning_frames;
                (ATTENTION_BYTES / (4 * cells * cells * memories).max(1)).clamp(1, 64)
            }
            most => most,
        };
        Self {
            modules,
            config,
            batch,
            memories: MemoryBatch::default(),
            prompts: PromptBatch::default(),
            decoded: Decoded::default(),
            masks: MaskBatch::default(),
            spare: Vec::new(),
            times: Stages::default(),
        }
    }

    /// Encodes a frame.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn encode(&mut self, pixels: &[f32]) -> Result<M::Frame, InferenceError> {
        let modules = &mut self.modules;
        timed(&mut self.times.encode, || modules.encode_image(pixels))
    }

    /// Begins to encode a frame that will be asked for.
    pub fn encode_ahead(&mut self, pixels: Vec<f32>) -> Ahead<M::Frame> {
        self.modules.encode_ahead(pixels)
    }

    /// Waits for a frame that is encoded ahead.
    ///
    /// # Errors
    /// Where nobody is at it any more.
    pub fn encoded(&mut self, ahead: Ahead<M::Frame>) -> Result<Encoded<M::Frame>, InferenceError> {
        let encoded = ahead.wait()?;
        self.times.encode += encoded.time;
        Ok(encoded)
    }

    /// The embedding of a frame: C×h×w.
    ///
    /// # Errors
    /// Where it is not at hand.
    pub fn embedding<'a>(&self, frame: &'a M::Frame) -> Result<&'a [f32], InferenceError> {
        self.modules.embedding(frame)
    }

    /// Looks for known objects by what they are shown.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn observe(
        &mut self,
        frame: &M::Frame,
        shown: &[Shown<'_>],
    ) -> Result<Vec<Sighting>, InferenceError> {
        let all = !takes_first(&self.config.selection, Asked::Tracking);
        self.observe_with(frame, shown, all, |observer, at| {
            observer.sighting(at, Asked::Tracking)
        })
    }

    /// The same, with every candidate that tracking may take: the one it would take comes first.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn observe_all(
        &mut self,
        frame: &M::Frame,
        shown: &[Shown<'_>],
    ) -> Result<Vec<Vec<Sighting>>, InferenceError> {
        self.observe_with(frame, shown, true, |observer, at| {
            let first = observer.choice(at, Asked::Tracking);
            let rules = &observer.config.selection;
            let least = usize::from(rules.multimask_tracking);
            let candidates = observer.config.geometry.candidates;
            let others = (least..candidates).filter(|mask| *mask != first.mask);
            let others = others.map(|mask| Choice {
                mask,
                pointer: mask,
            });
            let choices: Vec<Choice> = std::iter::once(first).chain(others).collect();
            choices
                .into_iter()
                .map(|choice| observer.chosen(at, choice))
                .collect()
        })
    }

    fn observe_with<T>(
        &mut self,
        frame: &M::Frame,
        shown: &[Shown<'_>],
        all_candidates: bool,
        see: impl Fn(&mut Self, usize) -> T,
    ) -> Result<Vec<T>, InferenceError> {
        let mut seen = Vec::with_capacity(shown.len());
        let mask_len = self.mask_prompt_len();
        for part in shown.chunks(self.batch) {
            let (modules, memories) = (&mut self.modules, &mut self.memories);
            let geometry = &self.config.geometry;
            let conditioned = timed(&mut self.times.attend, || {
                memories.fill(part, geometry);
                modules.attend(frame, memories)
            })?;
            self.prompts.begin(0);
            self.prompts.all_candidates = all_candidates;
            for _ in part {
                self.prompts.push(&[], mask_len);
            }
            self.decode(frame, Look::Conditioned(&conditioned))?;
            seen.extend((0..part.len()).map(|at| see(self, at)));
        }
        Ok(seen)
    }

    /// What is where prompts point, in their order.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn answer(
        &mut self,
        frame: &M::Frame,
        questions: &[Question],
    ) -> Result<Vec<Sighting>, InferenceError> {
        let mask_len = self.mask_prompt_len();
        let mut answers: Vec<Option<Sighting>> = questions.iter().map(|_| None).collect();
        let mut order: Vec<usize> = (0..questions.len()).collect();
        // Only questions of as many points share a call.
        order.sort_by_key(|at| questions[*at].points());
        for same in order.chunk_by(|a, b| questions[*a].points() == questions[*b].points()) {
            for part in same.chunks(self.batch.min(MOST_PROMPTS)) {
                let points = questions[part[0]].points();
                self.prompts.begin(points);
                for at in part {
                    match &questions[*at].target {
                        Target::Points(points) => self.prompts.push(points, mask_len),
                        Target::Mask(mask) => {
                            let cells = shrink(mask, self.modules.mask_prompt());
                            self.prompts.push_mask(&cells);
                        }
                    }
                }
                let (look, asked) = match points {
                    0 => (Look::Plain, Asked::Mask),
                    points => (Look::NoMemory, Asked::Points(points)),
                };
                self.prompts.all_candidates = !takes_first(&self.config.selection, asked);
                self.decode(frame, look)?;
                for (place, at) in part.iter().enumerate() {
                    let mut sighting = self.sighting(place, asked);
                    if let Target::Mask(mask) = &questions[*at].target {
                        self.give(mask, &mut sighting);
                    }
                    answers[*at] = Some(sighting);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// What is where prompts point, as far as the rules let it be an object: the place of the prompt
    /// and what was seen. `living` is followed already; `size` are width and height of the source.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn propose(
        &mut self,
        frame: &M::Frame,
        questions: &[Question],
        rules: &ProposalRules,
        living: &[Bitmap],
        size: (u32, u32),
    ) -> Result<Vec<(usize, Sighting)>, InferenceError> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let sightings = self.answer(frame, questions)?;
        let cells = self.config.geometry.mask_len() as f32;
        let pixels = size.0 as f32 * size.1 as f32;
        let proposals: Vec<Proposal> = questions
            .iter()
            .zip(&sightings)
            .map(|(question, sighting)| {
                let bitmap = Bitmap::new(&sighting.logits);
                let share = bitmap.area() as f32 / cells;
                Proposal {
                    area: share * pixels,
                    share,
                    iou: sighting.iou,
                    stability: stability(&sighting.logits, STABILITY_SHIFT),
                    asked: question.asked,
                    bitmap,
                }
            })
            .collect();
        let mut chosen = rules.choose(&proposals, living);
        // A mask that was given counts even where it is smaller than a cell.
        let given = |at: &usize| matches!(questions[*at].target, Target::Mask(_));
        chosen.extend(
            (0..questions.len()).filter(|at| given(at) && proposals[*at].bitmap.area() == 0),
        );
        let kept = sightings.into_iter().enumerate();
        Ok(kept.filter(|(at, _)| chosen.contains(at)).collect())
    }

    /// Memories of what was seen.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn remember(
        &mut self,
        frame: &M::Frame,
        seen: &[Sighting],
        from_prompt: bool,
    ) -> Result<Vec<Arc<[f32]>>, InferenceError> {
        let mut memories = Vec::with_capacity(seen.len());
        for part in seen.chunks(self.batch) {
            self.masks.begin(self.config.geometry.mask);
            for sighting in part {
                let score = sighting.object_score;
                self.masks.push(&sighting.logits, score, from_prompt);
            }
            self.encode_masks(frame, &mut memories)?;
        }
        Ok(memories)
    }

    /// The memory of a mask that was given, at the resolution of the model's input.
    ///
    /// # Errors
    /// Where inference fails.
    pub fn remember_given(
        &mut self,
        frame: &M::Frame,
        mask: &Mask,
        sighting: &Sighting,
    ) -> Result<Arc<[f32]>, InferenceError> {
        let size = [self.config.input.height, self.config.input.width];
        self.masks.begin(size);
        let cells = shrink(mask, size);
        let logits: Vec<f32> = cells.iter().map(|cell| logit(*cell)).collect();
        self.masks.push(&logits, sighting.object_score, true);
        let mut memories = Vec::with_capacity(1);
        self.encode_masks(frame, &mut memories)?;
        memories.pop().ok_or_else(|| InferenceError {
            module: "memory_encoder",
            objects: 1,
            reason: "no memory came back".into(),
        })
    }

    /// Adds the times of the calls since the last time.
    pub fn take_times(&mut self, stages: &mut Stages) {
        let times = std::mem::take(&mut self.times);
        stages.encode += times.encode;
        stages.attend += times.attend;
        stages.decode += times.decode;
        stages.remember += times.remember;
    }

    /// Takes back buffers for later.
    pub fn give_back(&mut self, seen: impl Iterator<Item = Sighting>) {
        self.spare.extend(seen.map(|sighting| sighting.logits));
        self.spare.truncate(256);
    }

    fn mask_prompt_len(&self) -> usize {
        let [height, width] = self.modules.mask_prompt();
        height * width
    }

    fn decode(
        &mut self,
        frame: &M::Frame,
        look: Look<'_, M::Conditioned>,
    ) -> Result<(), InferenceError> {
        let (modules, prompts, decoded) = (&mut self.modules, &self.prompts, &mut self.decoded);
        timed(&mut self.times.decode, || {
            modules.decode(frame, look, prompts, decoded)
        })
    }

    fn encode_masks(
        &mut self,
        frame: &M::Frame,
        memories: &mut Vec<Arc<[f32]>>,
    ) -> Result<(), InferenceError> {
        let (modules, masks) = (&mut self.modules, &self.masks);
        memories.extend(timed(&mut self.times.remember, || {
            modules.remember(frame, masks)
        })?);
        Ok(())
    }

    /// The candidate that an object of the last call is taken to be.
    fn sighting(&mut self, object: usize, asked: Asked) -> Sighting {
        let choice = self.choice(object, asked);
        self.chosen(object, choice)
    }

    fn choice(&self, object: usize, asked: Asked) -> Choice {
        let geometry = &self.config.geometry;
        let candidates = geometry.candidates;
        let per_object = geometry.mask_len() * candidates;
        let logits = &self.decoded.logits[object * per_object..][..per_object];
        let iou = &self.decoded.iou[object * candidates..][..candidates];
        choose(&self.config.selection, asked, logits, iou)
    }

    /// A candidate of an object of the last call.
    fn chosen(&mut self, object: usize, choice: Choice) -> Sighting {
        let geometry = &self.config.geometry;
        let (cells, candidates) = (geometry.mask_len(), geometry.candidates);
        let first = object * candidates;
        let object_score = self.decoded.object_score[object];
        let mut logits = self.spare.pop().unwrap_or_default();
        logits.clear();
        if object_score > 0.0 {
            let all = &self.decoded.logits;
            logits.extend_from_slice(&all[(first + choice.mask) * cells..][..cells]);
        } else {
            logits.resize(cells, NO_OBJECT);
        }
        let len = geometry.pointer_len();
        let pointer = &self.decoded.pointers[(first + choice.pointer) * len..][..len];
        Sighting {
            logits,
            pointer: pointer.into(),
            iou: self.decoded.iou[first + choice.mask],
            object_score,
        }
    }

    /// The mask that was given takes the place of what the decoder found; of that, only the pointer
    /// is used.
    fn give(&self, mask: &Mask, sighting: &mut Sighting) {
        let input = [self.config.input.height, self.config.input.width];
        let cells: Vec<f32> = shrink(mask, input).into_iter().map(logit).collect();
        resize(
            &cells,
            input,
            self.config.geometry.mask,
            &mut sighting.logits,
        );
        sighting.iou = 1.0;
        sighting.object_score = GIVEN[0];
    }
}

fn logit(cell: f32) -> f32 {
    if cell > 0.0 { GIVEN[0] } else { GIVEN[1] }
}

/// A mask at another size, 0 or 1: cells that are at least half covered (`process_new_mask`).
fn shrink(mask: &Mask, size: [usize; 2]) -> Vec<f32> {
    let bitmap: Vec<f32> = mask.to_bitmap().into_iter().map(f32::from).collect();
    let from = [mask.height() as usize, mask.width() as usize];
    if from == size {
        return bitmap;
    }
    let mut cells = Vec::new();
    resize(&bitmap, from, size, &mut cells);
    for cell in &mut cells {
        *cell = f32::from(u8::from(*cell >= 0.5));
    }
    cells
}

fn timed<T>(time: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *time += start.elapsed();
    result
}

impl MaskBatch {
    /// Empties the batch for masks of this height and width.
    pub fn begin(&mut self, size: [usize; 2]) {
        self.objects = 0;
        self.size = size;
        self.logits.clear();
        self.object_score.clear();
        self.from_prompt.clear();
    }

    /// Adds a mask.
    pub fn push(&mut self, logits: &[f32], object_score: f32, from_prompt: bool) {
        self.objects += 1;
        self.logits.extend_from_slice(logits);
        self.object_score.push(object_score);
        self.from_prompt.push(f32::from(u8::from(from_prompt)));
    }
}
