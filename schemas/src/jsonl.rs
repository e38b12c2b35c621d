//! Rows of `tracks.jsonl`: one object per frame and track, in a fixed number format, so that equal
//! results are equal bytes.

use std::fmt::Write;

use serde::Deserialize;

use crate::{Header, Mask, RleError, Track, TrackId, TrackState};

/// Appends the row of a track, line feed included. Boxes have two decimals, scores four.
pub fn write_track_row(out: &mut Vec<u8>, header: &Header, track: &Track) {
    let [x0, y0, x1, y1] = track.bbox.to_array();
    let counts = track.mask.encode();
    let mut line = String::with_capacity(256 + counts.len());
    // Stream ids need no escaping; of the compressed runs only the backslash does.
    let _infallible = write!(
        line,
        "{{\"stream_id\":\"{}\",\"epoch\":{},\"frame\":{},\"pts_ns\":{},\"track_id\":{},\
         \"bbox\":[{x0:.2},{y0:.2},{x1:.2},{y1:.2}],\"score\":{:.4},\"area\":{},\
         \"visible\":{},\"state\":\"{}\",\"mask\":{{\"size\":[{},{}],\"counts\":\"",
        header.id.stream,
        header.id.epoch.0,
        header.id.frame.0,
        header.pts_ns,
        track.track_id.0,
        track.score,
        track.area,
        track.visible,
        track.state.as_str(),
        track.mask.height(),
        track.mask.width(),
    );
    for byte in counts {
        if byte == b'\\' {
            line.push('\\');
        }
        line.push(char::from(byte));
    }
    line.push_str("\"}}\n");
    out.extend_from_slice(line.as_bytes());
}

/// A row read back.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TrackRow {
    /// The stream.
    pub stream_id: String,
    /// Its epoch.
    pub epoch: u32,
    /// The frame in the epoch.
    pub frame: u64,
    /// Presentation time in the stream, nanoseconds.
    pub pts_ns: i64,
    /// The object.
    pub track_id: u32,
    /// Its box `[x0, y0, x1, y1]` in source pixels.
    pub bbox: [f32; 4],
    /// Predicted IoU or detection score.
    pub score: f32,
    /// Object pixels.
    pub area: u32,
    /// Whether the object is seen.
    pub visible: bool,
    /// new, tracked, occluded or lost.
    pub state: String,
    /// The mask.
    pub mask: MaskRow,
}

/// A mask in a row, as COCO writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MaskRow {
    /// `[height, width]` in pixels.
    pub size: [u32; 2],
    /// COCO compressed runs.
    pub counts: String,
}

impl TrackRow {
    /// The row as a track. Its age is not in the row: 0.
    ///
    /// # Errors
    /// Where the mask cannot be decoded.
    pub fn track(&self) -> Result<Track, RleError> {
        Ok(Track {
            track_id: TrackId(self.track_id),
            bbox: self.bbox.into(),
            mask: self.mask()?,
            area: self.area,
            score: self.score,
            visible: self.visible,
            state: TrackState::parse(&self.state).unwrap_or(TrackState::Tracked),
            age: 0,
        })
    }

    /// The mask, decoded.
    ///
    /// # Errors
    /// Where the runs are no mask of the size.
    pub fn mask(&self) -> Result<Mask, RleError> {
        let [height, width] = self.mask.size;
        Mask::decode(self.mask.counts.as_bytes(), width, height)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{BBox, Epoch, FrameId, FrameIndex};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_json_and_read_back(pixels in prop::collection::vec(0u8..2, 600)) {
            let header = Header {
                id: FrameId {
                    stream: "cam-1".parse().unwrap(),
                    epoch: Epoch(1),
                    frame: FrameIndex(7),
                },
                pts_ns: 40_000_000,
                capture_ns: 0,
            };
            let track = Track {
                track_id: TrackId(3),
                bbox: BBox::new(1.0, 2.0, 3.25, 4.0),
                mask: Mask::from_bitmap(&pixels, 30, 20),
                area: 9,
                score: 0.5,
                visible: true,
                state: TrackState::Tracked,
                age: 4,
            };
            let mut line = Vec::new();
            write_track_row(&mut line, &header, &track);
            let row: TrackRow = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(row.mask().unwrap(), track.mask);
            prop_assert_eq!(row.bbox, [1.0, 2.0, 3.25, 4.0]);
            let text = String::from_utf8(line).unwrap();
            let start = r#"{"stream_id":"cam-1","epoch":1,"frame":7,"pts_ns":40000000,"track_id":3,"bbox":[1.00,2.00,3.25,4.00],"score":0.5000,"#;
            prop_assert!(text.starts_with(start), "{}", text);
        }
    }
}
