//! Where the memories of objects say that they are.

use tracklens_sam2::appearance::{Appearance, Scene};
use tracklens_sam2::bitmap::Bitmap;
use tracklens_sam2::memory_bank::Shown;
use tracklens_sam2::modules::{InferenceError, Modules};
use tracklens_sam2::reach::Reach;
use tracklens_sam2::sighting::Sighting;

use super::{Newborn, Tracker};
use crate::memory_tree::{self, Remembered, Step};
use crate::stream::StreamState;

/// Frames between two looks at what an object looks like.
const APPEARANCE_INTERVAL: u64 = 5;
/// Logit of a mask that is not the object's.
const BEYOND: f32 = -10.0;

/// What was seen of an object.
pub(super) enum Seen {
    /// Where its memories say it is, and where else it could be.
    Followed {
        best: Remembered,
        rivals: Vec<Remembered>,
    },
    /// Where it was asked for anew.
    Corrected(Newborn),
}

impl Seen {
    pub(super) fn sighting(&self) -> &Sighting {
        match self {
            Self::Followed { best, .. } => &best.sighting,
            Self::Corrected(answer) => &answer.sighting,
        }
    }
}

impl<M: Modules> Tracker<M> {
    /// The paths of the objects at these places, as they go on through the frame.
    pub(super) fn grow(
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

    /// Hides objects that have not been seen in this scene where what is taken for them looks like
    /// something else. `grown` are the paths of the objects at the places `followed`.
    pub(super) fn doubt(
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

    /// What objects in sight look like, from time to time.
    pub(super) fn appearances(
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
}
