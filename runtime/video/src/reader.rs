//! Reads a file or URL and gives its frames in presentation order.
//!
//! Exactly the frames that `ffprobe -count_frames` counts come out of an intact clip. Damage does
//! not end a stream: the decoder goes on at the next good point, and [`Reader::damage`] tells what
//! was lost.

use std::time::Duration;

use ffmpeg_next::codec::context::Context as CodecContext;
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, decoder};
use tracklens_schemas::{PixelEncoding, wall_clock_ns};

mod open;

use crate::arrivals::Arrivals;
use crate::hardware::{self, Hwaccel};
use crate::picture::encoding_of;
use crate::scaler::Scaler;
use crate::stop::{StopHandle, Watch};
use crate::timeline::Timeline;
use crate::{Damage, Picture, VideoError};

/// After so many refused packets or frames without a good one between, a stream is given up.
const MAX_ERRORS_IN_A_ROW: u32 = 100_000;
/// Containers with an index of where each frame is, in FFmpeg's names.
const INDEXED: [&str; 2] = ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"];
/// A time before any frame, in microseconds.
const BEFORE_ALL: i64 = -1_000_000_000_000;
/// Longest side of a frame in pixels.
const MAX_SIDE: u32 = 16_384;

/// How to read.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// Threads of the codec; 0 lets FFmpeg choose.
    pub threads: usize,
    /// How long a network source may say nothing, while opening and between frames. Files have no
    /// limit.
    pub timeout: Duration,
    /// No picture waits for the next only so that threads have work.
    pub low_delay: bool,
    /// Decoding on a device.
    pub hwaccel: Hwaccel,
    /// Stops the reader from outside.
    pub stop: StopHandle,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            timeout: Duration::from_secs(10),
            low_delay: false,
            hwaccel: Hwaccel::None,
            stop: StopHandle::default(),
        }
    }
}

/// What is known of a video before its first frame.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoInfo {
    /// The container, in FFmpeg's name ("mov,mp4,m4a,3gp,3g2,mj2", "h264" …).
    pub format: String,
    /// The codec ("h264", "hevc" …).
    pub codec: String,
    /// Width in pixels at the beginning; frames may change it.
    pub width: u32,
    /// Height in pixels at the beginning.
    pub height: u32,
    /// Average frames per second as a fraction, if known.
    pub frame_rate: Option<(u32, u32)>,
    /// Number of frames: as the container says, or estimated from its duration.
    pub expected_frames: Option<u64>,
    /// Duration in nanoseconds, if known.
    pub duration_ns: Option<i64>,
}

impl VideoInfo {
    /// Average frames per second, if known.
    #[must_use]
    pub fn fps(&self) -> Option<f64> {
        self.frame_rate
            .map(|(numerator, denominator)| f64::from(numerator) / f64::from(denominator))
    }
}

/// Whether packets are still read, the decoder is being emptied, or all is said; with an error, which
/// nothing comes after.
enum Phase {
    Reading,
    Draining,
    Ended,
    Failed,
}

/// An opened video.
pub struct Reader {
    url: String,
    input: Input,
    decoder: decoder::Video,
    stream: usize,
    info: VideoInfo,
    /// The container's own count, where it has one.
    counted_frames: Option<u64>,
    timeline: Timeline,
    arrivals: Arrivals,
    scaler: Scaler,
    damage: Damage,
    watch: Watch,
    timeout: Option<Duration>,
    phase: Phase,
    /// What ended the input, told once the frames before it are out.
    broken: Option<VideoError>,
    errors_in_a_row: u32,
    packets: u64,
    frames: u64,
}

impl Reader {
    /// Opens a file or any URL that FFmpeg understands.
    ///
    /// # Errors
    /// Says what is wrong with the address or its content. Never blocks for longer than the
    /// time-out where the network is concerned.
    pub fn open(url: &str, options: ReaderOptions) -> Result<Self, VideoError> {
        open::open(url, options)
    }

    /// What is known before the first frame.
    #[must_use]
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// What was damaged so far; complete once [`Reader::next`] has returned `None` or an error.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Goes back to the first frame, keeping decoder and threads; what was found out when it was
    /// opened is not looked for again. Only at the end of a video without damage whose container has
    /// an index: `false` says that it must be opened anew.
    #[must_use]
    pub fn rewind(&mut self) -> bool {
        let indexed = INDEXED.contains(&self.info.format.as_str());
        if !indexed || !matches!(self.phase, Phase::Ended) || self.damage.any() {
            return false;
        }
        self.watch.arm(self.timeout);
        if self.input.seek(BEFORE_ALL, ..).is_err() {
            return false;
        }
        self.decoder.flush();
        self.timeline.restart();
        self.arrivals = Arrivals::default();
        (self.packets, self.frames) = (0, 0);
        self.phase = Phase::Reading;
        true
    }

    /// The next frame in presentation order; `None` at the end.
    ///
    /// # Errors
    /// Where the source breaks off, says nothing for too long or is stopped. Nothing comes after
    /// an error.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Picture>, VideoError> {
        self.watch.arm(self.timeout);
        let mut frame = Video::empty();
        loop {
            if matches!(self.phase, Phase::Ended | Phase::Failed) {
                return Ok(None);
            }
            if self.watch.is_stopped() {
                return Err(self.end(self.stopped()));
            }
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => match self.picture(frame)? {
                    Some(picture) => return Ok(Some(picture)),
                    None => frame = Video::empty(),
                },
                Err(Error::Eof) => return self.finish(),
                Err(Error::Other { errno: EAGAIN }) => self.feed()?,
                Err(error) => {
                    let packets = self.packets;
                    self.damage
                        .packet(|| format!("{error} near packet {packets}"));
                    self.error_in_a_row(&error)?;
                }
            }
        }
    }

    /// Gives the decoder one packet, or the end.
    fn feed(&mut self) -> Result<(), VideoError> {
        let mut packet = Packet::empty();
        match packet.read(&mut self.input) {
            Ok(()) if packet.stream() != self.stream => Ok(()),
            Ok(()) => {
                let number = self.packets;
                self.packets += 1;
                if packet.is_corrupt() {
                    self.damage
                        .packet(|| format!("packet {number} is incomplete"));
                }
                // An empty packet would tell the decoder that the stream has ended.
                if packet.size() == 0 {
                    return Ok(());
                }
                self.arrivals.packet(packet.pts(), wall_clock_ns());
                match self.decoder.send_packet(&packet) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        self.damage.packet(|| format!("packet {number}: {error}"));
                        self.error_in_a_row(&error)
                    }
                }
            }
            Err(Error::Eof) => self.drain(),
            Err(Error::InvalidData) => {
                let number = self.packets;
                let error = Error::InvalidData;
                self.damage
                    .packet(|| format!("container damaged after packet {number}"));
                self.error_in_a_row(&error)
            }
            Err(Error::Other { errno: EAGAIN }) => {
                if self.watch.interrupts() {
                    self.broken = Some(self.interrupted());
                    return self.drain();
                }
                std::thread::sleep(Duration::from_millis(2));
                Ok(())
            }
            Err(Error::Exit) => {
                self.broken = Some(self.interrupted());
                self.drain()
            }
            Err(error) => {
                self.broken = Some(VideoError::Broken {
                    url: self.url.clone(),
                    reason: error.to_string(),
                });
                self.drain()
            }
        }
    }

    fn drain(&mut self) -> Result<(), VideoError> {
        if matches!(self.phase, Phase::Reading) {
            self.phase = Phase::Draining;
            // The decoder refuses only when it is already draining.
            let _already_draining = self.decoder.send_eof();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Picture>, VideoError> {
        if let Some(error) = self.broken.take() {
            return Err(self.end(error));
        }
        self.phase = Phase::Ended;
        self.damage.ended_early = self.missing_end();
        Ok(None)
    }

    /// Says so where far fewer frames came than the container announced. An edit list may leave out
    /// some, so the damage must have another sign where only frames are missing.
    fn missing_end(&self) -> Option<String> {
        let frames = self.frames;
        match (self.counted_frames, self.info.expected_frames) {
            (Some(counted), _) if frames < counted && self.damage.packets > 0 => {
                Some(format!("{frames} of {counted} frames came out"))
            }
            (None, Some(expected)) if frames + 2 < expected - expected / 20 => Some(format!(
                "ended early: {frames} of about {expected} frames came out"
            )),
            _ => None,
        }
    }

    fn picture(&mut self, frame: Video) -> Result<Option<Picture>, VideoError> {
        let (width, height) = (frame.width(), frame.height());
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            let number = self.frames;
            self.damage
                .packet(|| format!("after frame {number}: a frame of {width}x{height}"));
            self.error_in_a_row(&Error::InvalidData)?;
            return Ok(None);
        }
        self.errors_in_a_row = 0;
        let number = self.frames;
        self.frames += 1;
        if frame.is_corrupt() || frame.has_decode_errors() {
            self.damage
                .frame(|| format!("frame {number} has decoding errors"));
        }
        let pts_ns = self.timeline.next(frame.timestamp());
        let capture_ns = self.arrivals.picture(frame.pts());
        let keyframe = frame.is_key();
        let frame = match hardware::to_memory(frame) {
            Ok(frame) => frame,
            Err(error) => {
                self.damage.packet(|| {
                    format!("frame {number} cannot be fetched from the device: {error}")
                });
                self.error_in_a_row(&error)?;
                return Ok(None);
            }
        };
        let (frame, encoding) = match encoding_of(&frame) {
            Some(encoding) => (frame, encoding),
            None => (
                self.scaler.convert(&frame, Pixel::YUV420P, width, height)?,
                PixelEncoding::Yuv420p,
            ),
        };
        Ok(Some(Picture::new(
            frame, encoding, keyframe, pts_ns, capture_ns,
        )))
    }

    fn error_in_a_row(&mut self, error: &Error) -> Result<(), VideoError> {
        self.errors_in_a_row += 1;
        if self.errors_in_a_row < MAX_ERRORS_IN_A_ROW {
            return Ok(());
        }
        let reason = format!("{MAX_ERRORS_IN_A_ROW} errors in a row, the last: {error}");
        let url = self.url.clone();
        Err(self.end(VideoError::Broken { url, reason }))
    }

    fn end(&mut self, error: VideoError) -> VideoError {
        self.phase = Phase::Failed;
        self.damage.ended_early = self.missing_end();
        error
    }

    fn stopped(&self) -> VideoError {
        VideoError::Stopped {
            url: self.url.clone(),
        }
    }

    fn interrupted(&self) -> VideoError {
        if self.watch.is_stopped() {
            return self.stopped();
        }
        VideoError::Timeout {
            url: self.url.clone(),
            seconds: self.timeout.unwrap_or_default().as_secs(),
        }
    }
}
