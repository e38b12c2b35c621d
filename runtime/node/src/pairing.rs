//! Frames and the prompts made on them, brought together: a frame is worked on once both are
//! there.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tracklens_schemas::{Epoch, FrameIndex, Header, ImageInfo, Prompt, StreamId};

/// A frame that waits for its prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Whose frame it is.
    pub header: Header,
    /// What its pixels are.
    pub info: ImageInfo,
    /// Its pixels.
    pub pixels: Vec<u8>,
    /// How many frames came before it, of all streams.
    arrival: u64,
}

/// A frame and its prompts, `P`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair<P = Vec<Prompt>> {
    /// The frame.
    pub frame: Waiting,
    /// Its prompts.
    pub prompts: P,
}

type Key = (Epoch, FrameIndex);

#[derive(Debug)]
struct Queue<P> {
    frames: VecDeque<Waiting>,
    prompts: BTreeMap<Key, (Header, P)>,
    /// The last frame given out.
    done: Option<Key>,
}

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            prompts: BTreeMap::new(),
            done: None,
        }
    }
}

/// What waits, stream by stream. `P` is what is known of the prompts of a frame; none are its default.
#[derive(Debug)]
pub struct Pairing<P = Vec<Prompt>> {
    queues: HashMap<StreamId, Queue<P>>,
    orphans: Vec<Header>,
    spare: Vec<Vec<u8>>,
    arrivals: u64,
}

fn key(header: &Header) -> Key {
    (header.id.epoch, header.id.frame)
}

impl<P> Default for Pairing<P> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            orphans: Vec::new(),
            spare: Vec::new(),
            arrivals: 0,
        }
    }
}

impl<P: Default> Pairing<P> {
    /// The prompts of a frame that need not wait: they are there, and nothing is before it. The
    /// frame counts as given out.
    pub fn at_hand(&mut self, header: &Header) -> Option<P> {
        let queue = self.queues.get_mut(&header.id.stream)?;
        let (known, _) = queue.prompts.last_key_value()?;
        if !queue.frames.is_empty() || *known < key(header) {
            return None;
        }
        Some(queue.give(key(header), &mut self.orphans))
    }

    /// A frame that does not wait (live): whatever prompts of it are there already.
    pub fn take(&mut self, header: &Header) -> P {
        let queue = self.queues.entry(header.id.stream.clone()).or_default();
        queue.give(key(header), &mut self.orphans)
    }

    /// A frame has come, and waits.
    pub fn frame(&mut self, header: Header, info: ImageInfo, pixels: &[u8]) {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(pixels);
        let queue = self.queues.entry(header.id.stream.clone()).or_default();
        queue.frames.push_back(Waiting {
            header,
            info,
            pixels: kept,
            arrival: self.arrivals,
        });
        self.arrivals += 1;
    }

    /// Prompts have come. Returns them if their frame has been given out before.
    pub fn prompts(&mut self, header: Header, prompts: P) -> Option<P> {
        let queue = self.queues.entry(header.id.stream.clone()).or_default();
        if queue.done.is_some_and(|done| key(&header) <= done) {
            return Some(prompts);
        }
        queue.prompts.insert(key(&header), (header, prompts));
        None
    }

    /// The next frame of a stream whose prompts are there, or will not come because later ones have.
    pub fn next(&mut self, stream: &StreamId) -> Option<Pair<P>> {
        let queue = self.queues.get_mut(stream)?;
        let wanted = key(&queue.frames.front()?.header);
        let (known, _) = queue.prompts.last_key_value()?;
        if *known < wanted {
            return None;
        }
        self.force(stream)
    }

    /// The next frame of a stream, with or without prompts.
    pub fn force(&mut self, stream: &StreamId) -> Option<Pair<P>> {
        let queue = self.queues.get_mut(stream)?;
        let frame = queue.frames.pop_front()?;
        let prompts = queue.give(key(&frame.header), &mut self.orphans);
        Some(Pair { frame, prompts })
    }

    /// Takes a frame's pixels back for another.
    pub fn give_back(&mut self, frame: Waiting) {
        if self.spare.len() < 32 {
            self.spare.push(frame.pixels);
        }
    }

    /// Prompts whose frames never came: they are finished with.
    pub fn take_orphans(&mut self) -> Vec<Header> {
        std::mem::take(&mut self.orphans)
    }

    /// Streams with frames that wait, the one whose frame has waited longest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<StreamId> {
        let queues = self.queues.iter();
        let waiting = queues.filter_map(|(stream, queue)| Some((queue.frames.front()?, stream)));
        let mut streams: Vec<(u64, &StreamId)> = waiting
            .map(|(frame, stream)| (frame.arrival, stream))
            .collect();
        streams.sort();
        streams
            .into_iter()
            .map(|(_, stream)| stream.clone())
            .collect()
    }

    /// The epoch of a stream's frames that wait.
    #[must_use]
    pub fn epoch(&self, stream: &StreamId) -> Option<Epoch> {
        let queue = self.queues.get(stream)?;
        Some(queue.frames.front()?.header.id.epoch)
    }

    /// Forgets a stream.
    pub fn forget(&mut self, stream: &StreamId) {
        if let Some(queue) = self.queues.remove(stream) {
            let headers = queue.prompts.into_values().map(|(header, _)| header);
            self.orphans.extend(headers);
        }
    }
}

impl<P: Default> Queue<P> {
    fn give(&mut self, wanted: Key, orphans: &mut Vec<Header>) -> P {
        let later = self.prompts.split_off(&wanted);
        let earlier = std::mem::replace(&mut self.prompts, later);
        orphans.extend(earlier.into_values().map(|(header, _)| header));
        self.done = Some(wanted);
        let prompts = self.prompts.remove(&wanted);
        prompts.map(|(_, prompts)| prompts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use tracklens_schemas::{FrameId, PixelEncoding};

    fn header(frame: u64) -> Header {
        Header {
            id: FrameId {
                stream: "s".parse().unwrap(),
                epoch: Epoch(0),
                frame: FrameIndex(frame),
            },
            pts_ns: 0,
            capture_ns: 0,
        }
    }

    fn prompt(frame: u64) -> Prompt {
        Prompt {
            prompt_id: frame as u32,
            points: vec![[0.0, 0.0]],
            labels: vec![1],
            bbox: None,
            mask: None,
            score: 1.0,
            strategy: "grid".into(),
        }
    }

    fn info() -> ImageInfo {
        ImageInfo::new(1, 1, PixelEncoding::Rgb8)
    }

    proptest! {
        #[test]
        fn every_frame_comes_once_in_order_with_its_prompts(
            turns in prop::collection::vec(any::<bool>(), 40), missing in prop::collection::vec(any::<bool>(), 20),
        ) {
            let stream = header(0).id.stream;
            let mut pairing: Pairing = Pairing::default();
            let (mut frames, mut prompts, mut out) = (0, 0, Vec::new());
            for frame_turn in turns.into_iter().chain([true; 20]).chain([false; 20]) {
                if frame_turn && frames < 20 {
                    pairing.frame(header(frames), info(), &[0, 0, 0]);
                    frames += 1;
                } else if prompts < 20 {
                    // Some answers never come, but the last one does.
                    if !missing[prompts as usize] || prompts == 19 {
                        prop_assert!(pairing.prompts(header(prompts), vec![prompt(prompts)]).is_none());
                    }
                    prompts += 1;
                }
                while let Some(pair) = pairing.next(&stream) {
                    out.push((pair.frame.header.id.frame.0, pair.prompts.first().map(|p| p.prompt_id)));
                }
            }
            let expected: Vec<_> = (0..20)
                .map(|at| (at, (!missing[at as usize] || at == 19).then_some(at as u32)))
                .collect();
            prop_assert_eq!(out, expected);
            prop_assert!(pairing.take_orphans().is_empty());
        }
    }

    #[test]
    fn a_frame_whose_prompts_are_there_need_not_be_kept() {
        let mut pairing: Pairing = Pairing::default();
        assert_eq!(pairing.at_hand(&header(0)), None);
        pairing.prompts(header(0), vec![prompt(0)]);
        assert_eq!(pairing.at_hand(&header(0)), Some(vec![prompt(0)]));
        pairing.frame(header(1), info(), &[]);
        pairing.prompts(header(2), vec![]);
        assert_eq!(pairing.at_hand(&header(2)), None, "frame 1 comes first");
    }

    #[test]
    fn prompts_for_a_frame_that_is_done_come_back_and_those_without_a_frame_are_orphans() {
        let mut pairing: Pairing = Pairing::default();
        pairing.prompts(header(1), vec![]);
        assert!(pairing.take(&header(2)).is_empty());
        assert_eq!(pairing.take_orphans(), [header(1)]);
        assert_eq!(
            pairing.prompts(header(2), vec![prompt(2)]),
            Some(vec![prompt(2)])
        );
    }
}
