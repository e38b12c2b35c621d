//! The masks that a run gave, by stream, frame and track.

use std::collections::BTreeMap;
use std::path::Path;

use eyre::WrapErr;
use tracklens_schemas::Mask;

use crate::tracks;

/// The visible tracks of a stream, by frame and id.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamMasks {
    epoch: u32,
    frames: BTreeMap<u64, BTreeMap<u32, Mask>>,
}

impl StreamMasks {
    /// The tracks that are seen on a frame.
    pub(crate) fn on(&self, frame: u64) -> impl Iterator<Item = (u32, &Mask)> {
        let tracks = self.frames.get(&frame).into_iter().flatten();
        tracks.map(|(&track, mask)| (track, mask))
    }

    /// A track's mask on a frame; `None` where it is not seen.
    pub(crate) fn mask(&self, frame: u64, track: u32) -> Option<&Mask> {
        self.frames.get(&frame)?.get(&track)
    }

    /// The frames with tracks, in order.
    pub(crate) fn frames(&self) -> impl Iterator<Item = u64> {
        self.frames.keys().copied()
    }

    /// Adds a track's mask on a frame.
    pub(crate) fn add(&mut self, frame: u64, track: u32, mask: Mask) {
        self.frames.entry(frame).or_default().insert(track, mask);
    }
}

/// Reads a `tracks.jsonl`; of a stream that was opened anew, the last time counts.
pub(crate) fn read(path: &Path) -> eyre::Result<BTreeMap<String, StreamMasks>> {
    let mut streams: BTreeMap<String, StreamMasks> = BTreeMap::new();
    for row in tracks::rows(path)? {
        let row = row?;
        let stream = streams.entry(row.stream_id.clone()).or_default();
        if row.epoch > stream.epoch {
            (stream.epoch, stream.frames) = (row.epoch, BTreeMap::new());
        }
        if row.epoch < stream.epoch || !row.visible {
            continue;
        }
        let mask = row.mask().wrap_err_with(|| {
            format!(
                "{}: stream {}, frame {}, track {}",
                path.display(),
                row.stream_id,
                row.frame,
                row.track_id
            )
        })?;
        stream.add(row.frame, row.track_id, mask);
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_epoch_counts_and_what_is_hidden_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tracks.jsonl");
        let row = |epoch: u32, track: u32, visible: bool, counts: &str| {
            format!(
                r#"{{"stream_id":"a","epoch":{epoch},"frame":3,"pts_ns":0,"track_id":{track},"bbox":[0,0,1,1],"score":0.5,"area":20,"visible":{visible},"state":"tracked","mask":{{"size":[1,1],"counts":"{counts}"}}}}"#
            ) + "\n"
        };
        let rows = row(0, 1, true, "01") + &row(1, 7, true, "01") + &row(1, 8, false, "1");
        std::fs::write(&path, rows).unwrap();
        let streams = read(&path).unwrap();
        let seen: Vec<u32> = streams["a"].on(3).map(|(track, _)| track).collect();
        assert_eq!(seen, [7]);
        assert_eq!(streams["a"].mask(3, 7).unwrap().area(), 1);
        std::fs::write(&path, row(0, 1, true, "5")).unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("stream a, frame 3, track 1"), "{error}");
    }
}
