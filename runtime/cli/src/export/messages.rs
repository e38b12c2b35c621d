//! Our messages as JSON for MCAP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tracklens_node::{header_of, metadata_of};
use tracklens_recording::Record;
use tracklens_schemas::arrow::array::{Array, AsArray, types::UInt8Type};
use tracklens_schemas::jsonl::{write_identification_row, write_track_row};
use tracklens_schemas::{
    BBox, Header, Image, ImageInfo, Metadata, Track, TracksInfo, identifications, prompts,
    stream_events, tracks,
};
use tracklens_video::{JpegEncoder, Shrinker};

/// Name and JSON Schema.
pub(super) type Schema = (&'static str, &'static str);

const IMAGE: Schema = (
    "foxglove.CompressedImage",
    include_str!("schemas/compressed_image.json"),
);
const ANNOTATIONS: Schema = (
    "foxglove.ImageAnnotations",
    include_str!("schemas/image_annotations.json"),
);
const TRACKS: Schema = ("tracklens.Tracks", include_str!("schemas/tracks.json"));
const IDENTIFICATIONS: Schema = (
    "tracklens.Identifications",
    include_str!("schemas/identifications.json"),
);
const PROMPTS: Schema = ("tracklens.Prompts", include_str!("schemas/prompts.json"));
const EVENTS: Schema = (
    "tracklens.StreamEvents",
    include_str!("schemas/stream_events.json"),
);

/// One message to be written.
#[derive(Debug)]
pub(super) struct Message {
    /// `/stream/node/output`.
    pub(super) topic: String,
    /// What its body is.
    pub(super) schema: Schema,
    /// The body.
    pub(super) body: Value,
    /// When the bytes of the frame came in, nanoseconds since 1970, where known.
    pub(super) sent: Option<u64>,
}

/// Turns records into messages.
pub(super) struct Converter {
    max_width: u32,
    shrinker: Shrinker,
    jpeg: JpegEncoder,
}

impl Converter {
    /// Pictures are no wider than `max_width`.
    pub(super) fn new(max_width: u32) -> Self {
        Self {
            max_width,
            shrinker: Shrinker::default(),
            jpeg: JpegEncoder::default(),
        }
    }

    /// The messages of a record; where it has no form in MCAP, why.
    pub(super) fn messages(&mut self, record: &Record, at: u64) -> Result<Vec<Message>, String> {
        let Some((header, _)) = header_of(&record.parameters) else {
            return match record.output.as_str() {
                // The end of a source is nobody's stream.
                "stream_events" => Ok(Vec::new()),
                _ => Err("no message of a stream".into()),
            };
        };
        let metadata = metadata_of(&record.parameters);
        let data = record
            .data()
            .map_err(|fault| fault.to_string())?
            .into_inner();
        let bodies = match record.output.as_str() {
            "frames" => vec![("frames", IMAGE, self.image(&header, &metadata, &data, at)?)],
            "tracks" => {
                let (rows, drawn) = tracked(&header, &metadata, &data, at)?;
                vec![
                    ("tracks", TRACKS, rows),
                    ("annotations", ANNOTATIONS, drawn),
                ]
            }
            "identifications" => {
                vec![(
                    "identifications",
                    IDENTIFICATIONS,
                    identified(&header, &data)?,
                )]
            }
            "prompts" => vec![("prompts", PROMPTS, prompted(&header, &data)?)],
            "stream_events" => vec![("stream_events", EVENTS, happened(&header, &data)?)],
            "chunks" => return Err("pieces of coded video; record frames to see them".into()),
            _ => return Err("of no kind that is exported".into()),
        };
        let message = |(output, schema, body)| Message {
            topic: format!("/{}/{}/{output}", header.id.stream, record.node),
            schema,
            body,
            sent: u64::try_from(header.capture_ns).ok().filter(|at| *at > 0),
        };
        Ok(bodies.into_iter().map(message).collect())
    }

    fn image(
        &mut self,
        header: &Header,
        metadata: &Metadata,
        data: &dyn Array,
        at: u64,
    ) -> Result<Value, String> {
        let info = ImageInfo::read(metadata).map_err(|error| error.to_string())?;
        let pixels = data
            .as_primitive_opt::<UInt8Type>()
            .ok_or("pixels that are no bytes")?;
        let image = Image::new(info, pixels.values()).map_err(|error| error.to_string())?;
        let still = self.shrinker.still(&image, self.max_width);
        let jpeg = still.and_then(|still| self.jpeg.encode(&still));
        let jpeg = jpeg.map_err(|error| error.to_string())?;
        Ok(json!({
            "timestamp": time(at),
            "frame_id": header.id.stream.as_str(),
            "format": "jpeg",
            "data": STANDARD.encode(jpeg),
        }))
    }
}

fn time(nanos: u64) -> Value {
    json!({"sec": nanos / 1_000_000_000, "nsec": nanos % 1_000_000_000})
}

/// A body with what names the frame.
fn body(header: &Header, key: &str, rows: Vec<Value>) -> Value {
    json!({
        "stream_id": header.id.stream.as_str(),
        "epoch": header.id.epoch.0,
        "frame": header.id.frame.0,
        "pts_ns": header.pts_ns,
        key: rows,
    })
}

/// The line that a sink would write, as JSON.
fn row(write: impl FnOnce(&mut Vec<u8>)) -> Result<Value, String> {
    let mut line = Vec::new();
    write(&mut line);
    serde_json::from_slice(&line).map_err(|error| error.to_string())
}

fn tracked(
    header: &Header,
    metadata: &Metadata,
    data: &dyn Array,
    at: u64,
) -> Result<(Value, Value), String> {
    let info = TracksInfo::read(metadata).map_err(|error| error.to_string())?;
    let list = tracks::decode(data, info.width, info.height).map_err(|error| error.to_string())?;
    let rows = list
        .iter()
        .map(|track| row(|line| write_track_row(line, header, track)));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok((body(header, "tracks", rows), annotations(&list, at)))
}

/// Boxes and numbers of what is seen.
fn annotations(list: &[Track], at: u64) -> Value {
    let seen: Vec<&Track> = list.iter().filter(|track| track.visible).collect();
    let boxes = seen.iter().map(|track| {
        let BBox { x0, y0, x1, y1 } = track.bbox;
        let corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)];
        json!({
            "timestamp": time(at),
            // LINE_LOOP
            "type": 2,
            "points": corners.map(|(x, y)| json!({"x": x, "y": y})),
            "outline_color": colour(track.track_id.0),
            "outline_colors": [],
            "fill_color": {"r": 0, "g": 0, "b": 0, "a": 0},
            "thickness": 2,
        })
    });
    let texts = seen.iter().map(|track| {
        json!({
            "timestamp": time(at),
            "position": {"x": track.bbox.x0, "y": track.bbox.y0},
            "text": track.track_id.0.to_string(),
            "font_size": 14,
            "text_color": {"r": 1, "g": 1, "b": 1, "a": 1},
            "background_color": colour(track.track_id.0),
        })
    });
    json!({
        "circles": [],
        "points": boxes.collect::<Vec<_>>(),
        "texts": texts.collect::<Vec<_>>(),
    })
}

/// A colour of an id: hues a golden angle apart.
fn colour(id: u32) -> Value {
    let hue = (f64::from(id) * 137.508) % 360.0 / 60.0;
    let channel = |shift: f64| {
        let distance = ((hue + shift).rem_euclid(6.0) - 3.0).abs() - 1.0;
        (distance.clamp(0.0, 1.0) * 100.0).round() / 100.0
    };
    json!({"r": channel(0.0), "g": channel(4.0), "b": channel(2.0), "a": 1})
}

fn identified(header: &Header, data: &dyn Array) -> Result<Value, String> {
    let list = identifications::decode(data).map_err(|error| error.to_string())?;
    let rows = list
        .iter()
        .map(|found| row(|line| write_identification_row(line, header, found)));
    Ok(body(
        header,
        "identifications",
        rows.collect::<Result<_, _>>()?,
    ))
}

fn prompted(header: &Header, data: &dyn Array) -> Result<Value, String> {
    let list = prompts::decode(data).map_err(|error| error.to_string())?;
    let rows = list.iter().map(|prompt| {
        json!({
            "prompt_id": prompt.prompt_id,
            "points": prompt.points,
            "labels": prompt.labels,
            "box": prompt.bbox.map(|BBox { x0, y0, x1, y1 }| [x0, y0, x1, y1]),
            "score": prompt.score,
            "strategy": prompt.strategy,
        })
    });
    Ok(body(header, "prompts", rows.collect()))
}

fn happened(header: &Header, data: &dyn Array) -> Result<Value, String> {
    let list = stream_events::decode(data).map_err(|error| error.to_string())?;
    let rows = list
        .iter()
        .map(|event| json!({"event": event.event.as_str(), "detail": event.detail}));
    Ok(body(header, "events", rows.collect()))
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
