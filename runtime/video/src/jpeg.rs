//! Still pictures of frames: shrunk in one pass, and coded as JPEG by FFmpeg's own encoder.
//!
//! The two steps are apart, since a picture is shrunk while its frame is at hand and coded later,
//! on another thread, and only if somebody wants to see it.

use ffmpeg_next::codec::{Id, context::Context};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, encoder};
use tracklens_schemas::{Image, PixelEncoding};

use crate::scaler::Scaler;
use crate::writer::{new_frame, unpack};
use crate::{VideoError, ffmpeg};

/// FFmpeg's quantiser scale, 2 (best) to 31: 4 is about what other programs call quality 88.
const QUALITY: &str = "4";

/// A picture in the colours of JPEG (full range), of its own size.
pub struct Still(Video);

impl Still {
    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.0.width()
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.0.height()
    }
}

impl std::fmt::Debug for Still {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Still({}x{})", self.width(), self.height())
    }
}

/// Makes stills of frames; keeps its conversion from frame to frame.
#[derive(Default)]
pub struct Shrinker(Scaler);

impl Shrinker {
    /// The frame, no wider than `max_width` pixels and never enlarged.
    ///
    /// # Errors
    /// Where the pixels cannot be converted.
    pub fn still(&mut self, image: &Image<'_>, max_width: u32) -> Result<Still, VideoError> {
        ffmpeg::start()?;
        let info = image.info;
        let format = match info.encoding {
            PixelEncoding::Yuv420p => Pixel::YUV420P,
            PixelEncoding::Nv12 => Pixel::NV12,
            PixelEncoding::Rgb8 => Pixel::RGB24,
            PixelEncoding::Bgr8 => Pixel::BGR24,
        };
        let width = info.width.min(max_width.max(16));
        let height = u64::from(info.height) * u64::from(width) / u64::from(info.width.max(1));
        let height = u32::try_from(height).unwrap_or(info.height).max(1);
        let mut source = new_frame(format, info.width, info.height)?;
        unpack(image, &mut source);
        let still = self.0.convert(&source, Pixel::YUVJ420P, width, height)?;
        Ok(Still(still))
    }
}

/// Codes stills; keeps its encoder while their size stays the same.
#[derive(Default)]
pub struct JpegEncoder(Option<encoder::video::Encoder>);

impl JpegEncoder {
    /// The still as a JPEG file.
    ///
    /// # Errors
    /// Where this FFmpeg has no JPEG encoder, or it fails.
    pub fn encode(&mut self, still: &Still) -> Result<Vec<u8>, VideoError> {
        let result = self.try_encode(still);
        if result.is_err() {
            self.0 = None;
        }
        result.map_err(|error| VideoError::Convert {
            reason: format!("{still:?} to JPEG: {error}"),
        })
    }

    fn try_encode(&mut self, still: &Still) -> Result<Vec<u8>, Error> {
        let size = (still.width(), still.height());
        let fits = |encoder: &encoder::video::Encoder| (encoder.width(), encoder.height()) == size;
        let encoder = match self.0.take().filter(fits) {
            Some(encoder) => self.0.insert(encoder),
            None => self.0.insert(open(size)?),
        };
        encoder.send_frame(&still.0)?;
        let mut packet = Packet::empty();
        encoder.receive_packet(&mut packet)?;
        Ok(packet.data().unwrap_or_default().to_vec())
    }
}

fn open((width, height): (u32, u32)) -> Result<encoder::video::Encoder, Error> {
    let codec = encoder::find(Id::MJPEG).ok_or(Error::EncoderNotFound)?;
    let mut encoder = Context::new_with_codec(codec).encoder().video()?;
    encoder.set_width(width);
    encoder.set_height(height);
    encoder.set_format(Pixel::YUVJ420P);
    encoder.set_time_base(Rational::new(1, 25));
    let mut options = Dictionary::new();
    // More threads would hold pictures back.
    options.set("threads", "1");
    options.set("qmin", QUALITY);
    options.set("qmax", QUALITY);
    encoder.open_with(options)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::ImageInfo;

    /// The colour in the middle of an encoded still.
    fn middle(encoding: PixelEncoding, data: &[u8], (width, height): (u32, u32)) -> [u8; 3] {
        let info = ImageInfo::new(width, height, encoding);
        let image = Image::new(info, data).unwrap();
        let still = Shrinker::default().still(&image, 64).unwrap();
        let mut encoder = JpegEncoder::default();
        encoder.encode(&still).unwrap();
        let jpeg = encoder.encode(&still).unwrap();
        let decoded = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        assert_eq!(decoded.dimensions(), (still.width(), still.height()));
        decoded.get_pixel(still.width() / 2, still.height() / 2).0
    }

    #[test]
    fn colours_survive() {
        let red = [255, 0, 0].repeat(90 * 50);
        let [r, g, b] = middle(PixelEncoding::Rgb8, &red, (90, 50));
        assert!(r > 240 && g < 16 && b < 16, "{r} {g} {b}");
        let mut white = vec![235; 90 * 50];
        white.resize(PixelEncoding::Yuv420p.byte_len(90, 50), 128);
        let [r, g, b] = middle(PixelEncoding::Yuv420p, &white, (90, 50));
        assert!(r > 250 && g > 250 && b > 250, "{r} {g} {b}");
    }

    #[test]
    fn stills_keep_their_shape_and_are_never_enlarged() {
        let info = ImageInfo::new(90, 51, PixelEncoding::Bgr8);
        let pixels = vec![9; info.byte_len()];
        let image = Image::new(info, &pixels).unwrap();
        let size = |max| {
            let still = Shrinker::default().still(&image, max).unwrap();
            (still.width(), still.height())
        };
        assert_eq!((size(45), size(900)), ((45, 25), (90, 51)));
    }
}
