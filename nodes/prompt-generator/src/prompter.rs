//! Frames and tracks of one stream in, one answer per frame out: when to look, when to wait for
//! tracks, and what to leave out.

use std::collections::VecDeque;

use tracklens_schemas::{Epoch, FrameIndex, Header, Image, Mask, Prompt, Quality};

use crate::detections::Known;
use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Coverage, CutDetector, Detections, DetectionsUse, Found, Proposal};

/// After a scene cut, frames before the next one counts: a stroboscope is not many scenes.
const REST_AFTER_CUT: u64 = 10;

/// How live tracks are taken into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracksUse {
    /// The graph has none: nothing is left out.
    None,
    /// A look at a frame waits for the tracks of the frame before (lossless).
    Exact {
        /// An earlier run of this process may have consumed them. Then they do not come again:
        /// once the tracker has acknowledged the prompts of their frame, nobody waits for them.
        restarted: bool,
    },
    /// The newest that have come; nothing waits (live).
    Newest,
}

/// What holds for all strategies.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Frames from one look to the next, at least 1.
    pub interval: u64,
    /// Where a strategy finds few places, it falls back on a sparse grid.
    pub fill: bool,
    /// Most prompts on a frame.
    pub most: usize,
    /// How live tracks are taken into account.
    pub tracks: TracksUse,
}

/// The prompts of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The frame's header.
    pub header: Header,
    /// The prompts; on most frames none.
    pub prompts: Vec<Prompt>,
    /// Whether a scene begins with the frame.
    pub cut: bool,
}

/// A frame that is not answered yet.
struct Waiting {
    header: Header,
    size: (u32, u32),
    cut: bool,
    what: What,
}

enum What {
    /// The prompts are known.
    Prompts(Vec<Prompt>),
    /// To be selected from once it is known what is tracked.
    Selection(Found),
    /// To be found once another node's detections are there.
    Detections,
}

/// The prompts of one stream. Nothing here keeps a frame's pixels: strategies propose when the
/// frame comes, and only their proposals wait.
pub struct Prompter {
    rules: Rules,
    strategy: Box<dyn Strategy>,
    cuts: CutDetector,
    epoch: Epoch,
    last: Option<FrameIndex>,
    last_cut: Option<u64>,
    cut_pending: bool,
    look_pending: bool,
    waiting: VecDeque<Waiting>,
    /// Tracked masks by frame, oldest first; `None` where the message could not be read.
    tracks: VecDeque<(FrameIndex, Option<Vec<Mask>>)>,
    detections: Detections,
    acknowledged: Option<FrameIndex>,
}

impl Prompter {
    /// A prompter for a new stream.
    #[must_use]
    pub fn new(rules: Rules, strategy: Box<dyn Strategy>) -> Self {
        Self {
            rules,
            strategy,
            cuts: CutDetector::default(),
            epoch: Epoch(0),
            last: None,
            last_cut: None,
            cut_pending: false,
            look_pending: false,
            waiting: VecDeque::new(),
            tracks: VecDeque::new(),
            detections: Detections::default(),
            acknowledged: None,
        }
    }

    /// How another node's detections are taken into account.
    #[must_use]
    pub fn with_detections(mut self, detections: DetectionsUse) -> Self {
        self.detections = Detections::new(detections);
        self
    }

    /// An epoch begins (nothing happens if it has begun already). Frames of the one before that
    /// still wait are answered without prompts: its tracks will not come any more.
    pub fn begin(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.release();
        self.cuts.reset();
        self.last = None;
        self.last_cut = None;
        self.cut_pending = false;
        self.look_pending = false;
        self.tracks.clear();
        self.detections.clear();
        self.acknowledged = None;
    }

    /// Nothing waits any longer: the stream has ended.
    pub fn release(&mut self) {
        for frame in &mut self.waiting {
            if let What::Selection(_) | What::Detections = frame.what {
                frame.what = What::Prompts(Vec::new());
            }
        }
    }

    /// Takes in the next frame of the stream.
    pub fn frame(&mut self, header: &Header, image: &Image<'_>) {
        self.begin(header.id.epoch);
        let index = header.id.frame;
        let cut = self.is_cut(index, image);
        let look = self.looks_at(index, cut, image.info.quality);
        let proposal = self.strategy.propose(&Frame {
            stream: &header.id.stream,
            index,
            image: *image,
            fresh: cut || self.last.is_none(),
            look,
        });
        let size = (image.info.source_width, image.info.source_height);
        let what = match proposal {
            Proposal::Nothing => What::Prompts(Vec::new()),
            Proposal::Given(prompts) => What::Prompts(prompts),
            Proposal::Detections => What::Detections,
            Proposal::Found(found) => self.admit(found, index, cut, size),
        };
        self.last = Some(index);
        self.waiting.push_back(Waiting {
            header: header.clone(),
            size,
            cut,
            what,
        });
    }

    /// Takes in what is tracked on a frame of this epoch: the masks of the objects that are seen,
    /// of any size that covers the frame, or `None` where that cannot be known.
    pub fn tracks(&mut self, epoch: Epoch, frame: FrameIndex, masks: Option<Vec<Mask>>) {
        if epoch != self.epoch {
            return;
        }
        match self.rules.tracks {
            TracksUse::None => return,
            TracksUse::Newest => self.tracks.clear(),
            TracksUse::Exact { .. } => {
                let next = self.next_frame();
                self.tracks.retain(|(known, _)| known.0 + 1 >= next);
            }
        }
        self.tracks.push_back((frame, masks));
    }

    /// Takes in what another node has found on a frame; `None` where that cannot be known. Tells whether it is of use: what is not is finished with.
    pub fn detections(
        &mut self,
        epoch: Epoch,
        frame: FrameIndex,
        found: Option<Vec<Candidate>>,
    ) -> bool {
        if epoch > self.epoch {
            self.begin(epoch);
        }
        if epoch < self.epoch || self.acknowledged.is_some_and(|last| frame <= last) {
            return false;
        }
        let next = FrameIndex(self.next_frame());
        self.detections.add(frame, found, next)
    }

    /// The frame that is answered next.
    fn next_frame(&self) -> u64 {
        match (self.waiting.front(), self.last) {
            (Some(waiting), _) => waiting.header.id.frame.0,
            (None, Some(last)) => last.0 + 1,
            (None, None) => 0,
        }
    }

    /// The tracker needs the prompts of this frame no longer.
    pub fn acknowledged(&mut self, epoch: Epoch, frame: FrameIndex) {
        if epoch == self.epoch {
            self.acknowledged = self.acknowledged.max(Some(frame));
        }
    }

    /// The next answer, in the order of the frames; `None` while its frame waits for tracks.
    pub fn next_answer(&mut self) -> Option<Answer> {
        self.detect()?;
        let front = self.waiting.front()?;
        let coverage = match &front.what {
            What::Prompts(_) | What::Detections => Coverage::default(),
            What::Selection(_) => match self.masks_before(front.header.id.frame)? {
                Some(masks) => Coverage::of(masks, front.size),
                None => {
                    self.look_pending = true;
                    self.waiting.front_mut()?.what = What::Prompts(Vec::new());
                    Coverage::default()
                }
            },
        };
        let Waiting {
            header,
            size,
            cut,
            what,
        } = self.waiting.pop_front()?;
        let prompts = match what {
            What::Prompts(prompts) => prompts,
            What::Detections => Vec::new(),
            What::Selection(found) => found.select(&coverage, size, self.rules.most),
        };
        Some(Answer {
            header,
            prompts,
            cut,
        })
    }

    /// Puts another node's detections in the next answer, where it is made of them; `None` while
    /// they may still come. Where they never will, the look is put off.
    fn detect(&mut self) -> Option<()> {
        let front = self.waiting.front()?;
        let What::Detections = front.what else {
            return Some(());
        };
        let (index, size, cut) = (front.header.id.frame, front.size, front.cut);
        let what = match self.detections.take(index) {
            Known::NotYet => return None,
            Known::Never => {
                self.look_pending = true;
                What::Prompts(Vec::new())
            }
            Known::Found(candidates) => {
                let found = Found {
                    candidates,
                    ..Found::default()
                };
                self.admit(found, index, cut, size)
            }
        };
        self.waiting.front_mut()?.what = what;
        Some(())
    }

    /// Frames that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What is tracked on the frame before this one: `None` while that may still come, `Some(None)`
    /// where it never will.
    fn masks_before(&self, frame: FrameIndex) -> Option<Option<&Vec<Mask>>> {
        let TracksUse::Exact { restarted } = self.rules.tracks else {
            return Some(self.tracks.back().and_then(|(_, masks)| masks.as_ref()));
        };
        let before = FrameIndex(frame.0.saturating_sub(1));
        if let Some((_, masks)) = self.tracks.iter().find(|(known, _)| *known == before) {
            return Some(masks.as_ref());
        }
        (restarted && self.acknowledged >= Some(before)).then_some(None)
    }

    fn is_cut(&mut self, index: FrameIndex, image: &Image<'_>) -> bool {
        self.cut_pending |= self.cuts.is_cut(image);
        let rested = self
            .last_cut
            .is_none_or(|last| index.0 >= last + REST_AFTER_CUT);
        if !(self.cut_pending && rested) {
            return false;
        }
        self.cut_pending = false;
        self.last_cut = Some(index.0);
        true
    }

    /// Whether objects are looked for on this frame. A look that cannot know what is tracked is put
    /// off to a frame that can.
    fn looks_at(&mut self, index: FrameIndex, cut: bool, quality: Quality) -> bool {
        let interval = quality.reprompt_interval(self.rules.interval.max(1));
        let scheduled = match self.last {
            Some(last) => index.0 / interval > last.0 / interval,
            None => index.0.is_multiple_of(interval) || self.rules.tracks == TracksUse::Newest,
        };
        self.look_pending |= scheduled || cut;
        let blind = match self.rules.tracks {
            TracksUse::None => false,
            // Everything before the first frame that comes has been acknowledged, its tracks too.
            TracksUse::Exact { .. } => self.last.is_none() && index.0 > 0,
            TracksUse::Newest => self.tracks.is_empty() && index.0 > 0,
        };
        let look = self.look_pending && (cut || !blind);
        if look {
            self.look_pending = false;
        }
        look
    }

    /// What becomes of places found. In the first frame of an epoch nothing is tracked, and what
    /// was tracked before a cut is elsewhere: there they need not wait, and nothing is left out.
    fn admit(&self, mut found: Found, index: FrameIndex, cut: bool, size: (u32, u32)) -> What {
        if !self.rules.fill {
            found.least = 0;
        }
        let begins = cut || index.0 == 0;
        match self.rules.tracks {
            TracksUse::Exact { .. } if !begins => What::Selection(found),
            TracksUse::Newest if !begins => {
                let masks = self.tracks.back().and_then(|(_, masks)| masks.as_deref());
                let coverage = Coverage::of(masks.unwrap_or_default(), size);
                What::Prompts(found.select(&coverage, size, self.rules.most))
            }
            _ => What::Prompts(found.select(&Coverage::default(), size, self.rules.most)),
        }
    }
}

#[cfg(test)]
mod tests;
