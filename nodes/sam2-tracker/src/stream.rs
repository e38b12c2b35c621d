//! The state of one stream: its objects, its ids, and its last frames, for prompts that come late.

use std::collections::VecDeque;

use tracklens_schemas::{Epoch, FrameIndex, Prompt, Track, TrackId, TrackState};

use crate::object::Object;
use crate::recognition::{self, Departed, Missed};
use tracklens_sam2::bitmap::Bitmap;
use tracklens_sam2::memory_bank::MemoryBank;
use tracklens_sam2::sighting::Sighting;

/// A frame that a late prompt may still ask about.
#[derive(Debug)]
pub struct PastFrame<F> {
    /// Its number.
    pub frame: FrameIndex,
    /// Its number among the frames worked on.
    pub step: u64,
    /// Width and height of the source frame.
    pub size: (u32, u32),
    /// Its features.
    pub features: F,
    /// What was followed on it.
    pub living: Vec<Bitmap>,
}

/// An object that has been added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its name.
    pub id: TrackId,
    /// Its place among the objects.
    pub at: usize,
    /// The place of the object that was given up for it, before it was added.
    pub instead_of: Option<usize>,
}

/// A prompt for an object that is followed already.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// The object.
    pub object: TrackId,
    /// Where it is.
    pub prompt: Prompt,
}

/// The state of one stream.
#[derive(Debug)]
pub struct StreamState<F> {
    /// The epoch that the state belongs to.
    pub epoch: Epoch,
    /// Frames worked on in this epoch: the step of the next one.
    pub step: u64,
    /// The next id.
    pub next_id: u32,
    /// The objects, by id.
    pub objects: Vec<Object>,
    /// Objects that were given up, and are known when they come back.
    pub departed: Vec<Departed>,
    /// What was seen of them on the last frame.
    pub sightings: Vec<(TrackId, Sighting)>,
    /// The last frames, oldest first.
    pub past: VecDeque<PastFrame<F>>,
    /// The last good rows.
    pub rows: Option<Vec<Track>>,
}

impl<F> StreamState<F> {
    /// A stream without objects.
    #[must_use]
    pub fn new(epoch: Epoch, next_id: u32) -> Self {
        Self {
            epoch,
            step: 0,
            next_id,
            objects: Vec::new(),
            departed: Vec::new(),
            sightings: Vec::new(),
            past: VecDeque::new(),
            rows: None,
        }
    }

    /// Begins anew but for the ids, which are never used again.
    pub fn reopen(&mut self, epoch: Epoch) {
        *self = Self::new(epoch, self.next_id);
    }

    /// Objects of which nothing is remembered, as prompts by their last masks; those of them that
    /// were out of sight are forgotten. `size`: width and height of the source frame.
    pub fn ask_again(&mut self, size: (u32, u32)) -> Vec<Correction> {
        let rows = self.rows.as_deref().unwrap_or_default();
        let mut again = Vec::new();
        self.objects.retain(|object| {
            if !object.bank.is_empty() {
                return true;
            }
            let row = rows.iter().find(|row| {
                let of_size = (row.mask.width(), row.mask.height()) == size;
                row.track_id == object.id && row.visible && of_size
            });
            again.extend(row.map(|row| Correction {
                object: object.id,
                prompt: Prompt {
                    prompt_id: 0,
                    points: Vec::new(),
                    labels: Vec::new(),
                    bbox: None,
                    mask: Some(row.mask.encode()),
                    score: row.score,
                    strategy: "last_mask".into(),
                },
            }));
            row.is_some()
        });
        again
    }

    /// An id for a new object; `None` when all are used up.
    pub fn take_id(&mut self) -> Option<TrackId> {
        let id = self.next_id;
        self.next_id = id.checked_add(1)?;
        Some(TrackId(id))
    }

    /// Adds an object under this name, or a new one: there is room while fewer than `most` live;
    /// otherwise in place of the longest lost one, which is given up.
    pub fn admit(
        &mut self,
        bank: MemoryBank,
        name: Option<TrackId>,
        most: usize,
        frames: u64,
    ) -> Option<Admitted> {
        let full = self.objects.len() >= most;
        let instead_of = match full {
            true => Some(self.longest_lost()?),
            false => None,
        };
        let id = name.or_else(|| self.take_id())?;
        if let Some(at) = instead_of {
            let gone = self.objects.remove(at);
            self.give_up(&gone, frames);
        }
        self.departed.retain(|departed| departed.id != id);
        let at = self.objects.partition_point(|object| object.id < id);
        self.objects.insert(at, Object::new(id, bank));
        Some(Admitted { id, at, instead_of })
    }

    /// Keeps what an object that goes is known by, for `frames` frames.
    pub fn give_up(&mut self, object: &Object, frames: u64) {
        if let Some(gone) = Departed::of(object, self.step).filter(|_| frames > 0) {
            recognition::depart(&mut self.departed, gone, self.step, frames);
        }
    }

    /// Everybody who is not seen now: those given up not long ago, and of those that live the ones
    /// `hidden` says.
    #[must_use]
    pub fn missed(
        &self,
        step: u64,
        frames: u64,
        hidden: impl Fn(usize) -> bool,
    ) -> Vec<Missed<'_>> {
        let departed = self.departed.iter().map(|gone| Missed {
            id: gone.id,
            appearance: &gone.appearance,
            bbox: gone.bbox,
            area: gone.area,
            frames: step.saturating_sub(gone.seen),
        });
        let living = self.objects.iter().enumerate();
        let living = living
            .filter(|(at, _)| hidden(*at))
            .filter_map(|(_, object)| {
                Some(Missed {
                    id: object.id,
                    appearance: object.appearance.as_ref()?,
                    bbox: object.bbox,
                    area: object.usual_area,
                    frames: u64::from(object.missed) + 1,
                })
            });
        let departed = departed.filter(|gone| gone.frames <= frames);
        departed.chain(living).collect()
    }

    /// What was seen of an object on the last frame.
    #[must_use]
    pub fn sighting(&self, id: TrackId) -> Option<&Sighting> {
        let at = self.sightings.binary_search_by_key(&id, |(id, _)| *id);
        at.ok().map(|at| &self.sightings[at].1)
    }

    /// Place of the object that has been lost for longest.
    fn longest_lost(&self) -> Option<usize> {
        let lost = self.objects.iter().enumerate();
        lost.filter(|(_, object)| object.state() == TrackState::Lost)
            .max_by_key(|(_, object)| object.missed)
            .map(|(at, _)| at)
    }

    /// Keeps a frame for late prompts; forgets all but the last `most`.
    pub fn keep(&mut self, frame: PastFrame<F>, most: usize) {
        if most > 0 {
            self.past.push_back(frame);
        }
        while self.past.len() > most {
            self.past.pop_front();
        }
    }
}
