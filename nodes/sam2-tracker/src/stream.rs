//! The state of one stream: its objects, its ids, and its last frames, for prompts that come late.

use std::collections::VecDeque;

use tracklens_schemas::{Epoch, FrameIndex, Prompt, Track, TrackId, TrackState};

use crate::object::Object;
use tracklens_sam2::bitmap::Bitmap;
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

    /// Makes room for a new object: there is some while fewer than `most` live; otherwise the
    /// longest lost one is let go.
    pub fn make_room(&mut self, most: usize) -> bool {
        if self.objects.len() < most {
            return true;
        }
        match self.longest_lost() {
            Some(at) => {
                self.objects.remove(at);
                true
            }
            None => false,
        }
    }

    /// Place of the object that has been lost for longest.
    #[must_use]
    pub fn longest_lost(&self) -> Option<usize> {
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
