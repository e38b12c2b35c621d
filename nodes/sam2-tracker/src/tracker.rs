//! The loop: a frame and its prompts in, the objects on it out.
//!
//! After the SAM 2 video predictor (Ravi et al. 2024; `Sam2VideoModel` of the `transformers` library
//! is what the golden tests compare with). Each frame is encoded once; all its objects go through
//! memory attention, decoder and memory encoder together. Nothing of a frame is kept before all of
//! it has worked, so a failed inference can be tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracklens_schemas::{FrameId, Image, Mask, Prompt, StreamId, Track, TrackId, TracksStatus};

use crate::memory_tree::{self, Remembered, Rival, Step, TreeRules};
use crate::object::Object;
use crate::stream::{Correction, PastFrame, StreamState};
use tracklens_sam2::Stages;
use tracklens_sam2::bitmap::{Bitmap, CleanUp, Regions};
use tracklens_sam2::mask::MaskPainter;
use tracklens_sam2::memory_bank::{MemoryBank, Shown};
use tracklens_sam2::model_folder::{MemoryRules, ModelConfig};
use tracklens_sam2::modules::{InferenceError, Modules};
use tracklens_sam2::preprocess::{ColourMatrix, Preprocessor};
use tracklens_sam2::prompt::{PromptError, Question, Target};
use tracklens_sam2::proposals::ProposalRules;
use tracklens_sam2::reach::Reach;
use tracklens_sam2::sighting::{Observer, Sighting};

/// Cells of the reference's masks, 256×256, for which its clean-up limit is given.
const REFERENCE_CELLS: usize = 256 * 256;
/// Frames in a row after which the younger of two equal objects is let go.
const DOUBLED_FRAMES: u32 = 3;

/// How objects are followed.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackerSettings {
    /// How good a proposed mask must be.
    pub proposals: ProposalRules,
    /// Most objects of a stream.
    pub max_objects: usize,
    /// Hypotheses of where an object is.
    pub tree: TreeRules,
    /// Frames without sight after which an object is forgotten.
    pub lost_frames: u32,
    /// Overlap (IoU) from which two objects are the same; above 1: never.
    pub duplicate_iou: f32,
    /// A pixel belongs to one object at most.
    pub exclusive: bool,
    /// Holes and specks of so many cells of a 256×256 mask are cleaned up.
    pub clean_cells: usize,
    /// Frames that late prompts may ask about.
    pub past_frames: usize,
    /// Further attempts after a failed inference.
    pub retries: u32,
    /// Pause before each.
    pub retry_delay: Duration,
    /// Most objects in one call of a module; 0: as many as fit in half a gigabyte of attention.
    pub max_batch: usize,
    /// The colours of the videos.
    pub colour: ColourMatrix,
    /// First id of a stream.
    pub first_id: u32,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self {
            proposals: ProposalRules::default(),
            max_objects: 50,
            tree: TreeRules::default(),
            lost_frames: 25,
            duplicate_iou: 0.8,
            exclusive: true,
            clean_cells: 8,
            past_frames: 0,
            retries: 2,
            retry_delay: Duration::from_millis(100),
            max_batch: 0,
            colour: ColourMatrix::default(),
            first_id: 1,
        }
    }
}

/// What became of a frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Whether it worked.
    pub status: TracksStatus,
    /// The objects, by id.
    pub tracks: Vec<Track>,
    /// Objects that began.
    pub begun: Vec<TrackId>,
    /// Good masks for which there was no room.
    pub refused: usize,
    /// Prompts that cannot be used.
    pub bad_prompts: Vec<PromptError>,
    /// Why it did not work.
    pub error: Option<InferenceError>,
    /// Where the time went.
    pub stages: Stages,
}

/// What became of prompts that came late.
#[derive(Clone, Debug, PartialEq)]
pub enum Late {
    /// Their frame is too old.
    Forgotten,
    /// Objects that began, on their frame, and were followed to now.
    Begun {
        /// The objects.
        objects: Vec<TrackId>,
        /// Good masks for which there was no room.
        refused: usize,
        /// Prompts that cannot be used.
        bad_prompts: Vec<PromptError>,
    },
}

/// An object that a prompt shows.
struct Newborn {
    sighting: Sighting,
    /// The prompt's own mask.
    given: Option<Mask>,
    memory: Arc<[f32]>,
}

/// What was seen of an object.
enum Seen {
    /// Where its memories say it is, and where else it could be.
    Followed {
        best: Remembered,
        rivals: Vec<Remembered>,
    },
    /// Where it was asked for anew.
    Corrected(Newborn),
}

/// Everything that the modules have said about a frame.
struct Worked<F> {
    features: F,
    /// Of every object: what was seen.
    seen: Vec<Seen>,
    newborn: Vec<Newborn>,
}

/// Follows objects in any number of streams.
pub struct Tracker<M: Modules> {
    observer: Observer<M>,
    settings: TrackerSettings,
    preprocessor: Preprocessor,
    painter: MaskPainter,
    clean_up: CleanUp,
    regions: Regions,
    streams: HashMap<StreamId, StreamState<M::Frame>>,
}

impl<M: Modules> Tracker<M> {
    /// A tracker with a model.
    #[must_use]
    pub fn new(modules: M, config: ModelConfig, settings: TrackerSettings) -> Self {
        Self {
            preprocessor: Preprocessor::new(&config.input, settings.colour),
            observer: Observer::new(modules, config, settings.max_batch),
            settings,
            painter: MaskPainter::default(),
            clean_up: CleanUp::default(),
            regions: Regions::default(),
            streams: HashMap::new(),
        }
    }

    /// The model's description.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.observer.config
    }

    /// The states of all streams.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamId, &StreamState<M::Frame>)> {
        self.streams.iter()
    }

    /// Takes over a stream's state.
    pub fn restore(&mut self, stream: StreamId, state: StreamState<M::Frame>) {
        self.streams.insert(stream, state);
    }

    /// Goes on with another model, to which the memories made by this one mean nothing: on the next
    /// frame of each stream, every object in sight is asked for by its last mask and keeps its id;
    /// those out of sight are forgotten. Late prompts for frames before that are too late.
    pub fn switch(&mut self, modules: M, config: ModelConfig) {
        self.preprocessor = Preprocessor::new(&config.input, self.settings.colour);
        self.observer = Observer::new(modules, config, self.settings.max_batch);
        for state in self.streams.values_mut() {
            state.past.clear();
            state.sightings.clear();
            for object in &mut state.objects {
                object.bank = MemoryBank::default();
                object.rivals.clear();
            }
        }
    }

    /// Forgets the objects of a stream that ended; its ids are never used again.
    pub fn release(&mut self, stream: &StreamId) {
        if let Some(state) = self.streams.get_mut(stream) {
            state.reopen(state.epoch);
        }
    }

    /// The id that a stream's next object gets is at least this.
    pub fn reserve_ids(&mut self, first_id: u32) {
        self.settings.first_id = self.settings.first_id.max(first_id);
        for state in self.streams.values_mut() {
            state.next_id = state.next_id.max(first_id);
        }
    }

    /// Objects that a stream has now.
    #[must_use]
    pub fn active(&self, stream: &StreamId) -> usize {
        self.streams.get(stream).map_or(0, |s| s.objects.len())
    }

    /// Paths that the memory trees of a stream's objects have now.
    #[must_use]
    pub fn paths(&self, stream: &StreamId) -> usize {
        let state = self.streams.get(stream);
        state.map_or(0, |s| s.objects.iter().map(|o| 1 + o.rivals.len()).sum())
    }

    /// Works on the next frame of a stream. Prompts that cannot be used are named, and the frame is
    /// tracked all the same; where inference fails for good, the last good rows are repeated.
    pub fn track(&mut self, id: &FrameId, image: &Image<'_>, prompts: &[Prompt]) -> Outcome {
        self.track_corrected(id, image, prompts, &[])
    }

    /// The same, with prompts for objects that are followed already: their frame becomes a
    /// conditioning frame.
    pub fn track_corrected(
        &mut self,
        id: &FrameId,
        image: &Image<'_>,
        prompts: &[Prompt],
        corrections: &[Correction],
    ) -> Outcome {
        let mut state = self.take_state(id);
        let size = (image.info.source_width, image.info.source_height);
        let mut outcome = Outcome::default();
        let questions = self.questions(prompts, size, &mut outcome.bad_prompts);
        let again = state.ask_again(size);
        let mut corrected: Vec<(usize, Question)> = Vec::new();
        for correction in again.iter().chain(corrections) {
            let place = state.objects.iter().position(|o| o.id == correction.object);
            let prompt = std::slice::from_ref(&correction.prompt);
            let question = self.questions(prompt, size, &mut outcome.bad_prompts).pop();
            corrected.extend(place.zip(question));
        }
        let start = Instant::now();
        self.preprocessor.run(image);
        outcome.stages.preprocess = start.elapsed();
        let worked = self.attempt(|tracker| tracker.work(&state, &questions, &corrected, size));
        match worked {
            Ok(worked) => self.commit(&mut state, id, worked, size, &mut outcome),
            Err(error) => {
                outcome.status = match &state.rows {
                    Some(_) => TracksStatus::Held,
                    None => TracksStatus::Failed,
                };
                outcome.tracks = state.rows.clone().unwrap_or_default();
                outcome.error = Some(error);
                state.step += 1;
            }
        }
        self.observer.take_times(&mut outcome.stages);
        self.streams.insert(id.stream.clone(), state);
        outcome
    }

    /// Applies prompts on a frame that has been worked on already, and brings the objects that
    /// begin there forward to now through the features kept.
    ///
    /// # Errors
    /// Where inference fails: nothing has begun.
    pub fn late(&mut self, id: &FrameId, prompts: &[Prompt]) -> Result<Late, InferenceError> {
        let Some(mut state) = self.streams.remove(&id.stream) else {
            return Ok(Late::Forgotten);
        };
        let late = self.begin_late(&mut state, id, prompts);
        self.streams.insert(id.stream.clone(), state);
        late
    }

    fn begin_late(
        &mut self,
        state: &mut StreamState<M::Frame>,
        id: &FrameId,
        prompts: &[Prompt],
    ) -> Result<Late, InferenceError> {
        let known = state.past.iter().position(|past| past.frame == id.frame);
        let (Some(place), true) = (known, state.epoch == id.epoch) else {
            return Ok(Late::Forgotten);
        };
        let past = &state.past[place];
        let mut bad_prompts = Vec::new();
        let questions = self.questions(prompts, past.size, &mut bad_prompts);
        let newborn = self.newborn(&past.features, &questions, &past.living, past.size)?;
        let rules = self.observer.config.memory;
        let mut banks: Vec<MemoryBank> = newborn
            .into_iter()
            .map(|newborn| newborn.bank(past.step, &rules))
            .collect();
        for past in state.past.iter().skip(place + 1) {
            let shown: Vec<Shown<'_>> = banks.iter().map(|b| b.show(past.step, &rules)).collect();
            let seen = self.observer.observe(&past.features, &shown)?;
            let memories = self.observer.remember(&past.features, &seen, false)?;
            for ((bank, sighting), memory) in banks.iter_mut().zip(seen).zip(memories) {
                bank.push(sighting.memory(past.step, memory), &rules);
            }
        }
        let age = (state.past.len() - 1 - place) as u32;
        let (mut objects, mut refused) = (Vec::new(), 0);
        for bank in banks {
            match self.begin(state, bank) {
                Some(id) => {
                    if let Some(object) = state.objects.last_mut() {
                        object.age = age + 1;
                    }
                    objects.push(id);
                }
                None => refused += 1,
            }
        }
        Ok(Late::Begun {
            objects,
            refused,
            bad_prompts,
        })
    }

    fn take_state(&mut self, id: &FrameId) -> StreamState<M::Frame> {
        let mut state = self
            .streams
            .remove(&id.stream)
            .unwrap_or_else(|| StreamState::new(id.epoch, self.settings.first_id));
        if state.epoch != id.epoch {
            state.reopen(id.epoch);
        }
        state
    }

    fn questions(
        &self,
        prompts: &[Prompt],
        size: (u32, u32),
        bad: &mut Vec<PromptError>,
    ) -> Vec<Question> {
        let input = &self.observer.config.input;
        let mut questions = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            match Question::new(prompt, size, (input.width, input.height)) {
                Ok(question) => questions.push(question),
                Err(error) => bad.push(error),
            }
        }
        questions
    }

    /// Tries until it works or the attempts are used up.
    fn attempt<T>(
        &mut self,
        work: impl Fn(&mut Self) -> Result<T, InferenceError>,
    ) -> Result<T, InferenceError> {
        let mut left = self.settings.retries;
        loop {
            match work(self) {
                Err(error) if left > 0 => {
                    tracing::debug!(%error, left, "inference failed, trying again");
                    left -= 1;
                    std::thread::sleep(self.settings.retry_delay);
                }
                result => return result,
            }
        }
    }

    /// Everything that can fail about a frame; changes no state of the stream.
    fn work(
        &mut self,
        state: &StreamState<M::Frame>,
        questions: &[Question],
        corrected: &[(usize, Question)],
        size: (u32, u32),
    ) -> Result<Worked<M::Frame>, InferenceError> {
        let features = self.observer.encode(self.preprocessor.tensor())?;
        let is_corrected = |at: &usize| corrected.iter().any(|(corrected, _)| corrected == at);
        let followed: Vec<usize> = (0..state.objects.len())
            .filter(|at| !is_corrected(at))
            .collect();
        let grown = self.grow(&features, state, &followed, size)?;
        let paths: Vec<usize> = grown.iter().map(Vec::len).collect();
        let (ways, sightings): (Vec<(usize, f32)>, Vec<Sighting>) = grown
            .into_iter()
            .flatten()
            .map(|step| ((step.from, step.score), step.sighting))
            .unzip();
        let memories = self.observer.remember(&features, &sightings, false)?;
        let steps = ways.into_iter().zip(sightings).zip(memories);
        let mut steps = steps.map(|(((from, score), sighting), memory)| Remembered {
            from,
            score,
            sighting,
            memory,
        });
        let mut paths = paths.into_iter();
        let mut all = Vec::with_capacity(state.objects.len());
        for at in 0..state.objects.len() {
            if let Some((_, question)) = corrected.iter().find(|(corrected, _)| *corrected == at) {
                let answers = self.answers(&features, std::slice::from_ref(question))?;
                all.extend(answers.into_iter().map(Seen::Corrected));
            } else if let Some(best) = steps.next() {
                let rivals = paths.next().unwrap_or(1).saturating_sub(1);
                let rivals = steps.by_ref().take(rivals).collect();
                all.push(Seen::Followed { best, rivals });
            }
        }
        let newborn = match questions.is_empty() {
            true => Vec::new(),
            false => {
                let logits = all.iter().map(|seen| &seen.sighting().logits);
                let living: Vec<Bitmap> = logits.map(|logits| Bitmap::new(logits)).collect();
                self.newborn(&features, questions, &living, size)?
            }
        };
        Ok(Worked {
            features,
            seen: all,
            newborn,
        })
    }

    /// The paths of the objects at these places, as they go on through the frame.
    fn grow(
        &mut self,
        features: &M::Frame,
        state: &StreamState<M::Frame>,
        followed: &[usize],
        size: (u32, u32),
    ) -> Result<Vec<Vec<Step>>, InferenceError> {
        let rules = self.observer.config.memory;
        let tree = self.settings.tree;
        let mut shown: Vec<Shown<'_>> = Vec::with_capacity(followed.len());
        for at in followed {
            let object = &state.objects[*at];
            shown.push(object.bank.show(state.step, &rules));
            shown.extend(
                object
                    .rivals
                    .iter()
                    .map(|r| r.bank.show(state.step, &rules)),
            );
        }
        let mut seen: Vec<Vec<Sighting>> = match tree.branches {
            0 | 1 => {
                let seen = self.observer.observe(features, &shown)?;
                seen.into_iter().map(|sighting| vec![sighting]).collect()
            }
            _ => self.observer.observe_all(features, &shown)?,
        };
        self.hold(state, followed, &mut seen, size);
        let mut seen = seen.into_iter();
        let mut spare = Vec::new();
        let grown = followed.iter().map(|at| {
            let rivals = &state.objects[*at].rivals;
            let scores: Vec<f32> = std::iter::once(0.0)
                .chain(rivals.iter().map(|rival| rival.score))
                .collect();
            let candidates = seen.by_ref().take(scores.len()).collect();
            memory_tree::grow(&tree, &scores, candidates, &mut spare)
        });
        let grown = grown.collect();
        self.observer.give_back(spare.into_iter());
        Ok(grown)
    }

    /// Keeps of masks what their objects can be, where the model says how far that is. `seen` are the
    /// candidates of every path of the objects at the places `followed`.
    fn hold(
        &mut self,
        state: &StreamState<M::Frame>,
        followed: &[usize],
        seen: &mut [Vec<Sighting>],
        size: (u32, u32),
    ) {
        let config = &self.observer.config;
        let Some(share) = config.selection.reach else {
            return;
        };
        let cells = config.geometry.mask;
        let mut taken = vec![0_u16; config.geometry.mask_len()];
        for (_, sighting) in &state.sightings {
            for (cell, logit) in taken.iter_mut().zip(&sighting.logits) {
                *cell += u16::from(*logit > 0.0);
            }
        }
        let mut seen = seen.iter_mut();
        for at in followed {
            let object = &state.objects[*at];
            let last = state.sightings.get(*at).filter(|(id, _)| *id == object.id);
            let last = last.map_or(&[][..], |(_, sighting)| &sighting.logits);
            let best = (last, &object.bbox, object.missed);
            let rivals = object
                .rivals
                .iter()
                .map(|r| (&r.last[..], &r.bbox, r.missed));
            for (last, bbox, missed) in std::iter::once(best).chain(rivals) {
                let candidates = seen.next().into_iter().flatten();
                if !object.published {
                    // Begun by a late prompt: where it has got to since is not known.
                    continue;
                }
                let reach = Reach::new(bbox, object.usual_area, missed, size, cells, share);
                for sighting in candidates {
                    if !reach.keep(&mut sighting.logits, last, &taken, &mut self.regions) {
                        sighting.object_score = sighting.object_score.min(-1.0);
                    }
                }
            }
        }
    }

    /// The objects that prompts show, those that are good enough.
    fn newborn(
        &mut self,
        features: &M::Frame,
        questions: &[Question],
        living: &[Bitmap],
        size: (u32, u32),
    ) -> Result<Vec<Newborn>, InferenceError> {
        let rules = &self.settings.proposals;
        let kept = self
            .observer
            .propose(features, questions, rules, living, size)?;
        let kept = kept
            .into_iter()
            .map(|(at, sighting)| (&questions[at], sighting))
            .collect();
        self.remembered(features, kept)
    }

    /// What questions show, remembered.
    fn answers(
        &mut self,
        features: &M::Frame,
        questions: &[Question],
    ) -> Result<Vec<Newborn>, InferenceError> {
        let sightings = self.observer.answer(features, questions)?;
        self.remembered(features, questions.iter().zip(sightings).collect())
    }

    /// Adds memories: masks that were given one by one at the resolution of the model's input, all
    /// others together.
    fn remembered(
        &mut self,
        features: &M::Frame,
        answers: Vec<(&Question, Sighting)>,
    ) -> Result<Vec<Newborn>, InferenceError> {
        let (given, asked): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .enumerate()
            .partition(|(_, (question, _))| matches!(question.target, Target::Mask(_)));
        let mut all: Vec<(usize, Newborn)> = Vec::new();
        for (at, (question, sighting)) in given {
            if let Target::Mask(mask) = &question.target {
                let memory = self.observer.remember_given(features, mask, &sighting)?;
                let given = Some(mask.clone());
                all.push((
                    at,
                    Newborn {
                        sighting,
                        given,
                        memory,
                    },
                ));
            }
        }
        let (places, sightings): (Vec<usize>, Vec<Sighting>) = asked
            .into_iter()
            .map(|(at, (_, sighting))| (at, sighting))
            .unzip();
        let memories = self.observer.remember(features, &sightings, true)?;
        let asked = places.into_iter().zip(sightings).zip(memories);
        all.extend(asked.map(|((at, sighting), memory)| {
            (
                at,
                Newborn {
                    sighting,
                    given: None,
                    memory,
                },
            )
        }));
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, newborn)| newborn).collect())
    }

    /// Gives an object an id, if there is room.
    fn begin(&self, state: &mut StreamState<M::Frame>, bank: MemoryBank) -> Option<TrackId> {
        if !state.make_room(self.settings.max_objects) {
            return None;
        }
        let id = state.take_id()?;
        state.objects.push(Object::new(id, bank));
        Some(id)
    }

    /// Takes what worked into the stream's state, and publishes it.
    fn commit(
        &mut self,
        state: &mut StreamState<M::Frame>,
        id: &FrameId,
        worked: Worked<M::Frame>,
        size: (u32, u32),
        outcome: &mut Outcome,
    ) {
        let rules = self.observer.config.memory;
        let mut looks: Vec<(Sighting, Option<Mask>)> = Vec::new();
        let cells = self.observer.config.geometry.mask;
        for (object, seen) in state.objects.iter_mut().zip(worked.seen) {
            looks.push(match seen {
                Seen::Corrected(answer) => {
                    let memory = answer.sighting.memory(state.step, answer.memory);
                    object.bank.condition(memory, &rules);
                    object.rivals.clear();
                    (answer.sighting, answer.given)
                }
                Seen::Followed { best, rivals } => {
                    let rivals = rivals.into_iter();
                    let rivals: Vec<Rival> = rivals
                        .map(|rival| rival.goes_on(object, state.step, &rules, cells, size))
                        .collect();
                    if let Some(rival) = best.from.checked_sub(1).map(|at| &object.rivals[at]) {
                        object.bank = rival.bank.clone();
                    }
                    let memory = best.sighting.memory(state.step, best.memory);
                    object.bank.push(memory, &rules);
                    object.rivals = rivals;
                    (best.sighting, None)
                }
            });
            object.age = object.age.saturating_add(1);
        }
        for newborn in worked.newborn {
            let bank = newborn.bank(state.step, &rules);
            let before = state.objects.len();
            let room = self.lost_place(state);
            match self.begin(state, bank) {
                Some(id) => {
                    if state.objects.len() == before
                        && let Some(at) = room
                    {
                        looks.remove(at);
                    }
                    outcome.begun.push(id);
                    looks.push((newborn.sighting, newborn.given));
                }
                None => outcome.refused += 1,
            }
        }
        let start = Instant::now();
        outcome.tracks = self.publish(state, &mut looks, size);
        outcome.stages.masks = start.elapsed();
        let living = match self.settings.past_frames {
            0 => Vec::new(),
            _ => looks.iter().map(|(s, _)| Bitmap::new(&s.logits)).collect(),
        };
        let looks = looks.into_iter().map(|(sighting, _)| sighting);
        let looks = state
            .objects
            .iter()
            .map(|object| object.id)
            .zip(looks)
            .collect();
        let before = std::mem::replace(&mut state.sightings, looks);
        self.observer
            .give_back(before.into_iter().map(|(_, sighting)| sighting));
        let past = PastFrame {
            frame: id.frame,
            step: state.step,
            size,
            features: worked.features,
            living,
        };
        state.keep(past, self.settings.past_frames);
        state.rows = Some(outcome.tracks.clone());
        state.step += 1;
    }

    /// The object that would make room for a new one.
    fn lost_place(&self, state: &StreamState<M::Frame>) -> Option<usize> {
        let full = state.objects.len() >= self.settings.max_objects;
        full.then(|| state.longest_lost()).flatten()
    }

    /// Rows of all objects; those that are gone, or twice there, are let go.
    fn publish(
        &mut self,
        state: &mut StreamState<M::Frame>,
        looks: &mut Vec<(Sighting, Option<Mask>)>,
        size: (u32, u32),
    ) -> Vec<Track> {
        let doubles = self.doubles(state, looks);
        let mut keep = doubles.iter().map(|double| !double);
        looks.retain(|_| keep.next().unwrap_or(true));
        let mut keep = doubles.iter().map(|double| !double);
        state.objects.retain(|_| keep.next().unwrap_or(true));

        let cells = self.observer.config.geometry.mask;
        let limit = self.settings.clean_cells * cells[0] * cells[1];
        let limit = limit.div_ceil(REFERENCE_CELLS);
        for (sighting, _) in looks.iter_mut() {
            self.clean_up.run(&mut sighting.logits, cells, limit);
        }
        let logits: Vec<&[f32]> = looks.iter().map(|(s, _)| s.logits.as_slice()).collect();
        let masks = self
            .painter
            .paint(&logits, cells, size, self.settings.exclusive);
        let tracks: Vec<Track> = state
            .objects
            .iter_mut()
            .zip(looks.iter_mut())
            .zip(masks)
            .map(|((object, (sighting, given)), mask)| {
                object.publish(given.take().unwrap_or(mask), sighting.iou)
            })
            .collect();
        let lost_frames = self.settings.lost_frames;
        let mut stays = Vec::with_capacity(state.objects.len());
        state.objects.retain(|object| {
            stays.push(object.missed <= lost_frames);
            object.missed <= lost_frames
        });
        let mut stay = stays.iter().copied();
        looks.retain(|_| stay.next().unwrap_or(true));
        // An object that is forgotten on this frame has no row of its own any more.
        let mut stay = stays.into_iter();
        tracks
            .into_iter()
            .filter(|_| stay.next().unwrap_or(true))
            .collect()
    }

    /// Which objects have been the same as an older one for too long.
    fn doubles(
        &self,
        state: &mut StreamState<M::Frame>,
        looks: &[(Sighting, Option<Mask>)],
    ) -> Vec<bool> {
        let mut doubles = vec![false; looks.len()];
        if self.settings.duplicate_iou > 1.0 || looks.len() < 2 {
            return doubles;
        }
        let bitmaps: Vec<Bitmap> = looks.iter().map(|(s, _)| Bitmap::new(&s.logits)).collect();
        for younger in 1..looks.len() {
            let same = (0..younger)
                .filter(|older| !doubles[*older])
                .any(|older| bitmaps[older].iou(&bitmaps[younger]) >= self.settings.duplicate_iou);
            let object = &mut state.objects[younger];
            object.doubled = if same { object.doubled + 1 } else { 0 };
            doubles[younger] = object.doubled >= DOUBLED_FRAMES;
        }
        doubles
    }
}

impl Seen {
    fn sighting(&self) -> &Sighting {
        match self {
            Self::Followed { best, .. } => &best.sighting,
            Self::Corrected(answer) => &answer.sighting,
        }
    }
}

impl Newborn {
    fn bank(&self, step: u64, rules: &MemoryRules) -> MemoryBank {
        let mut bank = MemoryBank::default();
        bank.condition(self.sighting.memory(step, self.memory.clone()), rules);
        bank
    }
}
