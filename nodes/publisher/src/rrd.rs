//! The sink `tracklens.rrd`: a recording for the Rerun viewer.
//!
//! Per stream an entity `/<stream>` with the frames as JPEG, `/<stream>/masks` and `/<stream>/objects`
//! with the tracks that are visible, and `/<stream>/identifications`, on the timelines `frame` and
//! `pts`. Streams that come back are `/<stream>+<epoch>`, since their frames are counted anew. A
//! restarted process goes on in a next part, `tracklens+2.rrd`, a recording of its own: the killed
//! one's is whole to its last message. No index is written at the end, because what it is made of
//! would grow in memory with the run; the viewer reads the file without.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::iter;
use std::path::{Path, PathBuf};

use re_build_info::CrateVersion;
use re_chunk::{Chunk, RowId};
use re_log_encoding::{EncodeError, Encoder, EncodingOptions};
use re_log_types::{
    EntityPath, EntityPathPart, LogMsg, SetStoreInfo, StoreId, StoreInfo, StoreKind, StoreSource,
    TimeCell, TimePoint,
};
use re_sdk_types::AsComponents;
use re_sdk_types::archetypes::{Boxes2D, EncodedImage, SegmentationImage, TextLog};
use re_sdk_types::components::ImageFormat;
use re_sdk_types::datatypes::ChannelDatatype;
use tracklens_schemas::{
    FrameId, Header, Identification, Image, Outcome, StreamId, Track, TrackId, TracksInfo,
};
use tracklens_video::{JpegEncoder, Shrinker};

use crate::pairing::Position;
use crate::{Order, Sink, SinkError, SinkFile};

/// Names of a stream's objects that are remembered: those of the newest objects.
const NAMES: usize = 4096;

/// Writes a recording.
pub struct Rrd {
    path: PathBuf,
    file: Option<Recording>,
    rows: u64,
    pictures: u64,
    order: Order,
    streams: BTreeMap<StreamId, Seen>,
    shrinker: Shrinker,
    encoder: JpegEncoder,
}

/// What is known of a stream.
#[derive(Default)]
struct Seen {
    picture: Option<Position>,
    names: BTreeMap<TrackId, String>,
}

struct Recording {
    id: StoreId,
    encoder: Encoder<Whole>,
}

/// A file in which what could not be written whole is taken back, so that the next message follows the
/// last whole one.
struct Whole(File);

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.0.stream_position()?;
        self.0.write_all(bytes).inspect_err(|_| {
            let _as_good_as_can_be = self.0.set_len(end);
            let _as_good_as_can_be = self.0.seek(io::SeekFrom::Start(end));
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Recording {
    fn create(path: &Path) -> Result<Self, EncodeError> {
        let file = Whole(File::create(path)?);
        let options = EncodingOptions::PROTOBUF_COMPRESSED;
        let mut encoder = Encoder::new_eager(CrateVersion::LOCAL, options, file)?;
        encoder.do_not_emit_footer();
        let id = StoreId::random(StoreKind::Recording, "tracklens");
        encoder.append(&LogMsg::SetStoreInfo(SetStoreInfo {
            row_id: *RowId::new(),
            info: StoreInfo::new(id.clone(), StoreSource::Other("TrackLens".into())),
        }))?;
        Ok(Self { id, encoder })
    }

    fn log(
        &mut self,
        entity: EntityPath,
        time: TimePoint,
        what: &dyn AsComponents,
    ) -> Result<(), EncodeError> {
        let chunk = Chunk::builder(entity)
            .with_archetype_auto_row(time, what)
            .build()?;
        let message = LogMsg::ArrowMsg(self.id.clone(), chunk.to_arrow_msg()?);
        self.encoder.append(&message).map(drop)
    }
}

impl Rrd {
    /// Writes into this folder. With `resume`, recordings that are there stay.
    #[must_use]
    pub fn new(folder: &Path, resume: bool) -> Self {
        let mut path = folder.join("tracklens.rrd");
        let mut part = 1;
        while resume && path.exists() {
            part += 1;
            path = folder.join(format!("tracklens+{part}.rrd"));
        }
        Self {
            path,
            file: None,
            rows: 0,
            pictures: 0,
            order: Order::default(),
            streams: BTreeMap::new(),
            shrinker: Shrinker::default(),
            encoder: JpegEncoder::default(),
        }
    }

    fn log(
        &mut self,
        header: &Header,
        part: Option<&str>,
        what: &dyn AsComponents,
    ) -> Result<(), SinkError> {
        let written = match &mut self.file {
            Some(file) => Ok(file),
            None => Recording::create(&self.path).map(|file| self.file.insert(file)),
        };
        let written =
            written.and_then(|file| file.log(entity(&header.id, part), time(header), what));
        written.map_err(|error| match error {
            EncodeError::Write(error) => SinkError::write(&self.path)(error),
            error => SinkError::write(&self.path)(io::Error::other(error)),
        })
    }

    /// Boxes with names, of corners in frame pixels.
    fn boxes(&self, stream: &StreamId, visible: &[&Track]) -> Boxes2D {
        let names = self.streams.get(stream).map(|seen| &seen.names);
        let edges = visible.iter().map(|track| track.bbox.to_array());
        let (mins, sizes): (Vec<_>, Vec<_>) = edges
            .map(|[x0, y0, x1, y1]| ((x0, y0), (x1 - x0, y1 - y0)))
            .unzip();
        let labels = visible.iter().map(|track| {
            let name = names.and_then(|names| names.get(&track.track_id));
            let number = track.track_id.0;
            name.map_or_else(|| format!("#{number}"), |name| format!("{name} #{number}"))
        });
        Boxes2D::from_mins_and_sizes(mins, sizes)
            .with_labels(labels)
            .with_class_ids(visible.iter().map(|track| class(track.track_id)))
    }
}

/// Where in the viewer's tree a frame's things are.
fn entity(id: &FrameId, part: Option<&str>) -> EntityPath {
    // Stream ids hold no `+`.
    let stream = match id.epoch.0 {
        0 => id.stream.to_string(),
        epoch => format!("{}+{epoch}", id.stream),
    };
    let parts = iter::once(stream.as_str()).chain(part);
    parts.map(EntityPathPart::new).collect()
}

fn time(header: &Header) -> TimePoint {
    let frame = i64::try_from(header.id.frame.0).unwrap_or(i64::MAX);
    TimePoint::default()
        .with_index("frame", TimeCell::from_sequence(frame))
        .with_index("pts", TimeCell::from_duration_nanos(header.pts_ns))
}

/// The track's number among the 65535 that the format has for objects; 0 is the background.
fn class(track: TrackId) -> u16 {
    u16::try_from(track.0.saturating_sub(1) % 65535 + 1).unwrap_or(u16::MAX)
}

/// Every pixel is the class of its object: of the last one, where masks lie over each other.
fn masks(info: &TracksInfo, visible: &[&Track]) -> SegmentationImage {
    let width = info.width as usize;
    let mut pixels = vec![0u16; width * info.height as usize];
    for track in visible {
        let class = class(track.track_id);
        for (x, y0, y1) in track.mask.spans() {
            (y0..y1).for_each(|y| pixels[y as usize * width + x as usize] = class);
        }
    }
    let bytes: Vec<u8> = pixels.into_iter().flat_map(u16::to_le_bytes).collect();
    let format = ImageFormat::segmentation([info.width, info.height], ChannelDatatype::U16);
    SegmentationImage::new(bytes, format).with_opacity(0.5_f32)
}

impl Sink for Rrd {
    fn name(&self) -> &'static str {
        "rerun"
    }

    fn tracks(
        &mut self,
        header: &Header,
        info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        let missing = self.order.missing(&header.id, tracks).count();
        if missing == 0 && !tracks.is_empty() {
            return Ok(0);
        }
        let visible: Vec<&Track> = tracks.iter().filter(|track| track.visible).collect();
        let rows = visible.len() as u64;
        self.log(header, Some("masks"), &masks(info, &visible))?;
        let boxes = self.boxes(&header.id.stream, &visible);
        self.log(header, Some("objects"), &boxes)?;
        self.order.written(&header.id);
        self.rows += rows;
        Ok(rows)
    }

    fn wants_frames(&self) -> bool {
        true
    }

    fn recovers(&self) -> bool {
        true
    }

    fn frame(&mut self, header: &Header, image: &Image<'_>) -> Result<(), SinkError> {
        let at = (header.id.epoch, header.id.frame);
        let seen = self.streams.entry(header.id.stream.clone()).or_default();
        if seen.picture.is_some_and(|last| at <= last) {
            return Ok(());
        }
        let still = self.shrinker.still(image, image.info.width)?;
        let jpeg = self.encoder.encode(&still)?;
        let picture = EncodedImage::new(jpeg).with_media_type("image/jpeg");
        self.log(header, None, &picture)?;
        let seen = self.streams.entry(header.id.stream.clone()).or_default();
        seen.picture = Some(at);
        self.pictures += 1;
        Ok(())
    }

    fn identifications(
        &mut self,
        header: &Header,
        rows: &[Identification],
    ) -> Result<u64, SinkError> {
        for row in rows {
            let number = row.track_id.0;
            let (text, level) = match (row.outcome, &row.error) {
                (Outcome::Identified, _) => {
                    let seen = self.streams.entry(header.id.stream.clone()).or_default();
                    seen.names.insert(row.track_id, row.name.clone());
                    if seen.names.len() > NAMES {
                        seen.names.pop_first();
                    }
                    let text = format!("#{number} is {} ({:.2})", row.name, row.confidence);
                    (text, "INFO")
                }
                (_, Some(error)) => (format!("#{number}: {error}"), "WARN"),
                (_, None) => (format!("#{number} is unknown"), "INFO"),
            };
            let text = TextLog::new(text).with_level(level);
            self.log(header, Some("identifications"), &text)?;
        }
        Ok(rows.len() as u64)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.streams.remove(stream);
        self.order.forget(stream);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let finished = file.encoder.finish();
        let finished = finished.and_then(|()| file.encoder.flush_blocking());
        finished.map_err(|error| SinkError::write(&self.path)(io::Error::other(error)))
    }

    fn files(&self) -> Vec<SinkFile> {
        vec![SinkFile {
            path: self.path.clone(),
            rows: Some(self.rows),
            frames: Some(self.pictures),
        }]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{header, info, track};
    use tracklens_schemas::{ImageInfo, PixelEncoding};

    #[test]
    fn frames_that_come_again_are_written_once_and_a_failed_start_is_made_up_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tracklens.rrd");
        std::fs::create_dir(&path).unwrap();
        let mut sink = Rrd::new(folder.path(), false);
        let pixels = vec![90; 8 * 6 * 3 / 2];
        let size = ImageInfo::new(8, 6, PixelEncoding::Yuv420p);
        let image = Image::new(size, &pixels).unwrap();
        assert!(sink.frame(&header("cam.1", 0, 0), &image).is_err());
        std::fs::remove_dir(&path).unwrap();
        let mut hidden = track(3);
        hidden.visible = false;
        for frame in [0, 1, 1] {
            let header = header("cam.1", 0, frame);
            sink.frame(&header, &image).unwrap();
            let tracks = [track(1), track(2), hidden.clone()];
            sink.tracks(&header, &info(), &tracks).unwrap();
        }
        let file = &sink.files()[0];
        assert_eq!((file.rows, file.frames), (Some(4), Some(2)));
        sink.finish().unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"RRF"));
        // A next process leaves it alone.
        let next = Rrd::new(folder.path(), true);
        assert_eq!(next.path, folder.path().join("tracklens+2.rrd"));
    }

    #[test]
    fn classes_leave_the_background_alone() {
        let classes = [0, 1, 65535, 65536, u32::MAX].map(|id| class(TrackId(id)));
        assert_eq!(classes, [1, 1, 65535, 1, 65535]);
    }

    #[test]
    fn a_later_epoch_is_an_entity_of_its_own() {
        let path = |epoch| entity(&header("cam.1", epoch, 0).id, Some("masks")).to_string();
        assert_ne!(path(0), path(1));
    }
}
