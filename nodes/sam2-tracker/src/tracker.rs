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
use crate::recognition::{self, Missed, Newcomer};
use crate::stream::{Admitted, Correction, PastFrame, StreamState};
use tracklens_sam2::Stages;
use tracklens_sam2::appearance::{Appearance, Scene};
use tracklens_sam2::bitmap::{Bitmap, CleanUp, Regions};
use tracklens_sam2::mask::MaskPainter;
use tracklens_sam2::memory_bank::{MemoryBank, Shown};
use tracklens_sam2::model_folder::{MemoryRules, ModelConfig};
use tracklens_sam2::modules::{Ahead, InferenceError, Modules};
use tracklens_sam2::preprocess::{ColourMatrix, Preprocessor};
use tracklens_sam2::prompt::{PromptError, Question, Target};
use tracklens_sam2::proposals::ProposalRules;
use tracklens_sam2::reach::Reach;
use tracklens_sam2::sighting::{Observer, Sighting};

/// Frames between two looks at what an object looks like.
const APPEARANCE_INTERVAL: u64 = 5;
/// Logit of a mask that is not the object's.
const BEYOND: f32 = -10.0;

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
    /// Frames since it was last seen for which a forgotten object gets its id back when it is found
    /// again, where the model makes out what objects look like; 0: never.
    pub return_frames: u64,
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
            return_frames: 250,
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
    /// Objects that were out of sight, or forgotten, and were found by a prompt.
    pub returned: Vec<TrackId>,
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
        /// Objects that came back, likewise.
        returned: Vec<TrackId>,
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
    appearance: Option<Appearance>,
    /// The object that it is, where it has been seen before.
    name: Option<TrackId>,
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
struct Worked {
    /// Of every object: what was seen.
    seen: Vec<Seen>,
    /// Of every object: what it looks like, as far as that was asked.
    appearances: Vec<Option<Appearance>>,
    newborn: Vec<Newborn>,
}

/// Follows objects in any number of streams.
pub struct Tracker<M: Modules> {
    pub(crate) observer: Observer<M>,
    pub(crate) settings: TrackerSettings,
    preprocessor: Preprocessor,
    pub(crate) painter: MaskPainter,
    pub(crate) clean_up: CleanUp,
    regions: Regions,
    streams: HashMap<StreamId, StreamState<M::Frame>>,
    /// Frames that are encoded before their turn.
    ahead: HashMap<FrameId, (Ahead<M::Frame>, Duration)>,
    /// Tensors to be filled again.
    spare: Vec<Vec<f32>>,
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
            ahead: HashMap::new(),
            spare: Vec::new(),
        }
    }

    /// Begins to encode a frame whose turn will come; [`track`](Self::track) then needs no pixels of it.
    /// A switch to another model forgets it.
    pub fn prepare(&mut self, id: &FrameId, image: &Image<'_>) {
        let start = Instant::now();
        self.preprocessor.run(image);
        let tensor = self.preprocessor.take(self.spare.pop().unwrap_or_default());
        let took = start.elapsed();
        let ahead = self.observer.encode_ahead(tensor);
        self.ahead.insert(id.clone(), (ahead, took));
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
        self.ahead.clear();
        self.observer = Observer::new(modules, config, self.settings.max_batch);
        for state in self.streams.values_mut() {
            state.past.clear();
            state.sightings.clear();
            for object in &mut state.objects {
                object.bank = MemoryBank::default();
                object.rivals.clear();
                object.appearance = None;
            }
            state.departed.clear();
        }
    }

    /// A scene begins on a stream's next frame: of its objects, only those go on that look like
    /// themselves, and the others are out of sight until they are found again. Does nothing where
    /// the model does not make out what objects look like.
    pub fn begin_scene(&mut self, stream: &StreamId) {
        if self.observer.config.selection.similarity.is_none() {
            return;
        }
        if let Some(state) = self.streams.get_mut(stream) {
            let known = state.objects.iter_mut();
            known
                .filter(|object| object.appearance.is_some())
                .for_each(Object::doubt);
        }
    }

    /// For how long forgotten objects are known.
    pub(crate) fn return_frames(&self) -> u64 {
        match self.observer.config.selection.similarity {
            Some(_) => self.settings.return_frames,
            None => 0,
        }
    }

    /// Forgets the objects of a stream that ended; its ids are never used again.
    pub fn release(&mut self, stream: &StreamId) {
        if let Some(state) = self.streams.get_mut(stream) {
            state.reopen(state.epoch);
        }
        self.ahead.retain(|id, _| id.stream != *stream);
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
        let worked = self
            .features(id, image, &mut outcome.stages)
            .and_then(|features| {
                let work = |tracker: &mut Self| {
                    tracker.work(&features, &state, &questions, &corrected, size)
                };
                let worked = self.attempt(work)?;
                Ok((features, worked))
            });
        match worked {
            Ok((features, worked)) => {
                self.commit(&mut state, id, (features, worked), size, &mut outcome);
            }
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

    /// The features of a frame: those prepared, or made now.
    fn features(
        &mut self,
        id: &FrameId,
        image: &Image<'_>,
        stages: &mut Stages,
    ) -> Result<M::Frame, InferenceError> {
        if !self.ahead.contains_key(id) {
            if image.data.len() < image.info.byte_len() {
                return Err(InferenceError {
                    module: "image_encoder",
                    objects: 1,
                    reason: "the frame was prepared for another model".into(),
                });
            }
            self.prepare(id, image);
        }
        let later = |other: &FrameId| {
            other.stream != id.stream || (other.epoch, other.frame) >= (id.epoch, id.frame)
        };
        self.ahead.retain(|other, _| later(other));
        let gone = InferenceError {
            module: "image_encoder",
            objects: 1,
            reason: "nothing was prepared".into(),
        };
        let (ahead, took) = self.ahead.remove(id).ok_or(gone)?;
        stages.preprocess = took;
        let encoded = self.observer.encoded(ahead)?;
        let mut frame = encoded.frame;
        for _ in 0..self.settings.retries {
            if frame.is_ok() {
                break;
            }
            std::thread::sleep(self.settings.retry_delay);
            frame = self.observer.encode(&encoded.pixels);
        }
        self.spare.push(encoded.pixels);
        frame
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
        let mut newborn = self.newborn(&past.features, &questions, &past.living, past.size)?;
        let hidden = |at: usize| state.objects[at].missed > 0;
        let missed = state.missed(past.step, self.return_frames(), hidden);
        self.recognise(&past.features, &missed, &mut newborn, past.size)?;
        let rules = self.observer.config.memory;
        let names: Vec<Option<TrackId>> = newborn.iter().map(|newborn| newborn.name).collect();
        let mut banks: Vec<MemoryBank> = newborn
            .into_iter()
            .map(|newborn| newborn.bank(past.step, &rules))
            .collect();
        for past in state.past.iter().skip(place + 1) {
            let shown: Vec<Shown<'_>> = banks.iter().map(|b| b.show(past.step, &rules)).collect();
            let seen = self.observer.observe(&past.features, &shown)?;
            let memories = self.observer.remember(&past.features, &seen, false)?;
            for ((bank, sighting), memory) in banks.iter_mut().zip(seen).zip(memories) {
                bank.push(sighting.memory(past.step, memory, &rules), &rules);
            }
        }
        let age = (state.past.len() - 1 - place) as u32;
        let (mut objects, mut returned, mut refused) = (Vec::new(), Vec::new(), 0);
        for (bank, name) in banks.into_iter().zip(names) {
            let living = state
                .objects
                .iter_mut()
                .find(|object| Some(object.id) == name);
            if let Some(object) = living {
                object.come_back(bank);
                returned.push(object.id);
                continue;
            }
            match self.admit(state, bank, name) {
                Some(admitted) => {
                    state.objects[admitted.at].age = age + 1;
                    match name {
                        Some(id) => returned.push(id),
                        None => objects.push(admitted.id),
                    }
                }
                None => refused += 1,
            }
        }
        Ok(Late::Begun {
            objects,
            returned,
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
        features: &M::Frame,
        state: &StreamState<M::Frame>,
        questions: &[Question],
        corrected: &[(usize, Question)],
        size: (u32, u32),
    ) -> Result<Worked, InferenceError> {
        let is_corrected = |at: &usize| corrected.iter().any(|(corrected, _)| corrected == at);
        let followed: Vec<usize> = (0..state.objects.len())
            .filter(|at| !is_corrected(at))
            .collect();
        let mut grown = self.grow(features, state, &followed, size)?;
        self.doubt(features, state, &followed, &mut grown)?;
        let paths: Vec<usize> = grown.iter().map(Vec::len).collect();
        let (ways, sightings): (Vec<(usize, f32)>, Vec<Sighting>) = grown
            .into_iter()
            .flatten()
            .map(|step| ((step.from, step.score), step.sighting))
            .unzip();
        let memories = self.observer.remember(features, &sightings, false)?;
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
                let answers = self.answers(features, std::slice::from_ref(question))?;
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
                let mut newborn = self.newborn(features, questions, &living, size)?;
                let hidden = |at: usize| living[at].area() == 0;
                let missed = state.missed(state.step, self.return_frames(), hidden);
                self.recognise(features, &missed, &mut newborn, size)?;
                newborn
            }
        };
        let appearances = self.appearances(features, state, &all)?;
        Ok(Worked {
            seen: all,
            appearances,
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
        let mut spare = Vec::new();
        let firsts = match tree.branches {
            0 | 1 => Vec::new(),
            _ => self.keep_course(state, followed, &mut seen, size, &mut spare),
        };
        let mut seen = seen.into_iter();
        let grown = followed.iter().enumerate().map(|(which, at)| {
            let rivals = &state.objects[*at].rivals;
            let scores: Vec<f32> = std::iter::once(0.0)
                .chain(rivals.iter().map(|rival| rival.score))
                .collect();
            let candidates = seen.by_ref().take(scores.len()).collect();
            let others = firsts.iter().enumerate();
            let others: Vec<&Bitmap> = others
                .filter(|(other, _)| *other != which)
                .map(|(_, bitmap)| bitmap)
                .collect();
            memory_tree::grow(&tree, &scores, candidates, &others, &mut spare)
        });
        let grown = grown.collect();
        self.observer.give_back(spare.into_iter());
        Ok(grown)
    }

    /// Takes away the candidates that plain tracking would not take and that are off their object's
    /// course. Returns what plain tracking would take of each object.
    fn keep_course(
        &self,
        state: &StreamState<M::Frame>,
        followed: &[usize],
        seen: &mut [Vec<Sighting>],
        size: (u32, u32),
        spare: &mut Vec<Sighting>,
    ) -> Vec<Bitmap> {
        let cells = self.observer.config.geometry.mask;
        let mut firsts = Vec::with_capacity(followed.len());
        let mut seen = seen.iter_mut();
        for at in followed {
            let object = &state.objects[*at];
            let rivals = object.rivals.iter().map(|r| (&r.bbox, r.missed));
            let paths = std::iter::once((&object.bbox, object.missed)).chain(rivals);
            for (path, (last, missed)) in paths.enumerate() {
                let Some(candidates) = seen.next() else { break };
                let plain = match path {
                    0 => candidates.drain(..candidates.len().min(1)).next(),
                    _ => None,
                };
                let gone = candidates.extract_if(.., |sighting| {
                    let now = memory_tree::bounds(&sighting.logits, cells, size);
                    now.is_some_and(|now| {
                        !memory_tree::on_course(last, object.velocity, missed, &now)
                    })
                });
                spare.extend(gone);
                if let Some(plain) = plain {
                    firsts.push(Bitmap::new(&plain.logits));
                    candidates.insert(0, plain);
                }
            }
        }
        firsts
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
            let last = state.sighting(object.id);
            let last = last.map_or(&[][..], |sighting| &sighting.logits);
            let best = (last, &object.bbox, object.missed);
            let rivals = object
                .rivals
                .iter()
                .map(|r| (&r.last[..], &r.bbox, r.missed));
            for (last, bbox, missed) in std::iter::once(best).chain(rivals) {
                let candidates = seen.next().into_iter().flatten();
                if !object.placed {
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
                all.push((at, Newborn::new(sighting, given, memory)));
            }
        }
        let (places, sightings): (Vec<usize>, Vec<Sighting>) = asked
            .into_iter()
            .map(|(at, (_, sighting))| (at, sighting))
            .unzip();
        let memories = self.observer.remember(features, &sightings, true)?;
        let asked = places.into_iter().zip(sightings).zip(memories);
        all.extend(
            asked.map(|((at, sighting), memory)| (at, Newborn::new(sighting, None, memory))),
        );
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, newborn)| newborn).collect())
    }

    /// Adds an object, if there is room.
    fn admit(
        &self,
        state: &mut StreamState<M::Frame>,
        bank: MemoryBank,
        name: Option<TrackId>,
    ) -> Option<Admitted> {
        state.admit(bank, name, self.settings.max_objects, self.return_frames())
    }

    /// Hides objects that have not been seen in this scene where what is taken for them looks like
    /// something else. `grown` are the paths of the objects at the places `followed`.
    fn doubt(
        &self,
        features: &M::Frame,
        state: &StreamState<M::Frame>,
        followed: &[usize],
        grown: &mut [Vec<Step>],
    ) -> Result<(), InferenceError> {
        let objects = followed.iter().map(|at| &state.objects[*at]);
        let mut doubted = objects.zip(grown).filter(|(object, _)| !object.proven);
        let Some((first, similarity)) = doubted
            .next()
            .zip(self.observer.config.selection.similarity)
        else {
            return Ok(());
        };
        let geometry = &self.observer.config.geometry;
        let scene = Scene::new(self.observer.embedding(features)?, geometry.embedding);
        for (object, paths) in std::iter::once(first).chain(doubted) {
            paths.truncate(1);
            for step in paths {
                let now = scene.appearance(&step.sighting.logits, geometry.mask);
                let alike = object.appearance.as_ref().zip(now.as_ref());
                if !alike.is_some_and(|(before, now)| before.similarity(now) >= similarity) {
                    step.sighting.logits.fill(BEYOND);
                    step.sighting.object_score = step.sighting.object_score.min(-1.0);
                }
            }
        }
        Ok(())
    }

    /// Says of newcomers what they look like, and which of the missed objects they are.
    fn recognise(
        &self,
        features: &M::Frame,
        missed: &[Missed<'_>],
        newborn: &mut [Newborn],
        size: (u32, u32),
    ) -> Result<(), InferenceError> {
        let config = &self.observer.config;
        let Some(similarity) = config.selection.similarity.filter(|_| !newborn.is_empty()) else {
            return Ok(());
        };
        let cells = config.geometry.mask;
        let scene = Scene::new(
            self.observer.embedding(features)?,
            config.geometry.embedding,
        );
        let pixels = size.0 as f32 * size.1 as f32 / config.geometry.mask_len() as f32;
        let newcomers: Vec<Newcomer> = newborn
            .iter()
            .map(|newborn| {
                let logits = &newborn.sighting.logits;
                Newcomer {
                    appearance: scene.appearance(logits, cells),
                    bbox: memory_tree::bounds(logits, cells, size).unwrap_or_default(),
                    area: logits.iter().filter(|logit| **logit > 0.0).count() as f32 * pixels,
                }
            })
            .collect();
        let names = recognition::recognise(similarity, missed, &newcomers);
        for ((newborn, newcomer), name) in newborn.iter_mut().zip(newcomers).zip(names) {
            newborn.appearance = newcomer.appearance;
            newborn.name = name;
        }
        Ok(())
    }

    /// What objects in sight look like, from time to time.
    fn appearances(
        &self,
        features: &M::Frame,
        state: &StreamState<M::Frame>,
        seen: &[Seen],
    ) -> Result<Vec<Option<Appearance>>, InferenceError> {
        let config = &self.observer.config;
        let due = state.step.is_multiple_of(APPEARANCE_INTERVAL) && !seen.is_empty();
        if config.selection.similarity.is_none() || !due {
            return Ok(vec![None; seen.len()]);
        }
        let scene = Scene::new(
            self.observer.embedding(features)?,
            config.geometry.embedding,
        );
        let logits = seen.iter().map(|seen| &seen.sighting().logits);
        Ok(logits
            .map(|logits| scene.appearance(logits, config.geometry.mask))
            .collect())
    }

    /// An object that a prompt shows begins, or goes on where it is known. `looks` are the objects'.
    fn take_in(
        &self,
        state: &mut StreamState<M::Frame>,
        newborn: Newborn,
        looks: &mut Vec<(Sighting, Option<Mask>)>,
        outcome: &mut Outcome,
    ) {
        let rules = self.observer.config.memory;
        let living = state
            .objects
            .iter()
            .position(|object| Some(object.id) == newborn.name);
        let at = match living {
            Some(at) => {
                let object = &mut state.objects[at];
                let memory = newborn.memory.clone();
                let memory = newborn.sighting.memory(state.step, memory, &rules);
                object.bank.condition(memory, &rules);
                object.rivals.clear();
                looks[at] = (newborn.sighting, newborn.given);
                outcome.returned.push(object.id);
                at
            }
            None => {
                let bank = newborn.bank(state.step, &rules);
                let Some(admitted) = self.admit(state, bank, newborn.name) else {
                    outcome.refused += 1;
                    return;
                };
                if let Some(gone) = admitted.instead_of {
                    looks.remove(gone);
                }
                looks.insert(admitted.at, (newborn.sighting, newborn.given));
                match newborn.name {
                    Some(id) => outcome.returned.push(id),
                    None => outcome.begun.push(admitted.id),
                }
                admitted.at
            }
        };
        if let Some(appearance) = newborn.appearance {
            state.objects[at].looks_like(appearance);
        }
    }

    /// Takes what worked into the stream's state, and publishes it.
    fn commit(
        &mut self,
        state: &mut StreamState<M::Frame>,
        id: &FrameId,
        (features, worked): (M::Frame, Worked),
        size: (u32, u32),
        outcome: &mut Outcome,
    ) {
        let rules = self.observer.config.memory;
        let mut looks: Vec<(Sighting, Option<Mask>)> = Vec::new();
        let cells = self.observer.config.geometry.mask;
        let appearances = worked.appearances.into_iter();
        for (object, now) in state.objects.iter_mut().zip(appearances) {
            if let Some(now) = now {
                object.looks_like(now);
            }
        }
        for (object, seen) in state.objects.iter_mut().zip(worked.seen) {
            looks.push(match seen {
                Seen::Corrected(answer) => {
                    let memory = answer.sighting.memory(state.step, answer.memory, &rules);
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
                    let memory = best.sighting.memory(state.step, best.memory, &rules);
                    object.bank.push(memory, &rules);
                    object.rivals = rivals;
                    (best.sighting, None)
                }
            });
            object.age = object.age.saturating_add(1);
        }
        for newborn in worked.newborn {
            self.take_in(state, newborn, &mut looks, outcome);
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
            features,
            living,
        };
        state.keep(past, self.settings.past_frames);
        state.rows = Some(outcome.tracks.clone());
        state.step += 1;
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
    fn new(sighting: Sighting, given: Option<Mask>, memory: Arc<[f32]>) -> Self {
        Self {
            sighting,
            given,
            memory,
            appearance: None,
            name: None,
        }
    }

    fn bank(&self, step: u64, rules: &MemoryRules) -> MemoryBank {
        let mut bank = MemoryBank::default();
        let memory = self.sighting.memory(step, self.memory.clone(), rules);
        bank.condition(memory, rules);
        bank
    }
}
