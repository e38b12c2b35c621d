//! The last frames of one stream, in buffers that are used again.

use std::collections::VecDeque;

use tracklens_schemas::{FrameId, Image, ImageInfo};

#[derive(Debug)]
struct Slot {
    id: FrameId,
    info: ImageInfo,
    pixels: Vec<u8>,
}

/// A ring of frames at source resolution.
#[derive(Debug)]
pub struct Ring {
    capacity: usize,
    slots: VecDeque<Slot>,
}

impl Ring {
    /// An empty ring for this many frames.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            slots: VecDeque::new(),
        }
    }

    /// Copies a frame in, over the oldest one once the ring is full. Allocates nothing then, unless
    /// frames have grown.
    pub fn push(&mut self, id: &FrameId, image: &Image<'_>) {
        let mut pixels = Vec::new();
        if self.slots.len() >= self.capacity
            && let Some(oldest) = self.slots.pop_front()
        {
            pixels = oldest.pixels;
        }
        pixels.clear();
        pixels.extend_from_slice(image.data);
        self.slots.push_back(Slot {
            id: id.clone(),
            info: image.info,
            pixels,
        });
    }

    /// The frame, if it is still there.
    #[must_use]
    pub fn get(&self, id: &FrameId) -> Option<Image<'_>> {
        let slot = self.slots.iter().rev().find(|slot| slot.id == *id)?;
        Image::new(slot.info, &slot.pixels).ok()
    }

    /// Frames in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the ring holds no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::{Epoch, FrameIndex, PixelEncoding};

    fn id(frame: u64) -> FrameId {
        FrameId {
            stream: "cam".parse().unwrap(),
            epoch: Epoch(0),
            frame: FrameIndex(frame),
        }
    }

    #[test]
    fn keeps_the_last_frames_in_the_same_buffers_across_sizes() {
        let mut ring = Ring::new(2);
        for frame in 0..5_u8 {
            let side = if frame < 3 { 4 } else { 2 };
            let info = ImageInfo::new(side, side, PixelEncoding::Rgb8);
            let data = vec![frame; info.byte_len()];
            ring.push(&id(frame.into()), &Image::new(info, &data).unwrap());
        }
        assert_eq!(ring.len(), 2);
        assert!(ring.get(&id(2)).is_none());
        let last = ring.get(&id(4)).unwrap();
        assert_eq!((last.info.width, last.data[0]), (2, 4));
        let warm: Vec<usize> = ring.slots.iter().map(|s| s.pixels.capacity()).collect();
        assert_eq!(warm, [48, 48]);
    }
}
