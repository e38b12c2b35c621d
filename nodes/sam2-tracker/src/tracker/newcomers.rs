//! Objects that prompts show: new ones, and those that are known again.

use std::sync::Arc;

use tracklens_sam2::appearance::{Appearance, Scene};
use tracklens_sam2::bitmap::Bitmap;
use tracklens_sam2::memory_bank::MemoryBank;
use tracklens_sam2::model_folder::MemoryRules;
use tracklens_sam2::modules::{InferenceError, Modules};
use tracklens_sam2::prompt::{Question, Target};
use tracklens_sam2::sighting::Sighting;
use tracklens_schemas::{Mask, TrackId};

use super::{Outcome, Tracker};
use crate::memory_tree;
use crate::recognition::{self, Missed, Newcomer};
use crate::stream::{Admitted, StreamState};

/// An object that a prompt shows.
pub(super) struct Newborn {
    pub(super) sighting: Sighting,
    /// The prompt's own mask.
    pub(super) given: Option<Mask>,
    pub(super) memory: Arc<[f32]>,
    pub(super) appearance: Option<Appearance>,
    /// The object that it is, where it has been seen before.
    pub(super) name: Option<TrackId>,
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

    pub(super) fn bank(&self, step: u64, rules: &MemoryRules) -> MemoryBank {
        let mut bank = MemoryBank::default();
        let memory = self.sighting.memory(step, self.memory.clone(), rules);
        bank.condition(memory, rules);
        bank
    }
}

impl<M: Modules> Tracker<M> {
    /// The objects that prompts show, those that are good enough.
    pub(super) fn newborn(
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
    pub(super) fn answers(
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
    pub(super) fn admit(
        &self,
        state: &mut StreamState<M::Frame>,
        bank: MemoryBank,
        name: Option<TrackId>,
    ) -> Option<Admitted> {
        state.admit(bank, name, self.settings.max_objects, self.return_frames())
    }

    /// Says of newcomers what they look like, and which of the missed objects they are.
    pub(super) fn recognise(
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

    /// An object that a prompt shows begins, or goes on where it is known. `looks` are the objects'.
    pub(super) fn take_in(
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
}
