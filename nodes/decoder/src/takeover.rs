//! When a chunk is finished with: once every frame that had come out when it was taken has been
//! taken over by the consumers.
//!
//! Frames that are still inside the codec are not waited for: a codec gives them out only when more
//! chunks come, and those come only when chunks are acknowledged.

use std::collections::{BTreeSet, VecDeque};

use tracklens_schemas::{FrameIndex, Header};

/// The chunks and frames of one epoch that are under way.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// Frames sent and not taken over.
    open: BTreeSet<FrameIndex>,
    /// Chunks taken, each with the number of frames that had come out by then.
    taken: VecDeque<(u64, Header)>,
}

impl Takeover {
    /// A frame has been sent.
    pub(crate) fn frame(&mut self, frame: FrameIndex) {
        self.open.insert(frame);
    }

    /// A chunk has been taken, after so many frames of its epoch.
    pub(crate) fn chunk(&mut self, frames: u64, chunk: Header) {
        self.taken.push_back((frames, chunk));
    }

    /// A frame has been taken over.
    pub(crate) fn acknowledged(&mut self, frame: FrameIndex) {
        self.open.remove(&frame);
    }

    /// The next chunk that is finished with.
    pub(crate) fn next_done(&mut self) -> Option<Header> {
        let (frames, _) = self.taken.front()?;
        if self.open.first().is_some_and(|open| open.0 < *frames) {
            return None;
        }
        self.taken.pop_front().map(|(_, chunk)| chunk)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use tracklens_schemas::{Epoch, FrameId};

    fn chunk(number: u64) -> Header {
        Header {
            id: FrameId {
                stream: "s".parse().unwrap(),
                epoch: Epoch(0),
                frame: FrameIndex(number),
            },
            pts_ns: 0,
            capture_ns: 0,
        }
    }

    fn done(takeover: &mut Takeover) -> Vec<u64> {
        std::iter::from_fn(|| takeover.next_done().map(|header| header.id.frame.0)).collect()
    }

    #[test]
    fn a_chunk_waits_for_the_frames_before_it_only() {
        let mut takeover = Takeover::default();
        takeover.chunk(0, chunk(0));
        assert_eq!(done(&mut takeover), [0], "no frame has come out yet");
        takeover.frame(FrameIndex(0));
        takeover.chunk(1, chunk(1));
        takeover.frame(FrameIndex(1));
        takeover.chunk(2, chunk(2));
        assert!(done(&mut takeover).is_empty());
        takeover.acknowledged(FrameIndex(1));
        assert!(done(&mut takeover).is_empty(), "frame 0 is open");
        takeover.acknowledged(FrameIndex(0));
        assert_eq!(done(&mut takeover), [1, 2]);
        assert!(takeover.is_settled());
    }

    proptest! {
        #[test]
        fn every_chunk_comes_once_and_in_order(
            frames_per_chunk in prop::collection::vec(0u64..4, 1..20), order in any::<u64>(),
        ) {
            let mut takeover = Takeover::default();
            let mut frames = 0;
            let mut out = Vec::new();
            for (number, count) in frames_per_chunk.iter().enumerate() {
                for _ in 0..*count {
                    takeover.frame(FrameIndex(frames));
                    frames += 1;
                }
                takeover.chunk(frames, chunk(number as u64));
                out.extend(done(&mut takeover));
            }
            // Acknowledgements may come in any order.
            let mut left: Vec<u64> = (0..frames).collect();
            let mut chance = order;
            while !left.is_empty() {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (chance >> 33) as usize % left.len();
                takeover.acknowledged(FrameIndex(left.remove(at)));
                out.extend(done(&mut takeover));
            }
            prop_assert_eq!(out, (0..frames_per_chunk.len() as u64).collect::<Vec<_>>());
            prop_assert!(takeover.is_settled());
        }
    }
}
