//! What is remembered of an object, and what of it is shown to a frame.
//!
//! After the SAM 2 video predictor (Ravi et al. 2024, section 4, "memory bank"): conditioning
//! frames (those with a prompt) come first, nearest in time; then the recent frames at a stride,
//! the newest always; pointers of the conditioning frames and of the last frames. Time is counted
//! in frames that the tracker has worked on, so that dropped frames leave no holes.
//!
//! Where the model says so (`least_iou`), recent frames are chosen after SAM2Long's object-aware
//! memory (Ding et al. 2024, section 3.4): only those on which the object was seen, and well. An
//! object that is hidden for long is then still known by what it looked like before.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::model_folder::{Geometry, MemoryRules};
use crate::modules::MemoryBatch;

/// What one frame left of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The frame, counted in frames worked on.
    pub step: u64,
    /// Cm×h×w; `None` once only the pointer is still of use.
    pub tensor: Option<Arc<[f32]>>,
    /// C.
    pub pointer: Arc<[f32]>,
    /// Whether the object was seen, and well enough to be remembered by.
    pub sure: bool,
}

/// All memories of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryBank {
    conditioning: Vec<Memory>,
    recent: VecDeque<Memory>,
}

/// A memory to be shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownMemory<'a> {
    /// `memory_time` (docs/models.md).
    pub time: i64,
    /// The frame it is of, counted in frames worked on.
    pub step: u64,
    /// Cm×h×w.
    pub tensor: &'a Arc<[f32]>,
}

/// Memories and pointers to be shown.
#[derive(Clone, Debug, Default)]
pub struct Shown<'a> {
    /// Memories: conditioning frames, then the recent ones, oldest first.
    pub memories: Vec<ShownMemory<'a>>,
    /// `pointer_time` and pointer.
    pub pointers: Vec<(f32, &'a [f32])>,
}

impl MemoryBank {
    /// A bank of these memories, in order of time.
    #[must_use]
    pub fn from_parts(conditioning: Vec<Memory>, recent: Vec<Memory>) -> Self {
        Self {
            conditioning,
            recent: recent.into(),
        }
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditioning.is_empty() && self.recent.is_empty()
    }

    /// Memories of frames with a prompt, oldest first.
    #[must_use]
    pub fn conditioning(&self) -> &[Memory] {
        &self.conditioning
    }

    /// Memories of frames without, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Memory> {
        self.recent.iter()
    }

    /// Remembers a frame with a prompt. The first and the newest are kept.
    pub fn condition(&mut self, memory: Memory, rules: &MemoryRules) {
        self.conditioning.push(memory);
        if self.conditioning.len() > rules.conditioning_frames {
            self.conditioning.remove(1.min(self.conditioning.len() - 1));
        }
    }

    /// Remembers a frame without a prompt, and forgets what will not be shown again.
    pub fn push(&mut self, memory: Memory, rules: &MemoryRules) {
        let newest = memory.step + 1;
        self.recent.push_back(memory);
        if rules.least_iou.is_some() {
            self.forget_unsure(newest, rules);
            return;
        }
        let reach = 1 + rules.temporal_stride * rules.frames.saturating_sub(1) as u64;
        let pointers = rules.pointers as u64;
        for old in &mut self.recent {
            // All but the newest are shown only if their turn comes.
            let passed = old.step + 1 < newest && old.step % rules.temporal_stride != 0;
            if passed || newest - old.step > reach {
                old.tensor = None;
            }
        }
        self.recent
            .retain(|old| old.tensor.is_some() || newest - old.step < pointers);
    }

    /// Forgets all but the sure memories that the next frames can be shown.
    fn forget_unsure(&mut self, newest: u64, rules: &MemoryRules) {
        let kept: Vec<u64> = self.sure(rules).map(|memory| memory.step).collect();
        for old in &mut self.recent {
            if !kept.contains(&old.step) {
                old.tensor = None;
            }
        }
        let pointers = rules.pointers as u64;
        self.recent
            .retain(|old| old.tensor.is_some() || newest - old.step < pointers);
    }

    /// The sure memories that a frame is shown, newest first: the newest, and before it those at the
    /// stride.
    fn sure<'a>(&'a self, rules: &MemoryRules) -> impl Iterator<Item = &'a Memory> {
        let stride = rules.temporal_stride;
        let known = self.recent.iter().rev();
        known
            .filter(|memory| memory.sure && memory.tensor.is_some())
            .enumerate()
            .filter(move |(at, memory)| *at == 0 || memory.step % stride == 0)
            .map(|(_, memory)| memory)
            .take(rules.frames.saturating_sub(1))
    }

    /// What frame `step` is shown.
    #[must_use]
    pub fn show(&self, step: u64, rules: &MemoryRules) -> Shown<'_> {
        let mut shown = Shown::default();
        for memory in &self.conditioning {
            shown.memories.extend(memory.shown(0));
        }
        if rules.least_iou.is_some() {
            let sure: Vec<&Memory> = self.sure(rules).collect();
            for (at, memory) in sure.into_iter().enumerate().rev() {
                shown.memories.extend(memory.shown(at as i64 + 1));
            }
        } else {
            for time in (1..rules.frames as u64).rev() {
                let found = slot(step, time, rules.temporal_stride).and_then(|at| self.at(at));
                shown
                    .memories
                    .extend(found.and_then(|memory| memory.shown(time as i64)));
            }
        }
        if rules.pointers > 0 {
            let past = self.conditioning.iter().filter(|m| m.step <= step);
            shown
                .pointers
                .extend(past.map(|m| ((step - m.step) as f32, &*m.pointer)));
            for ago in 1..rules.pointers as u64 {
                let memory = step.checked_sub(ago).and_then(|at| self.at(at));
                shown
                    .pointers
                    .extend(memory.map(|m| (ago as f32, &*m.pointer)));
            }
        }
        shown
    }

    fn at(&self, step: u64) -> Option<&Memory> {
        let place = self.recent.binary_search_by_key(&step, |m| m.step).ok()?;
        self.recent.get(place)
    }
}

impl Memory {
    fn shown(&self, time: i64) -> Option<ShownMemory<'_>> {
        self.tensor.as_ref().map(|tensor| ShownMemory {
            time,
            step: self.step,
            tensor,
        })
    }
}

/// The frame in the `time`-th recent slot of frame `step`: the newest is the one before; the
/// others are multiples of the stride before that.
fn slot(step: u64, time: u64, stride: u64) -> Option<u64> {
    if time == 1 {
        return step.checked_sub(1);
    }
    let last = step.checked_sub(2)? / stride * stride;
    last.checked_sub((time - 2) * stride)
}

impl MemoryBatch {
    /// Fills the batch with what these objects are shown, padded to the longest. Copies what its place does
    /// not hold already: on most frames of a stream, an object's newest memory alone.
    pub fn fill(&mut self, shown: &[Shown<'_>], geometry: &Geometry) {
        let (memory_len, pointer_len) = (geometry.memory_len(), geometry.pointer_len());
        let most = |len: fn(&Shown<'_>) -> usize| shown.iter().map(len).max().unwrap_or(0);
        self.objects = shown.len();
        // A module may not like a dimension of nothing.
        self.memories = most(|s| s.memories.len()).max(1);
        self.pointers = most(|s| s.pointers.len()).max(1);
        let (memories, pointers) = (self.objects * self.memories, self.objects * self.pointers);
        if self.held.len() * memory_len != self.memory.len() {
            self.memory.clear();
            self.held.clear();
        }
        self.memory.resize(memories * memory_len, 0.0);
        self.held.resize(memories, None);
        self.pointer.resize(pointers * pointer_len, 0.0);
        self.memory_time.clear();
        self.memory_time.resize(memories, -1);
        self.memory_step.clear();
        self.memory_step.resize(memories, 0);
        self.pointer_time.clear();
        self.pointer_time.resize(pointers, -1.0);
        for (object, shown) in shown.iter().enumerate() {
            for at in 0..self.memories {
                let slot = object * self.memories + at;
                let place = &mut self.memory[slot * memory_len..(slot + 1) * memory_len];
                let held = &mut self.held[slot];
                match shown.memories.get(at) {
                    Some(memory) => {
                        let is_new = |held: &Arc<_>| !Arc::ptr_eq(held, memory.tensor);
                        if held.as_ref().is_none_or(is_new) {
                            place.copy_from_slice(memory.tensor);
                            *held = Some(memory.tensor.clone());
                        }
                        self.memory_time[slot] = memory.time;
                        self.memory_step[slot] = memory.step;
                    }
                    None if held.is_some() => {
                        place.fill(0.0);
                        *held = None;
                    }
                    None => {}
                }
            }
            for at in 0..self.pointers {
                let slot = object * self.pointers + at;
                let place = &mut self.pointer[slot * pointer_len..(slot + 1) * pointer_len];
                match shown.pointers.get(at) {
                    Some((time, pointer)) => {
                        place.copy_from_slice(pointer);
                        self.pointer_time[slot] = *time;
                    }
                    None => place.fill(0.0),
                }
            }
        }
    }
}

/// Which memories of some objects are of the same frame and time (docs/models.md); a slot is an object's
/// place among them times `M`, plus the memory's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SameFrames {
    /// A slot of each frame and time.
    pub frames: Vec<i64>,
    /// B×M: the place in `frames` of each memory's.
    pub memory_frame: Vec<i64>,
    /// A slot of each frame that is some object's newest.
    pub newest: Vec<i64>,
    /// B: the place in `newest` of each object's.
    pub newest_frame: Vec<i64>,
}

impl MemoryBatch {
    /// Which memories of these objects are of the same frame and time.
    #[must_use]
    pub fn same_frames(&self, objects: Range<usize>) -> SameFrames {
        let mut same = SameFrames::default();
        let base = objects.start * self.memories;
        let of = |slot: usize| (self.memory_step[slot], self.memory_time[slot]);
        // The list's place of what a slot shows, which is added where it is not there.
        let place = |list: &mut Vec<i64>, slot: usize| {
            let known = list
                .iter()
                .position(|at| of(base + *at as usize) == of(slot));
            known.unwrap_or_else(|| {
                list.push((slot - base) as i64);
                list.len() - 1
            }) as i64
        };
        for object in objects {
            let slots = object * self.memories..(object + 1) * self.memories;
            for slot in slots.clone() {
                let frame = place(&mut same.frames, slot);
                same.memory_frame.push(frame);
            }
            // The newest recent frame, or else the first conditioning frame; the first where there is neither.
            let with = |time: i64| slots.clone().find(|slot| self.memory_time[*slot] == time);
            let newest = with(1).or_else(|| with(0)).unwrap_or(slots.start);
            let frame = place(&mut same.newest, newest);
            same.newest_frame.push(frame);
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: MemoryRules = MemoryRules {
        frames: 7,
        conditioning_frames: 4,
        temporal_stride: 1,
        pointers: 16,
        least_iou: None,
    };

    const GEOMETRY: Geometry = Geometry {
        embedding: [1, 1, 1],
        high_res_0: [1, 1, 1],
        high_res_1: [1, 1, 1],
        memory_channels: 1,
        mask: [1, 1],
        candidates: 1,
    };

    fn memory(step: u64) -> Memory {
        Memory {
            step,
            tensor: Some(vec![step as f32].into()),
            pointer: vec![step as f32].into(),
            sure: true,
        }
    }

    fn bank(first: u64, last: u64, rules: &MemoryRules) -> MemoryBank {
        let mut bank = MemoryBank::default();
        bank.condition(memory(first), rules);
        for step in first + 1..=last {
            bank.push(memory(step), rules);
        }
        bank
    }

    fn times(shown: &Shown<'_>) -> Vec<(i64, f32)> {
        shown
            .memories
            .iter()
            .map(|m| (m.time, m.tensor[0]))
            .collect()
    }

    #[test]
    fn the_conditioning_frame_comes_first_then_the_last_six_oldest_first() {
        let bank = bank(0, 19, &RULES);
        let shown = bank.show(20, &RULES);
        let expected = [
            (0, 0.0),
            (6, 14.0),
            (5, 15.0),
            (4, 16.0),
            (3, 17.0),
            (2, 18.0),
            (1, 19.0),
        ];
        assert_eq!(times(&shown), expected);
        let pointers: Vec<f32> = shown.pointers.iter().map(|(time, _)| *time).collect();
        assert_eq!(pointers[0], 20.0);
        assert_eq!(pointers[1..], (1..16).map(|t| t as f32).collect::<Vec<_>>());
    }

    #[test]
    fn a_young_object_is_shown_what_there_is() {
        let bank = bank(5, 6, &RULES);
        let shown = bank.show(7, &RULES);
        assert_eq!(times(&shown), [(0, 5.0), (1, 6.0)]);
        let pointers: Vec<(f32, f32)> = shown.pointers.iter().map(|(t, p)| (*t, p[0])).collect();
        assert_eq!(pointers, [(2.0, 5.0), (1.0, 6.0)]);
    }

    #[test]
    fn a_stride_skips_frames_but_never_the_newest() {
        let rules = MemoryRules {
            temporal_stride: 3,
            ..RULES
        };
        let bank = bank(0, 19, &rules);
        let shown = bank.show(20, &rules);
        let expected = [
            (0, 0.0),
            (6, 6.0),
            (5, 9.0),
            (4, 12.0),
            (3, 15.0),
            (2, 18.0),
            (1, 19.0),
        ];
        assert_eq!(times(&shown), expected);
    }

    #[test]
    fn many_conditioning_frames_keep_the_first_and_the_newest() {
        let mut bank = MemoryBank::default();
        for step in 0..9 {
            bank.condition(memory(step), &RULES);
        }
        let steps: Vec<u64> = bank.conditioning().iter().map(|m| m.step).collect();
        assert_eq!(steps, [0, 6, 7, 8]);
    }

    #[test]
    fn a_model_without_pointers_is_shown_none() {
        let rules = MemoryRules {
            pointers: 0,
            ..RULES
        };
        assert!(bank(0, 9, &rules).show(10, &rules).pointers.is_empty());
    }

    #[test]
    fn an_object_that_is_hidden_is_known_by_what_it_looked_like_before() {
        let rules = MemoryRules {
            least_iou: Some(0.5),
            frames: 4,
            pointers: 0,
            ..RULES
        };
        let mut hidden = bank(0, 9, &rules);
        for step in 10..60 {
            let unsure = Memory {
                sure: false,
                ..memory(step)
            };
            hidden.push(unsure, &rules);
        }
        let before = [(0, 0.0), (3, 7.0), (2, 8.0), (1, 9.0)];
        assert_eq!(times(&hidden.show(60, &rules)), before);
        assert_eq!(hidden.recent.len(), 3, "the rest is forgotten");
        hidden.push(memory(60), &rules);
        let back = [(0, 0.0), (3, 8.0), (2, 9.0), (1, 60.0)];
        assert_eq!(times(&hidden.show(61, &rules)), back);
    }

    #[test]
    fn sure_memories_keep_to_the_stride_too() {
        let rules = MemoryRules {
            least_iou: Some(0.5),
            frames: 4,
            temporal_stride: 4,
            pointers: 0,
            ..RULES
        };
        let shown = bank(0, 14, &rules);
        let expected = [(0, 0.0), (3, 8.0), (2, 12.0), (1, 14.0)];
        assert_eq!(times(&shown.show(15, &rules)), expected);
    }

    proptest! {
        #[test]
        fn a_batch_is_filled_alike_whatever_it_held(
            frames in prop::collection::vec(prop::collection::vec((0..4u64, 0..5u64), 1..5), 1..8),
        ) {
            let rules = MemoryRules { frames: 4, temporal_stride: 2, pointers: 2, ..RULES };
            // Objects by when they came, each as many frames later.
            let banks: Vec<Vec<MemoryBank>> = (0..4)
                .map(|first| (first..first + 5).map(|last| bank(first, last, &rules)).collect())
                .collect();
            let mut kept = MemoryBatch::default();
            for objects in frames {
                let shown: Vec<Shown<'_>> = objects
                    .iter()
                    .map(|(first, age)| {
                        banks[*first as usize][*age as usize].show(first + age + 1, &rules)
                    })
                    .collect();
                let mut fresh = MemoryBatch::default();
                fresh.fill(&shown, &GEOMETRY);
                kept.fill(&shown, &GEOMETRY);
                prop_assert_eq!(&kept.memory, &fresh.memory);
                prop_assert_eq!(&kept.memory_time, &fresh.memory_time);
                prop_assert_eq!(&kept.memory_step, &fresh.memory_step);
            }
        }
    }

    #[test]
    fn objects_of_different_ages_share_a_batch() {
        let (old, young) = (bank(0, 2, &RULES), bank(2, 2, &RULES));
        let mut batch = MemoryBatch {
            memory: vec![9.0; 100],
            ..MemoryBatch::default()
        };
        batch.fill(&[old.show(3, &RULES), young.show(3, &RULES)], &GEOMETRY);
        assert_eq!((batch.memories, batch.pointers), (3, 3));
        assert_eq!(batch.memory, [0.0, 1.0, 2.0, 2.0, 0.0, 0.0]);
        assert_eq!(batch.memory_time, [0, 2, 1, 0, -1, -1]);
        assert_eq!(batch.memory_step, [0, 1, 2, 2, 0, 0]);
        assert_eq!(batch.pointer_time, [3.0, 1.0, 2.0, 1.0, -1.0, -1.0]);
    }

    #[test]
    fn objects_that_remember_the_same_frames_are_known_to() {
        let batch = MemoryBatch {
            objects: 3,
            memories: 3,
            memory_step: vec![0, 8, 9, 4, 8, 9, 9, 0, 0],
            memory_time: vec![0, 2, 1, 0, 2, 1, 0, -1, -1],
            ..MemoryBatch::default()
        };
        let same = batch.same_frames(0..3);
        assert_eq!(same.frames, [0, 1, 2, 3, 6, 7]);
        assert_eq!(same.memory_frame, [0, 1, 2, 3, 1, 2, 4, 5, 5]);
        // Step 9 as a conditioning frame is not what it is as a recent one.
        assert_eq!(
            (same.newest, same.newest_frame),
            (vec![2, 6], vec![0, 0, 1])
        );
        let part = batch.same_frames(1..3);
        assert_eq!(part.frames, [0, 1, 2, 3, 4]);
        assert_eq!(part.newest, [2, 3]);
    }

    proptest! {
        #[test]
        fn every_memory_is_of_the_frame_that_stands_for_it(
            memories in 1usize..6, slots in prop::collection::vec((0u64..4, -1i64..4), 6..60),
        ) {
            let objects = slots.len() / memories;
            let (memory_step, memory_time) = slots.into_iter().take(objects * memories).unzip();
            let batch = MemoryBatch {
                objects, memories, memory_step, memory_time, ..MemoryBatch::default()
            };
            let same = batch.same_frames(0..objects);
            let of = |slot: usize| (batch.memory_step[slot], batch.memory_time[slot]);
            for (slot, frame) in same.memory_frame.iter().enumerate() {
                prop_assert_eq!(of(same.frames[*frame as usize] as usize), of(slot));
            }
            let mut frames: Vec<_> = same.frames.iter().map(|slot| of(*slot as usize)).collect();
            frames.sort_unstable();
            frames.dedup();
            prop_assert_eq!(frames.len(), same.frames.len());
            prop_assert_eq!(same.newest_frame.len(), objects);
        }

        #[test]
        fn what_is_shown_does_not_depend_on_forgetting(
            frames in 1usize..8, stride in 1u64..5, pointers in 0usize..20,
            last in 1u64..60,
        ) {
            let rules = MemoryRules {
                frames, temporal_stride: stride, pointers, conditioning_frames: 4, least_iou: None,
            };
            let forgetting = bank(0, last, &rules);
            let mut all = MemoryBank::default();
            all.condition(memory(0), &rules);
            all.recent = (1..=last).map(memory).collect();
            let step = last + 1;
            let (a, b) = (forgetting.show(step, &rules), all.show(step, &rules));
            prop_assert_eq!(a.memories, b.memories);
            prop_assert_eq!(a.pointers, b.pointers);
            prop_assert!(forgetting.recent.len() <= frames + 1 + pointers);
            let tensors = forgetting.recent.iter().filter(|m| m.tensor.is_some());
            prop_assert!(tensors.count() <= frames + 1);
        }
    }
}
