//! The sink `coco-<stream>.json`: a COCO dataset per stream and epoch, masks as compressed RLE.
//!
//! Such a file is whole only at its end, so frames are kept as lines in `coco-<stream>.frames` until
//! the stream is closed, and then become the dataset; a kill leaves the lines to go on from. Objects
//! that were identified are of the category of that name, all others of `object`; `track_id` joins
//! the annotations of an object. Format: <https://cocodataset.org/#format-data>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tracklens_schemas::{
    Epoch, FrameIndex, Header, Identification, Outcome, StreamId, Track, TracksInfo,
};

use crate::{RowFile, Sink, SinkError, SinkFile};

/// Files of closed streams that are remembered for the summary.
const REMEMBERED: usize = 256;
/// The category of objects without a name.
const OBJECT: &str = "object";

/// Writes COCO datasets.
#[derive(Debug)]
pub struct Coco {
    folder: PathBuf,
    resume: bool,
    open: BTreeMap<StreamId, Work>,
    closed: Vec<SinkFile>,
}

/// What is being gathered of a stream's epoch.
#[derive(Debug)]
struct Work {
    epoch: Epoch,
    frames: RowFile,
    last: Option<FrameIndex>,
    dataset: PathBuf,
    /// The dataset is there already: an earlier process saw the end of this epoch.
    done: bool,
}

/// A line of work in progress.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Frame {
        frame: u64,
        pts_ns: i64,
        size: [u32; 2],
        objects: Vec<Object>,
    },
    Named {
        track_id: u32,
        name: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Object {
    track_id: u32,
    bbox: [f32; 4],
    score: f32,
    area: u32,
    counts: String,
}

impl Coco {
    /// Writes into this folder; with `resume`, goes on from what is there.
    #[must_use]
    pub fn new(folder: &Path, resume: bool) -> Self {
        Self {
            folder: folder.into(),
            resume,
            open: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    /// The work on this epoch; `None` where it is over.
    fn work(&mut self, stream: &StreamId, epoch: Epoch) -> Result<Option<&mut Work>, SinkError> {
        let known = self.open.get(stream).map(|work| work.epoch);
        if known.is_some_and(|known| epoch < known) {
            return Ok(None);
        }
        if known != Some(epoch) {
            self.close(stream)?;
            let work = Work::open(&self.folder, stream, epoch, self.resume)?;
            self.open.insert(stream.clone(), work);
        }
        Ok(self.open.get_mut(stream).filter(|work| !work.done))
    }

    fn close(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        let Some(work) = self.open.remove(stream) else {
            return Ok(());
        };
        let annotations = work.assemble(stream)?;
        self.closed.push(SinkFile {
            path: work.dataset,
            rows: annotations,
            frames: None,
        });
        if self.closed.len() > REMEMBERED {
            self.closed.remove(0);
        }
        Ok(())
    }
}

impl Work {
    fn open(
        folder: &Path,
        stream: &StreamId,
        epoch: Epoch,
        resume: bool,
    ) -> Result<Self, SinkError> {
        // Stream ids hold no `+`: no two streams and epochs share a name.
        let stem = match epoch.0 {
            0 => format!("coco-{stream}"),
            epoch => format!("coco-{stream}+{epoch}"),
        };
        let (path, dataset) = (
            folder.join(format!("{stem}.frames")),
            folder.join(format!("{stem}.json")),
        );
        let mut last = None;
        let done = resume && dataset.exists() && !path.exists();
        let frames = match resume {
            true => RowFile::resume(&path, |line| match serde_json::from_slice(line) {
                Ok(Line::Frame { frame, .. }) => {
                    last = Some(FrameIndex(frame));
                    true
                }
                Ok(Line::Named { .. }) => true,
                Err(_) => false,
            })?,
            false => RowFile::replace(&path)?,
        };
        Ok(Self {
            epoch,
            frames,
            last,
            dataset,
            done,
        })
    }

    fn append(&mut self, line: &Line, rows: u64) -> Result<(), SinkError> {
        let path = self.frames.path().to_path_buf();
        let text = serde_json::to_vec(line).map_err(io::Error::from);
        let mut text = text.map_err(SinkError::write(&path))?;
        text.push(b'\n');
        self.frames.append(&text, rows)
    }

    /// Makes the dataset of the lines, as a whole, and removes them. Gives the annotations in it.
    fn assemble(&self, stream: &StreamId) -> Result<Option<u64>, SinkError> {
        let path = self.frames.path();
        let mut annotations = None;
        if !self.done {
            let new = self.dataset.with_extension("json.new");
            let written = write_dataset(path, &new, stream, self.epoch)
                .and_then(|count| std::fs::rename(&new, &self.dataset).map(|()| count));
            annotations = Some(written.map_err(SinkError::write(&self.dataset))?);
        }
        std::fs::remove_file(path).map_err(SinkError::write(path))?;
        Ok(annotations)
    }
}

/// Reads the lines twice, once for each list, so that memory does not grow with the stream.
fn write_dataset(from: &Path, to: &Path, stream: &StreamId, epoch: Epoch) -> io::Result<u64> {
    let mut out = BufWriter::new(File::create(to)?);
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    let info = json!({"description": format!("{stream}, epoch {}", epoch.0), "version": "1.0"});
    write!(out, "{{\"info\":{info},\"licenses\":[],\"images\":[")?;
    let mut first = true;
    each_line(from, |line| match line {
        Line::Frame {
            frame,
            pts_ns,
            size: [height, width],
            ..
        } => {
            let image = json!({
                "id": frame + 1, "width": width, "height": height,
                "file_name": format!("{stream}/{frame:08}.jpg"), "frame": frame, "pts_ns": pts_ns,
            });
            separate(&mut out, &mut first)?;
            write!(out, "{image}")
        }
        Line::Named { track_id, name } => {
            names.insert(track_id, name);
            Ok(())
        }
    })?;
    let mut categories: Vec<&str> = names.values().map(String::as_str).collect();
    categories.extend([OBJECT]);
    categories.sort_unstable();
    categories.dedup();
    let number = |name: &str| {
        categories
            .iter()
            .position(|known| *known == name)
            .map(|n| n + 1)
    };
    write!(out, "],\"annotations\":[")?;
    let (mut first, mut count) = (true, 0);
    each_line(from, |line| {
        let Line::Frame {
            frame,
            size,
            objects,
            ..
        } = line
        else {
            return Ok(());
        };
        for object in objects {
            count += 1;
            let [x0, y0, x1, y1] = object.bbox;
            let name = names.get(&object.track_id).map_or(OBJECT, String::as_str);
            let bbox = [x0, y0, x1 - x0, y1 - y0].map(rounded);
            let annotation = json!({
                "id": count, "image_id": frame + 1, "category_id": number(name),
                "track_id": object.track_id, "iscrowd": 0, "area": object.area,
                "bbox": bbox, "score": rounded(object.score),
                "segmentation": {"size": size, "counts": object.counts},
            });
            separate(&mut out, &mut first)?;
            write!(out, "{annotation}")?;
        }
        Ok(())
    })?;
    let categories: Vec<_> = categories
        .iter()
        .map(|name| json!({"id": number(name), "name": name, "supercategory": ""}))
        .collect();
    writeln!(out, "],\"categories\":{}}}", json!(categories))?;
    out.into_inner()?.sync_data()?;
    Ok(count)
}

fn separate(out: &mut impl Write, first: &mut bool) -> io::Result<()> {
    let separator = if std::mem::take(first) { "\n" } else { ",\n" };
    out.write_all(separator.as_bytes())
}

/// Four decimals: equal results are equal bytes.
fn rounded(number: f32) -> f64 {
    (f64::from(number) * 1e4).round() / 1e4
}

fn each_line(path: &Path, mut work: impl FnMut(Line) -> io::Result<()>) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).lines() {
        work(serde_json::from_str(&line?)?)?;
    }
    Ok(())
}

impl Sink for Coco {
    fn name(&self) -> &'static str {
        "coco"
    }

    fn tracks(
        &mut self,
        header: &Header,
        info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        let frame = header.id.frame;
        let work = self.work(&header.id.stream, header.id.epoch)?;
        let Some(work) = work.filter(|work| work.last.is_none_or(|last| frame > last)) else {
            return Ok(0);
        };
        let visible = tracks.iter().filter(|track| track.visible);
        let objects: Vec<Object> = visible
            .map(|track| Object {
                track_id: track.track_id.0,
                bbox: track.bbox.to_array(),
                score: track.score,
                area: track.area,
                counts: String::from_utf8_lossy(&track.mask.encode()).into_owned(),
            })
            .collect();
        let rows = objects.len() as u64;
        let line = Line::Frame {
            frame: frame.0,
            pts_ns: header.pts_ns,
            size: [info.height, info.width],
            objects,
        };
        work.append(&line, rows)?;
        work.last = Some(frame);
        Ok(rows)
    }

    fn identifications(
        &mut self,
        header: &Header,
        rows: &[Identification],
    ) -> Result<u64, SinkError> {
        let Some(work) = self.work(&header.id.stream, header.id.epoch)? else {
            return Ok(0);
        };
        let named = rows.iter().filter(|row| row.outcome == Outcome::Identified);
        for row in named {
            let line = Line::Named {
                track_id: row.track_id.0,
                name: row.name.clone(),
            };
            work.append(&line, 0)?;
        }
        Ok(0)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.close(stream)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let streams: Vec<StreamId> = self.open.keys().cloned().collect();
        let closed: Vec<_> = streams.iter().map(|stream| self.close(stream)).collect();
        closed.into_iter().collect()
    }

    fn files(&self) -> Vec<SinkFile> {
        let open = self.open.values().map(|work| SinkFile {
            path: work.dataset.clone(),
            rows: None,
            frames: None,
        });
        self.closed.iter().cloned().chain(open).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{frames, header, info, track};
    use proptest::prelude::*;
    use serde_json::Value;
    use tracklens_schemas::{Mask, TrackId};

    fn read(folder: &Path, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    }

    #[test]
    fn frames_become_a_dataset_with_names_as_categories() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Coco::new(folder.path(), false);
        let mut hidden = track(3);
        hidden.visible = false;
        for frame in [0, 1, 1] {
            let tracks = [track(1), track(2), hidden.clone()];
            sink.tracks(&header("cam", 0, frame), &info(), &tracks)
                .unwrap();
        }
        let named = Identification {
            track_id: TrackId(2),
            name: "mug".into(),
            category: "cup".into(),
            description: String::new(),
            confidence: 1.0,
            dimensions: None,
            backend: "gallery".into(),
            outcome: Outcome::Identified,
            cached: false,
            attempts: 1,
            error: None,
        };
        sink.identifications(&header("cam", 0, 1), &[named])
            .unwrap();
        sink.stream_closed(&"cam".parse().unwrap()).unwrap();
        assert_eq!(sink.files()[0].rows, Some(4));
        let data = read(folder.path(), "coco-cam.json");
        assert_eq!(data["images"].as_array().unwrap().len(), 2);
        let second = &data["annotations"][3];
        assert_eq!((&second["id"], &second["image_id"]), (&4.into(), &2.into()));
        assert_eq!(second["bbox"], json!([1.0, 2.0, 4.5, 4.25]));
        let counts = second["segmentation"]["counts"].as_str().unwrap();
        let mask = Mask::decode(counts.as_bytes(), 8, 6).unwrap();
        assert_eq!(mask, track(2).mask);
        let names: Vec<_> = data["categories"].as_array().unwrap().to_vec();
        assert_eq!(
            (&names[0]["name"], &names[1]["name"]),
            (&"mug".into(), &"object".into())
        );
        assert_eq!(second["category_id"], 1);
        assert!(!folder.path().join("coco-cam.frames").exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_killed_process_is_continued(frames in frames(), cut: prop::sample::Index) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("coco-a.frames");
            let frames: Vec<_> = frames
                .into_iter()
                .filter(|(header, _)| header.id.stream.as_str() == "a" && header.id.epoch.0 == 0)
                .collect();
            let send = |sink: &mut Coco| for (header, tracks) in &frames {
                sink.tracks(header, &info(), tracks).unwrap();
            };
            let mut sink = Coco::new(folder.path(), false);
            send(&mut sink);
            let lines = std::fs::read(&path).unwrap_or_default();
            sink.finish().unwrap();
            let whole = std::fs::read(folder.path().join("coco-a.json")).ok();
            let _may_not_be_there = std::fs::remove_file(folder.path().join("coco-a.json"));
            if whole.is_some() {
                std::fs::write(&path, &lines[..cut.index(lines.len() + 1)]).unwrap();
            }
            let mut sink = Coco::new(folder.path(), true);
            send(&mut sink);
            sink.finish().unwrap();
            prop_assert_eq!(std::fs::read(folder.path().join("coco-a.json")).ok(), whole);
        }
    }
}
