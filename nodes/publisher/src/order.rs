//! Each row once, in frame order per stream, also when frames come again after a restart.
//!
//! Per stream a cursor: the last frame written. Of a frame that an earlier process was killed in,
//! the file tells which rows are there; the others are still missing.

use std::collections::{BTreeMap, BTreeSet};

use tracklens_schemas::{Epoch, FrameId, FrameIndex, StreamId, Track, TrackId};

/// The cursors of one sink.
#[derive(Debug, Default)]
pub struct Order {
    cursors: BTreeMap<StreamId, Cursor>,
}

#[derive(Debug)]
struct Cursor {
    at: (Epoch, FrameIndex),
    /// The rows that are there of a frame that may not be whole; `None`: it is whole.
    present: Option<BTreeSet<TrackId>>,
}

impl Order {
    /// Takes note of a row that was read back. Rows must be told in their order in the file.
    pub fn recover(&mut self, id: &FrameId, track: TrackId) {
        let at = (id.epoch, id.frame);
        let cursor = self.cursors.entry(id.stream.clone()).or_insert(Cursor {
            at,
            present: Some(BTreeSet::new()),
        });
        if at > cursor.at {
            *cursor = Cursor {
                at,
                present: Some(BTreeSet::new()),
            };
        }
        if at == cursor.at
            && let Some(present) = &mut cursor.present
        {
            present.insert(track);
        }
    }

    /// The tracks of this frame that are not written yet, in their order.
    pub fn missing<'a>(
        &'a self,
        id: &FrameId,
        tracks: &'a [Track],
    ) -> impl Iterator<Item = &'a Track> {
        let at = (id.epoch, id.frame);
        let cursor = self.cursors.get(&id.stream);
        let over = cursor
            .is_some_and(|cursor| at < cursor.at || (at == cursor.at && cursor.present.is_none()));
        let present = cursor
            .filter(|cursor| at == cursor.at)
            .and_then(|cursor| cursor.present.as_ref());
        tracks.iter().filter(move |track| {
            !over && present.is_none_or(|present| !present.contains(&track.track_id))
        })
    }

    /// The frame is written whole.
    pub fn written(&mut self, id: &FrameId) {
        let at = (id.epoch, id.frame);
        let whole = Cursor { at, present: None };
        match self.cursors.get_mut(&id.stream) {
            Some(cursor) if at >= cursor.at => *cursor = whole,
            Some(_) => {}
            None => {
                self.cursors.insert(id.stream.clone(), whole);
            }
        }
    }

    /// The stream is closed: nothing of it comes again to this process.
    pub fn forget(&mut self, stream: &StreamId) {
        self.cursors.remove(stream);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use tracklens_schemas::{BBox, Header, Mask, TrackState, TracksInfo, TracksStatus};

    pub(crate) fn header(stream: &str, epoch: u32, frame: u64) -> Header {
        Header {
            id: FrameId {
                stream: stream.parse().unwrap(),
                epoch: Epoch(epoch),
                frame: FrameIndex(frame),
            },
            pts_ns: frame as i64 * 40_000_000,
            capture_ns: 0,
        }
    }

    pub(crate) fn track(id: u32) -> Track {
        Track {
            track_id: TrackId(id),
            bbox: BBox::new(1.0, 2.0, 5.5, 6.25),
            mask: Mask::from_bitmap(&[1; 48], 8, 6),
            area: 48,
            score: 0.75,
            visible: true,
            state: TrackState::Tracked,
            age: 3,
        }
    }

    pub(crate) fn info() -> TracksInfo {
        TracksInfo {
            status: TracksStatus::Ok,
            processing_ms: 1.0,
            model: "test".into(),
            width: 8,
            height: 6,
        }
    }

    /// Frames of two streams: which stream, whether a new epoch begins, and the number of tracks.
    pub(crate) fn frames() -> impl Strategy<Value = Vec<(Header, Vec<Track>)>> {
        let frame = (0usize..2, prop::bool::weighted(0.1), 0u32..4);
        prop::collection::vec(frame, 1..14).prop_map(|frames| {
            let mut next = [(0u32, 0u64); 2];
            frames
                .into_iter()
                .map(|(stream, new_epoch, tracks)| {
                    let (epoch, frame) = &mut next[stream];
                    if new_epoch {
                        (*epoch, *frame) = (*epoch + 1, 0);
                    }
                    let header = header(["a", "b"][stream], *epoch, *frame);
                    *frame += 1;
                    (header, (1..=tracks).map(track).collect())
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn whatever_is_sent_again_each_row_is_written_once_and_in_order(
            frames in frames(), again in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut order = Order::default();
            let mut rows = Vec::new();
            let mut send = |order: &mut Order, (header, tracks): &(Header, Vec<Track>)| {
                rows.extend(
                    order.missing(&header.id, tracks).map(|t| (header.id.clone(), t.track_id)),
                );
                order.written(&header.id);
            };
            let mut again = again.into_iter();
            for (index, frame) in frames.iter().enumerate() {
                send(&mut order, frame);
                if let Some(back) = again.next() {
                    for frame in &frames[back.index(index + 1)..=index] {
                        send(&mut order, frame);
                    }
                }
            }
            let wanted: Vec<_> = frames
                .iter()
                .flat_map(|(header, tracks)| {
                    tracks.iter().map(|track| (header.id.clone(), track.track_id))
                })
                .collect();
            prop_assert_eq!(rows, wanted);
        }
    }

    #[test]
    fn of_a_frame_found_in_part_only_the_rest_is_missing() {
        let mut order = Order::default();
        let frame = header("cam", 1, 7).id;
        order.recover(&header("cam", 1, 6).id, TrackId(1));
        order.recover(&frame, TrackId(1));
        let tracks = [track(1), track(2)];
        let missing: Vec<u32> = order
            .missing(&frame, &tracks)
            .map(|t| t.track_id.0)
            .collect();
        assert_eq!(missing, [2]);
        order.written(&frame);
        assert_eq!(order.missing(&frame, &tracks).count(), 0);
        assert_eq!(order.missing(&header("cam", 1, 6).id, &tracks).count(), 0);
        assert_eq!(order.missing(&header("cam", 2, 0).id, &tracks).count(), 2);
    }
}
