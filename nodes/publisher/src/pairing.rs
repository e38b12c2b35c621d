//! Pairs frames with the tracks made on them: two ordered lines of the same stream that arrive
//! each at its own pace, and of which either may have gaps.

use std::collections::VecDeque;

use tracklens_schemas::{Epoch, FrameIndex};

/// Epoch and frame: the order of a stream.
pub(crate) type Position = (Epoch, FrameIndex);

/// The frames and tracks of one stream that wait for each other.
///
/// A frame leaves with its tracks, or without once those of a later frame have come or too many
/// wait. Tracks without a frame are let go.
#[derive(Debug)]
pub(crate) struct Pairing<F, T> {
    limit: usize,
    frames: VecDeque<(Position, F)>,
    tracks: VecDeque<(Position, T)>,
}

impl<F, T> Pairing<F, T> {
    /// At most `limit` frames, and as many frames' tracks, wait.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            frames: VecDeque::new(),
            tracks: VecDeque::new(),
        }
    }

    /// A frame has come. One that is not after the last waiting one is refused.
    ///
    /// # Errors
    /// Gives the refused frame back.
    pub(crate) fn frame(&mut self, at: Position, frame: F) -> Result<(), F> {
        if self.frames.back().is_some_and(|(last, _)| at <= *last) {
            return Err(frame);
        }
        self.frames.push_back((at, frame));
        Ok(())
    }

    /// The tracks of a frame have come.
    pub(crate) fn tracks(&mut self, at: Position, tracks: T) {
        if self.tracks.back().is_none_or(|(last, _)| at > *last) {
            self.tracks.push_back((at, tracks));
        }
        if self.tracks.len() > self.limit {
            self.tracks.pop_front();
        }
    }

    /// The next frame that need not wait any longer.
    pub(crate) fn next(&mut self) -> Option<(Position, F, Option<T>)> {
        let at = self.frames.front()?.0;
        while self.tracks.front().is_some_and(|(tracks, _)| *tracks < at) {
            self.tracks.pop_front();
        }
        let ready = !self.tracks.is_empty() || self.frames.len() > self.limit;
        if ready { self.take() } else { None }
    }

    /// The next frame, whether or not its tracks have come: at the end of a stream.
    pub(crate) fn drain(&mut self) -> Option<(Position, F, Option<T>)> {
        self.next().or_else(|| self.take())
    }

    fn take(&mut self) -> Option<(Position, F, Option<T>)> {
        let (at, frame) = self.frames.pop_front()?;
        let own = self.tracks.front().is_some_and(|(tracks, _)| *tracks == at);
        let tracks = if own { self.tracks.pop_front() } else { None };
        Some((at, frame, tracks.map(|(_, tracks)| tracks)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(frame: u64) -> Position {
        (Epoch(0), FrameIndex(frame))
    }

    proptest! {
        /// Whatever comes first, every frame leaves once, in order, and with its own tracks where
        /// those have come in time.
        #[test]
        fn every_frame_leaves_once_and_in_order(
            has_tracks in prop::collection::vec(any::<bool>(), 1..30),
            frame_first in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut pairing = Pairing::new(100);
            let mut frames = (0..has_tracks.len() as u64).peekable();
            let mut tracks = frames.clone().filter(|f| has_tracks[*f as usize]).peekable();
            let mut left = Vec::new();
            for frame_first in frame_first {
                if frame_first || tracks.peek().is_none() {
                    if let Some(frame) = frames.next() {
                        prop_assert!(pairing.frame(at(frame), frame).is_ok());
                    }
                } else if let Some(frame) = tracks.next() {
                    pairing.tracks(at(frame), frame);
                }
                left.extend(std::iter::from_fn(|| pairing.next()));
            }
            for frame in frames {
                prop_assert!(pairing.frame(at(frame), frame).is_ok());
            }
            for frame in tracks {
                pairing.tracks(at(frame), frame);
            }
            left.extend(std::iter::from_fn(|| pairing.drain()));
            let order: Vec<u64> = left.iter().map(|(_, frame, _)| *frame).collect();
            prop_assert_eq!(order, (0..has_tracks.len() as u64).collect::<Vec<_>>());
            for (_, frame, tracks) in left {
                prop_assert_eq!(tracks, has_tracks[frame as usize].then_some(frame));
            }
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pairing: Pairing<u64, ()> = Pairing::new(2);
        for frame in 0..4 {
            assert!(pairing.frame(at(frame), frame).is_ok());
            pairing.tracks(at(100 + frame), ());
        }
        assert!(pairing.tracks.len() <= 2);
        let mut waiting: Pairing<u64, ()> = Pairing::new(2);
        for frame in 0..3 {
            assert!(waiting.frame(at(frame), frame).is_ok());
        }
        assert_eq!(waiting.next(), Some((at(0), 0, None)));
        assert_eq!(waiting.next(), None);
        assert_eq!(waiting.frame(at(2), 9), Err(9));
    }
}
