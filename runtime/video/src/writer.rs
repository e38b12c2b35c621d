//! Writes H.264 in an MP4 file that plays at any moment, whatever happens to the process.
//!
//! The file is fragmented: each fragment is complete in itself, so a killed process leaves all but
//! the last second or two. [`Mp4Writer::finish`] adds the index (`sidx`) that players seek with.
//! There are no B-frames: with them a fragmented file would begin later than at 0.

use std::path::Path;

use ffmpeg_next::codec::{Id, context::Context, flag::Flags};
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::context::Output;
use ffmpeg_next::format::{Pixel, output_as};
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Codec, Dictionary, Error, Packet, Rational, encoder};
use tracklens_schemas::{Image, ImageInfo, PixelEncoding};

use crate::picture::plane_sizes;
use crate::scaler::Scaler;
use crate::{VideoError, ffmpeg};

/// Ticks a second: the common frame rates, 1001 ones too, are whole numbers of ticks.
const TICKS: i64 = 90_000;
/// Encoders, best first. What comes after the first is for an FFmpeg without libx264.
const ENCODERS: [&str; 4] = ["libx264", "libopenh264", "h264_nvenc", "h264_v4l2m2m"];

/// Writes one video stream.
pub struct Mp4Writer {
    path: String,
    encoder: encoder::video::Encoder,
    output: Output,
    stream_time_base: Rational,
    width: u32,
    height: u32,
    period: i64,
    scaler: Scaler,
    first_pts_ns: Option<i64>,
    last_ticks: Option<i64>,
    frames: u64,
    finished: bool,
}

impl Mp4Writer {
    /// Creates the file. Odd sides lose their last column or row, which H.264's 4:2:0 cannot hold.
    /// `fps` is nominal: the frames' own times count.
    ///
    /// # Errors
    /// Where the size is not 2 to 16384 a side, no H.264 encoder works, or the file cannot be made.
    pub fn create(path: &Path, width: u32, height: u32, fps: f64) -> Result<Self, VideoError> {
        ffmpeg::start()?;
        let shown = path.display().to_string();
        if !(2..=16_384).contains(&width) || !(2..=16_384).contains(&height) {
            return Err(VideoError::ImageSize { width, height });
        }
        let (width, height) = (width & !1, height & !1);
        let fps = if fps.is_finite() {
            fps.clamp(0.1, 1000.0)
        } else {
            25.0
        };
        let period = (TICKS as f64 / fps).round() as i64;
        let failed = |reason: String| VideoError::Write {
            path: shown.clone(),
            reason,
        };
        let target = match path.to_str() {
            Some(path) if !path.contains('\0') => format!("file:{path}"),
            _ => return Err(failed("the path is not UTF-8 text".into())),
        };
        let encoder =
            open_encoder(width, height, period).map_err(|reason| VideoError::NoEncoder {
                path: shown.clone(),
                reason,
            })?;
        let mut output = output_as(&target, "mp4").map_err(|error| failed(error.to_string()))?;
        let mut stream = output
            .add_stream_with(&encoder)
            .map_err(|error| failed(error.to_string()))?;
        stream.set_time_base(Rational::new(1, TICKS as i32));
        stream.set_avg_frame_rate(Rational::new(TICKS as i32, period as i32));
        let mut options = Dictionary::new();
        options.set(
            "movflags",
            "frag_keyframe+empty_moov+default_base_moof+global_sidx",
        );
        options.set("flush_packets", "1");
        output
            .write_header_with(options)
            .map_err(|error| failed(error.to_string()))?;
        let stream_time_base = output
            .stream(0)
            .map_or(Rational::new(1, TICKS as i32), |stream| stream.time_base());
        Ok(Self {
            path: shown,
            encoder,
            output,
            stream_time_base,
            width,
            height,
            period,
            scaler: Scaler::default(),
            first_pts_ns: None,
            last_ticks: None,
            frames: 0,
            finished: false,
        })
    }

    /// Width of the video in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height of the video in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Frames written so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes a frame: exactly one for each call. The first is at time 0; times that do not grow
    /// are moved on by the smallest step. An image of another size is scaled.
    ///
    /// # Errors
    /// Where the image cannot be converted, or encoder or disk fail.
    pub fn write(&mut self, image: &Image<'_>, pts_ns: i64) -> Result<(), VideoError> {
        let first = *self.first_pts_ns.get_or_insert(pts_ns);
        let nanoseconds = i128::from(pts_ns) - i128::from(first);
        let ticks = (nanoseconds * i128::from(TICKS) + 500_000_000).div_euclid(1_000_000_000);
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX / 2);
        let ticks = self
            .last_ticks
            .map_or(ticks.max(0), |last| ticks.max(last + 1));
        let mut frame = self.frame(image)?;
        frame.set_pts(Some(ticks));
        self.encoder
            .send_frame(&frame)
            .map_err(|error| self.failed(&error))?;
        self.last_ticks = Some(ticks);
        self.frames += 1;
        self.take_packets()
    }

    /// Writes what is left and the index.
    ///
    /// # Errors
    /// Where encoder or disk fail; what was written before still plays.
    pub fn finish(mut self) -> Result<(), VideoError> {
        self.close()
    }

    fn close(&mut self) -> Result<(), VideoError> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        self.encoder
            .send_eof()
            .map_err(|error| self.failed(&error))?;
        self.take_packets()?;
        self.output
            .write_trailer()
            .map_err(|error| self.failed(&error))
    }

    /// The image as a frame of the video's size: a new one each time, as the encoder may hold on to
    /// the ones before.
    fn frame(&mut self, image: &Image<'_>) -> Result<Video, VideoError> {
        let ImageInfo {
            width,
            height,
            encoding,
            ..
        } = image.info;
        let same_size = (width & !1, height & !1) == (self.width, self.height);
        if same_size && encoding == PixelEncoding::Yuv420p {
            let mut frame = new_frame(Pixel::YUV420P, self.width, self.height)?;
            unpack(image, &mut frame);
            return Ok(frame);
        }
        let format = match encoding {
            PixelEncoding::Yuv420p => Pixel::YUV420P,
            PixelEncoding::Nv12 => Pixel::NV12,
            PixelEncoding::Rgb8 => Pixel::RGB24,
            PixelEncoding::Bgr8 => Pixel::BGR24,
        };
        let mut source = new_frame(format, width, height)?;
        unpack(image, &mut source);
        self.scaler
            .convert(&source, Pixel::YUV420P, self.width, self.height)
    }

    fn take_packets(&mut self) -> Result<(), VideoError> {
        loop {
            let mut packet = Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return Ok(()),
                Err(error) => return Err(self.failed(&error)),
            }
            packet.set_stream(0);
            if packet.duration() <= 0 {
                packet.set_duration(self.period);
            }
            packet.rescale_ts(Rational::new(1, TICKS as i32), self.stream_time_base);
            packet
                .write_interleaved(&mut self.output)
                .map_err(|error| self.failed(&error))?;
        }
    }

    fn failed(&self, error: &Error) -> VideoError {
        VideoError::Write {
            path: self.path.clone(),
            reason: error.to_string(),
        }
    }
}

impl Drop for Mp4Writer {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(path = self.path, %error, "video not finished");
        }
    }
}

/// A frame with pixels of its own.
pub(crate) fn new_frame(format: Pixel, width: u32, height: u32) -> Result<Video, VideoError> {
    let frame = Video::new(format, width, height);
    // SAFETY: the pointer is that of a frame just made; FFmpeg leaves data[0] null when it could
    // not allocate.
    let empty = unsafe { frame.is_empty() };
    if empty {
        return Err(VideoError::Convert {
            reason: format!("no memory for a frame of {width}x{height}"),
        });
    }
    Ok(frame)
}

/// Copies a packed image into a frame of the same format and, but for a lost last column or row,
/// the same size.
pub(crate) fn unpack(image: &Image<'_>, frame: &mut Video) {
    let ImageInfo {
        width,
        height,
        encoding,
        ..
    } = image.info;
    let from = plane_sizes(encoding, width, height);
    let to = plane_sizes(encoding, frame.width(), frame.height());
    for (index, plane) in image.planes().into_iter().enumerate() {
        let ((width, _), (fits, rows)) = (from[index], to[index]);
        let stride = frame.stride(index);
        let target = frame.data_mut(index);
        for (source, row) in plane
            .chunks_exact(width)
            .zip(target.chunks_mut(stride))
            .take(rows)
        {
            row[..fits].copy_from_slice(&source[..fits]);
        }
    }
}

fn open_encoder(width: u32, height: u32, period: i64) -> Result<encoder::video::Encoder, String> {
    let mut tried = Vec::new();
    let named = ENCODERS
        .iter()
        .filter_map(|name| encoder::find_by_name(name));
    for codec in named.chain(encoder::find(Id::H264)) {
        match open_as(codec, width, height, period) {
            Ok(encoder) => return Ok(encoder),
            Err(error) => tried.push(format!("{}: {error}", codec.name())),
        }
    }
    if tried.is_empty() {
        tried.push("this FFmpeg has none".into());
    }
    Err(tried.join(", "))
}

fn open_as(
    codec: Codec,
    width: u32,
    height: u32,
    period: i64,
) -> Result<encoder::video::Encoder, Error> {
    let mut encoder = Context::new_with_codec(codec).encoder().video()?;
    let rate = Rational::new(TICKS as i32, period as i32);
    encoder.set_width(width);
    encoder.set_height(height);
    encoder.set_format(Pixel::YUV420P);
    encoder.set_time_base(Rational::new(1, TICKS as i32));
    encoder.set_frame_rate(Some(rate));
    encoder.set_max_b_frames(0);
    // Two seconds from keyframe to keyframe: the grain of seeking, and of what a kill loses.
    encoder.set_gop(u32::try_from(2 * TICKS / period).unwrap_or(0).clamp(1, 250));
    encoder.set_flags(Flags::GLOBAL_HEADER);
    let mut options = Dictionary::new();
    if codec.name() == "libx264" {
        options.set("preset", "veryfast");
        options.set("crf", "23");
    } else {
        options.set("b", "4000000");
    }
    encoder.open_with(options)
}
