//! Rows of `tracks.jsonl`: one object per frame and track, in a fixed number format, so that equal
//! results are equal bytes.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::{Header, Identification, Mask, RleError, Track, TrackId, TrackState};

/// Appends the row of a track, line feed included. Boxes have two decimals, scores four.
pub fn write_track_row(out: &mut Vec<u8>, header: &Header, track: &Track) {
    let (id, mask) = (&header.id, &track.mask);
    // Memory takes all that is written to it. Stream ids need no escaping; of the compressed runs only the
    // backslash does.
    let _infallible = write!(
        out,
        "{{\"stream_id\":\"{}\",\"epoch\":{},\"frame\":{},\"pts_ns\":{},\"track_id\":{},\"bbox\":[",
        id.stream, id.epoch.0, id.frame.0, header.pts_ns, track.track_id.0,
    );
    for (at, side) in track.bbox.to_array().into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_decimals::<2>(out, side);
    }
    out.extend_from_slice(b"],\"score\":");
    write_decimals::<4>(out, track.score);
    let _infallible = write!(
        out,
        ",\"area\":{},\"visible\":{},\"state\":\"{}\",\"mask\":{{\"size\":[{},{}],\"counts\":\"",
        track.area,
        track.visible,
        track.state.as_str(),
        mask.height(),
        mask.width(),
    );
    for byte in mask.encode() {
        if byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.extend_from_slice(b"\"}}\n");
}

/// Writes a number with so many decimals: what `{:.N}` writes, by whole numbers.
fn write_decimals<const DECIMALS: u32>(out: &mut Vec<u8>, number: f32) {
    // Exact: the product has fewer digits than an f64.
    let scale = 10_u32.pow(DECIMALS);
    let scaled = (f64::from(number.abs()) * f64::from(scale)).round_ties_even();
    let _infallible = if scaled < 1e15 {
        let (scaled, scale) = (scaled as u64, u64::from(scale));
        let sign = if number.is_sign_negative() { "-" } else { "" };
        let (whole, decimals, width) = (scaled / scale, scaled % scale, DECIMALS as usize);
        write!(out, "{sign}{whole}.{decimals:0width$}")
    } else {
        write!(out, "{number:.*}", DECIMALS as usize)
    };
}

/// The row of an identification. The frame is the one on which the object was asked about.
#[derive(Serialize)]
struct IdentificationRow<'a> {
    kind: &'static str,
    stream_id: &'a str,
    epoch: u32,
    frame: u64,
    pts_ns: i64,
    track_id: u32,
    outcome: &'static str,
    name: &'a str,
    category: &'a str,
    description: &'a str,
    confidence: f64,
    dimensions: Option<&'a str>,
    backend: &'a str,
    cached: bool,
    attempts: u8,
    error: Option<&'a str>,
}

/// Appends the row of an identification, line feed included: `kind` is `identification`.
pub fn write_identification_row(out: &mut Vec<u8>, header: &Header, row: &Identification) {
    let row = IdentificationRow {
        kind: "identification",
        stream_id: header.id.stream.as_str(),
        epoch: header.id.epoch.0,
        frame: header.id.frame.0,
        pts_ns: header.pts_ns,
        track_id: row.track_id.0,
        outcome: row.outcome.as_str(),
        name: &row.name,
        category: &row.category,
        description: &row.description,
        // Four decimals, so that equal results are equal bytes.
        confidence: (f64::from(row.confidence) * 1e4).round() / 1e4,
        dimensions: row.dimensions.as_deref(),
        backend: &row.backend,
        cached: row.cached,
        attempts: row.attempts,
        error: row.error.as_deref(),
    };
    // Plain data written to memory: neither can fail.
    let _infallible = serde_json::to_writer(&mut *out, &row);
    out.push(b'\n');
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

    #[test]
    fn identifications_are_one_line_of_json_whatever_a_service_says() {
        let header = Header {
            id: FrameId {
                stream: "cam-1".parse().unwrap(),
                epoch: Epoch(1),
                frame: FrameIndex(7),
            },
            pts_ns: 40,
            capture_ns: 0,
        };
        let row = Identification {
            track_id: TrackId(3),
            name: "a \"mug\"\n".into(),
            category: "cup".into(),
            description: "\u{1f375}".into(),
            confidence: 0.5,
            dimensions: None,
            backend: "gallery".into(),
            outcome: crate::Outcome::Identified,
            cached: true,
            attempts: 1,
            error: None,
        };
        let mut out = Vec::new();
        write_identification_row(&mut out, &header, &row);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&read["kind"], &read["name"]),
            (&"identification".into(), &row.name.into())
        );
        assert_eq!(
            (&read["frame"], &read["error"]),
            (&7.into(), &serde_json::Value::Null)
        );
    }

    proptest! {
        #[test]
        fn decimals_are_those_of_format(number: f32, eighths in -4000i32..4000) {
            for number in [number, number % 1e4, eighths as f32 / 8.0, eighths as f32 / 32.0] {
                let mut out = Vec::new();
                write_decimals::<2>(&mut out, number);
                out.push(b' ');
                write_decimals::<4>(&mut out, number);
                let expected = format!("{number:.2} {number:.4}");
                prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }

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
