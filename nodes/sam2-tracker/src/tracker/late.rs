//! Prompts that come after their frame has been worked on.

use tracklens_sam2::memory_bank::{MemoryBank, Shown};
use tracklens_sam2::modules::{InferenceError, Modules};
use tracklens_sam2::prompt::PromptError;
use tracklens_schemas::{FrameId, Prompt, TrackId};

use super::Tracker;
use crate::stream::StreamState;

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

impl<M: Modules> Tracker<M> {
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
}
