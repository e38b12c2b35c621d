//! The crops of tracks, for whoever clicks on one: a few per track, within a budget of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracklens_schemas::{Crop, FrameId, StreamId, TrackId};

/// Crops kept of a track: the newest, and the sharpest of the others.
const PER_TRACK: usize = 6;

/// A crop that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its number in the album.
    pub number: u64,
    /// The frame that it is of.
    pub id: FrameId,
    /// The picture.
    pub crop: Arc<Crop>,
}

/// Crops by track.
#[derive(Debug)]
pub struct Album {
    budget: usize,
    bytes: usize,
    next: u64,
    tracks: BTreeMap<(StreamId, TrackId), Vec<Kept>>,
}

impl Album {
    /// An album of at most so many bytes of pixels.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            bytes: 0,
            next: 1,
            tracks: BTreeMap::new(),
        }
    }

    /// Takes a crop in. The tracks that have gone longest without one make room.
    pub fn add(&mut self, id: &FrameId, crop: Crop) {
        let key = (id.stream.clone(), crop.track_id);
        self.bytes += crop.pixels.len();
        let kept = self.tracks.entry(key).or_default();
        kept.push(Kept {
            number: self.next,
            id: id.clone(),
            crop: Arc::new(crop),
        });
        self.next += 1;
        if kept.len() > PER_TRACK {
            let older = kept.iter().take(PER_TRACK).enumerate();
            let dullest = older.min_by(|a, b| a.1.crop.sharpness.total_cmp(&b.1.crop.sharpness));
            let dullest = dullest.map_or(0, |(index, _)| index);
            self.bytes -= kept.remove(dullest).crop.pixels.len();
        }
        while self.bytes > self.budget {
            let newest = |kept: &Vec<Kept>| kept.last().map_or(0, |kept| kept.number);
            let oldest = self.tracks.iter().min_by_key(|(_, kept)| newest(kept));
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            for kept in self.tracks.remove(&key).unwrap_or_default() {
                self.bytes -= kept.crop.pixels.len();
            }
        }
    }

    /// The crops of a track, oldest first.
    #[must_use]
    pub fn of(&self, stream: &StreamId, track: TrackId) -> &[Kept] {
        let kept = self.tracks.get(&(stream.clone(), track));
        kept.map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::header;
    use tracklens_schemas::BBox;

    fn crop(track: u32, sharpness: f32) -> Crop {
        Crop {
            track_id: TrackId(track),
            bbox: BBox::new(0.0, 0.0, 10.0, 10.0),
            width: 10,
            height: 10,
            pixels: vec![0; 300],
            sharpness,
        }
    }

    #[test]
    fn the_newest_and_the_sharpest_stay() {
        let mut album = Album::new(1 << 20);
        for (frame, sharpness) in [9.0, 1.0, 8.0, 7.0, 6.0, 5.0, 0.5, 0.1].iter().enumerate() {
            album.add(&header("cam", 0, frame as u64).id, crop(1, *sharpness));
        }
        let frames: Vec<u64> = album
            .of(&"cam".parse().unwrap(), TrackId(1))
            .iter()
            .map(|kept| kept.id.frame.0)
            .collect();
        assert_eq!(frames, [0, 2, 3, 4, 5, 7]);
    }

    #[test]
    fn tracks_without_new_crops_make_room() {
        let mut album = Album::new(1000);
        let id = header("cam", 0, 0).id;
        for track in [1, 2, 3, 1, 4] {
            album.add(&id, crop(track, 1.0));
        }
        let kept = |track| album.of(&id.stream, TrackId(track)).len();
        assert_eq!([kept(1), kept(2), kept(3), kept(4)], [2, 0, 0, 1]);
        assert!(album.bytes <= 1000);
    }
}
