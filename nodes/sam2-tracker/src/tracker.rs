//! The loop: a frame and its prompts in, the objects on it out.
//!
//! After the SAM 2 video predictor (Ravi et al. 2024; `Sam2VideoModel` of the `transformers` library
//! is what the golden tests compare with). Each frame is encoded once; all its objects go through
//! memory attention, decoder and memory encoder together. Nothing of a frame is kept before all of
//! it has worked, so a failed inference can be tried again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracklens_sam2::Stages;
use tracklens_sam2::appearance::Appearance;
use tracklens_sam2::bitmap::{Bitmap, CleanUp, Regions};
use tracklens_sam2::mask::MaskPainter;
use tracklens_sam2::memory_bank::MemoryBank;
use tracklens_sam2::model_folder::ModelConfig;
use tracklens_sam2::modules::{Ahead, InferenceError, Modules};
use tracklens_sam2::preprocess::Preprocessor;
use tracklens_sam2::prompt::{PromptError, Question};
use tracklens_sam2::sighting::{Observer, Sighting};
use tracklens_schemas::{
    FrameId, Image, Mask, Prompt, StreamId, Track, TrackId, TracksStatus, thread_cpu_time,
};

use crate::memory_tree::{Remembered, Rival};
use crate::object::Object;
use crate::stream::{Correction, PastFrame, StreamState};

mod following;
mod late;
mod newcomers;
mod settings;

use following::Seen;
pub use late::Late;
use newcomers::Newborn;
pub use settings::TrackerSettings;

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
    /// CPU time of the last of the stages, logits to masks.
    pub masks_cpu: Duration,
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
        let (start, cpu) = (Instant::now(), thread_cpu_time());
        outcome.tracks = self.publish(state, &mut looks, size);
        outcome.stages.masks = start.elapsed();
        outcome.masks_cpu = thread_cpu_time().saturating_sub(cpu);
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
