//! The sink `overlay.mp4`: the frames with masks, boxes and ids drawn on them.
//!
//! The first stream's video is `overlay.mp4`, another's `overlay.<stream>.mp4`. After a restart of
//! the process, and when a closed stream comes back, the video goes on in a next part,
//! `overlay+2.mp4`; stream ids hold no `+`, so no two videos share a name. A killed process leaves
//! a part that plays to within two seconds of the kill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracklens_schemas::{Header, Image, ImageInfo, PixelEncoding, StreamId, Track, TracksInfo};
use tracklens_video::{Mp4Writer, draw_tracks};

use crate::pairing::{Pairing, Position};
use crate::yuv::copy_as_yuv420p;
use crate::{Sink, SinkError, SinkFile, SourceInfo};

/// Frames per second where a source does not say.
const FPS: f64 = 25.0;
/// Files that are remembered for the summary.
const REMEMBERED: usize = 256;

/// Draws and encodes, one video per stream.
pub struct Overlay {
    folder: PathBuf,
    resume: bool,
    limit: usize,
    /// The stream whose video has no stream in its name.
    first: Option<StreamId>,
    videos: BTreeMap<StreamId, StreamVideo>,
    finished: Vec<SinkFile>,
    spare: Vec<Vec<u8>>,
}

/// A frame that waits for its tracks.
struct Waiting {
    width: u32,
    height: u32,
    pts_ns: i64,
    pixels: Vec<u8>,
}

struct StreamVideo {
    fps: f64,
    pairing: Pairing<Waiting, Vec<Track>>,
    part: Part,
    clock: Clock,
}

/// What is being written of a stream.
enum Part {
    /// Nothing until the first frame, which tells the size.
    None,
    Open(Box<Mp4Writer>, PathBuf),
    /// Frames are let go: a video cannot be continued after an error.
    Failed,
}

/// Turns the times of epochs that each begin anew into one line of time.
#[derive(Default)]
struct Clock {
    last: Option<(Position, i64)>,
    offset_ns: i64,
}

impl Clock {
    fn time(&mut self, at: Position, pts_ns: i64, period_ns: i64) -> i64 {
        if let Some((before, time)) = self.last
            && before.0 != at.0
        {
            self.offset_ns = time.saturating_add(period_ns).saturating_sub(pts_ns);
        }
        let time = pts_ns.saturating_add(self.offset_ns);
        self.last = Some((at, time));
        time
    }
}

impl Overlay {
    /// Writes into this folder. At most `limit` frames of a stream wait for their tracks. With
    /// `resume`, videos that are there are left and continued in next parts; `first` is the stream
    /// that `overlay.mp4` is of.
    #[must_use]
    pub fn new(folder: &Path, limit: usize, resume: bool, first: Option<StreamId>) -> Self {
        Self {
            folder: folder.into(),
            resume,
            limit,
            first,
            videos: BTreeMap::new(),
            finished: Vec::new(),
            spare: Vec::new(),
        }
    }

    fn video(&mut self, stream: &StreamId) -> &mut StreamVideo {
        self.first.get_or_insert_with(|| stream.clone());
        let limit = self.limit;
        self.videos
            .entry(stream.clone())
            .or_insert_with(|| StreamVideo {
                fps: FPS,
                pairing: Pairing::new(limit),
                part: Part::None,
                clock: Clock::default(),
            })
    }

    /// Writes the frames of a stream that need not wait: all of them `at_end`.
    fn pump(&mut self, stream: &StreamId, at_end: bool) -> Result<(), SinkError> {
        let Some(mut video) = self.videos.remove(stream) else {
            return Ok(());
        };
        let mut result = Ok(());
        loop {
            let next = if at_end {
                video.pairing.drain()
            } else {
                video.pairing.next()
            };
            let Some((at, mut frame, tracks)) = next else {
                break;
            };
            if !matches!(video.part, Part::Failed) {
                let tracks = tracks.unwrap_or_default();
                if let Err(error) = self.write(stream, &mut video, at, &mut frame, &tracks) {
                    if let Part::Open(_, path) = std::mem::replace(&mut video.part, Part::Failed) {
                        self.keep(path, None);
                    }
                    result = Err(error);
                }
            }
            if self.spare.len() < self.limit {
                self.spare.push(frame.pixels);
            }
        }
        self.videos.insert(stream.clone(), video);
        result
    }

    fn write(
        &mut self,
        stream: &StreamId,
        video: &mut StreamVideo,
        at: Position,
        frame: &mut Waiting,
        tracks: &[Track],
    ) -> Result<(), SinkError> {
        let (width, height) = (frame.width, frame.height);
        draw_tracks(&mut frame.pixels, width, height, tracks);
        let info = ImageInfo::new(width, height, PixelEncoding::Yuv420p);
        let image = Image::new(info, &frame.pixels)?;
        let time = video.clock.time(at, frame.pts_ns, (1e9 / video.fps) as i64);
        if matches!(video.part, Part::None) {
            let path = self.next_path(stream);
            let writer = Mp4Writer::create(&path, width, height, video.fps)?;
            video.part = Part::Open(Box::new(writer), path);
        }
        if let Part::Open(writer, _) = &mut video.part {
            writer.write(&image, time)?;
        }
        Ok(())
    }

    /// The next part's file; earlier parts of this run stay.
    fn next_path(&self, stream: &StreamId) -> PathBuf {
        let stem = if self.first.as_ref() == Some(stream) {
            "overlay".to_string()
        } else {
            format!("overlay.{stream}")
        };
        let mut path = self.folder.join(format!("{stem}.mp4"));
        let mut part = 1;
        while self.finished.iter().any(|file| file.path == path) || (self.resume && path.exists()) {
            part += 1;
            path = self.folder.join(format!("{stem}+{part}.mp4"));
        }
        path
    }

    fn keep(&mut self, path: PathBuf, frames: Option<u64>) {
        self.finished.push(SinkFile {
            path,
            rows: None,
            frames,
        });
        if self.finished.len() > REMEMBERED {
            self.finished.remove(0);
        }
    }

    fn close(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        let written = self.pump(stream, true);
        let Some(video) = self.videos.remove(stream) else {
            return written;
        };
        let Part::Open(writer, path) = video.part else {
            return written;
        };
        self.keep(path, Some(writer.frames()));
        let finished = writer.finish();
        written.and(finished.map_err(SinkError::from))
    }
}

impl Sink for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn stream_opened(&mut self, stream: &StreamId, source: &SourceInfo) -> Result<(), SinkError> {
        let fps = source.fps.filter(|fps| (0.1..=1000.0).contains(fps));
        self.video(stream).fps = fps.unwrap_or(FPS);
        Ok(())
    }

    fn tracks(
        &mut self,
        header: &Header,
        _info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        let at = (header.id.epoch, header.id.frame);
        self.video(&header.id.stream)
            .pairing
            .tracks(at, tracks.to_vec());
        self.pump(&header.id.stream, false)?;
        Ok(0)
    }

    fn wants_frames(&self) -> bool {
        true
    }

    fn frame(&mut self, header: &Header, image: &Image<'_>) -> Result<(), SinkError> {
        let mut pixels = self.spare.pop().unwrap_or_default();
        copy_as_yuv420p(image, &mut pixels);
        let waiting = Waiting {
            width: image.info.width,
            height: image.info.height,
            pts_ns: header.pts_ns,
            pixels,
        };
        let at = (header.id.epoch, header.id.frame);
        if let Err(refused) = self.video(&header.id.stream).pairing.frame(at, waiting) {
            self.spare.push(refused.pixels);
        }
        self.pump(&header.id.stream, false)
    }

    fn stream_closed(&mut self, stream: &StreamId) -> Result<(), SinkError> {
        self.close(stream)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let streams: Vec<StreamId> = self.videos.keys().cloned().collect();
        let closed: Vec<_> = streams.iter().map(|stream| self.close(stream)).collect();
        closed.into_iter().collect()
    }

    fn files(&self) -> Vec<SinkFile> {
        let open = self.videos.values().filter_map(|video| match &video.part {
            Part::Open(writer, path) => Some(SinkFile {
                path: path.clone(),
                rows: None,
                frames: Some(writer.frames()),
            }),
            _ => None,
        });
        self.finished.iter().cloned().chain(open).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::tests::{header, info, track};
    use tracklens_schemas::{Epoch, FrameIndex};
    use tracklens_video::{Reader, ReaderOptions};

    fn frame(sink: &mut Overlay, stream: &str, number: u64) {
        let info = ImageInfo::new(64, 48, PixelEncoding::Yuv420p);
        let pixels = vec![128; info.byte_len()];
        let image = Image::new(info, &pixels).unwrap();
        sink.frame(&header(stream, 0, number), &image).unwrap();
    }

    fn tracks(sink: &mut Overlay, stream: &str, number: u64) {
        sink.tracks(&header(stream, 0, number), &info(), &[track(1)])
            .unwrap();
    }

    fn count(path: &Path) -> usize {
        let url = path.to_str().unwrap();
        let mut reader = Reader::open(url, ReaderOptions::default()).unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).count()
    }

    #[test]
    fn every_stream_has_a_video_with_all_its_frames() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = Overlay::new(folder.path(), 8, false, None);
        for number in 0..10 {
            frame(&mut sink, "a", number);
            frame(&mut sink, "b", number);
            tracks(&mut sink, "a", number);
        }
        sink.stream_closed(&"b".parse().unwrap()).unwrap();
        sink.finish().unwrap();
        for name in ["overlay.mp4", "overlay.b.mp4"] {
            assert_eq!(count(&folder.path().join(name)), 10, "{name}");
        }
        assert!(sink.files().iter().all(|file| file.frames == Some(10)));
    }

    #[test]
    fn after_a_restart_a_next_part_is_written_and_the_first_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |resume, numbers: std::ops::Range<u64>| {
            let mut sink = Overlay::new(folder.path(), 8, resume, "a".parse().ok());
            for number in numbers {
                frame(&mut sink, "a", number);
                tracks(&mut sink, "a", number);
            }
            sink.finish().unwrap();
            sink.files()
        };
        write(false, 0..6);
        let files = write(true, 6..10);
        assert_eq!(files.len(), 1);
        assert_eq!(count(&folder.path().join("overlay.mp4")), 6);
        assert_eq!(count(&folder.path().join("overlay+2.mp4")), 4);
    }

    #[test]
    fn a_folder_that_is_gone_fails_the_sink_once_and_nothing_waits() {
        let mut sink = Overlay::new(Path::new("no/such/folder"), 8, false, None);
        frame(&mut sink, "a", 0);
        let error = sink.tracks(&header("a", 0, 0), &info(), &[]).unwrap_err();
        assert!(error.to_string().contains("no/such/folder"), "{error}");
        frame(&mut sink, "a", 1);
        tracks(&mut sink, "a", 1);
        assert!(sink.files().is_empty());
    }

    #[test]
    fn time_goes_on_from_epoch_to_epoch() {
        let mut clock = Clock::default();
        let times = [(0, 0), (0, 40), (1, 7), (1, 47)]
            .map(|(epoch, pts)| clock.time((Epoch(epoch), FrameIndex(0)), pts, 40));
        assert_eq!(times, [0, 40, 80, 120]);
    }
}
