//! A decoded frame, as FFmpeg holds it.
//!
//! The planes stay where the decoder put them until [`Picture::write_to`] copies them, row by row
//! without padding, straight to where they travel on: the one copy of a frame's way out.

use std::fmt;
use std::sync::Arc;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use tracklens_schemas::{ImageInfo, PixelEncoding};

use crate::VideoError;

/// A decoded frame. Clones share the pixels.
#[derive(Clone)]
pub struct Picture {
    frame: Arc<Video>,
    info: ImageInfo,
    pts_ns: i64,
    capture_ns: i64,
}

/// How a frame's pixels travel, or `None` where they must be converted first. Luma travels in the
/// limited range of video (16 to 235): what receivers assume, since a message does not say. Full-range
/// frames, as JPEG and many phones have them, are therefore converted.
pub(crate) fn encoding_of(frame: &Video) -> Option<PixelEncoding> {
    let upright = (0..frame.planes()).all(|plane| isize::try_from(frame.stride(plane)).is_ok());
    match frame.format() {
        Pixel::YUV420P if upright => Some(PixelEncoding::Yuv420p),
        Pixel::NV12 if upright => Some(PixelEncoding::Nv12),
        _ => None,
    }
}

/// Width in bytes and height of each plane of a packed image.
pub(crate) fn plane_sizes(encoding: PixelEncoding, width: u32, height: u32) -> Vec<(usize, usize)> {
    let (w, h) = (width as usize, height as usize);
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    match encoding {
        PixelEncoding::Yuv420p => vec![(w, h), (cw, ch), (cw, ch)],
        PixelEncoding::Nv12 => vec![(w, h), (2 * cw, ch)],
        PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => vec![(3 * w, h)],
    }
}

impl Picture {
    /// A picture of a frame in yuv420p or nv12.
    pub(crate) fn new(
        frame: Video,
        encoding: PixelEncoding,
        keyframe: bool,
        pts_ns: i64,
        capture_ns: i64,
    ) -> Self {
        let mut info = ImageInfo::new(frame.width(), frame.height(), encoding);
        info.keyframe = keyframe;
        Self {
            frame: Arc::new(frame),
            info,
            pts_ns,
            capture_ns,
        }
    }

    /// Size, encoding (yuv420p or nv12) and whether it is a keyframe.
    #[must_use]
    pub fn info(&self) -> ImageInfo {
        self.info
    }

    /// Presentation time in nanoseconds; the stream's first frame is at 0.
    #[must_use]
    pub fn pts_ns(&self) -> i64 {
        self.pts_ns
    }

    /// Wall clock when its bytes came in, nanoseconds since 1970.
    #[must_use]
    pub fn capture_ns(&self) -> i64 {
        self.capture_ns
    }

    pub(crate) fn frame(&self) -> &Video {
        &self.frame
    }

    /// Writes the pixels, without padding, into a buffer of `info().byte_len()` bytes.
    ///
    /// # Errors
    /// [`VideoError::BufferSize`] where the buffer has another length.
    pub fn write_to(&self, buffer: &mut [u8]) -> Result<(), VideoError> {
        let ImageInfo {
            width,
            height,
            encoding,
            ..
        } = self.info;
        if buffer.len() != self.info.byte_len() {
            return Err(VideoError::BufferSize {
                width,
                height,
                expected: self.info.byte_len(),
                found: buffer.len(),
            });
        }
        pack(&self.frame, &plane_sizes(encoding, width, height), buffer);
        Ok(())
    }
}

/// Copies the planes of a frame behind each other, rows without padding.
///
/// `sizes` (bytes a row, rows) must be those of the frame's own format and size.
pub(crate) fn pack(frame: &Video, sizes: &[(usize, usize)], mut buffer: &mut [u8]) {
    for (index, &(width, rows)) in sizes.iter().enumerate() {
        let Some((plane, rest)) = buffer.split_at_mut_checked(width * rows) else {
            return;
        };
        buffer = rest;
        let stride = frame.stride(index);
        if stride == width {
            plane.copy_from_slice(row(frame, index, 0, width * rows));
        } else {
            for (number, target) in plane.chunks_exact_mut(width).enumerate() {
                target.copy_from_slice(row(frame, index, number, width));
            }
        }
    }
}

/// The first `width` bytes of a row. A slice of the whole plane would promise more than is
/// there: the last row of a cropped frame need not be followed by its padding.
fn row(frame: &Video, plane: usize, number: usize, width: usize) -> &[u8] {
    // SAFETY: the callers pass planes, rows and widths inside the frame's own size and format, whose
    // pixels FFmpeg allocates at data[plane] + number * linesize[plane]; linesize is positive
    // (`encoding_of`, or a buffer of our own). The pixels live as long as the frame's reference to
    // them, and nothing writes to them while it is borrowed.
    unsafe {
        let start = (*frame.as_ptr()).data[plane].add(number * frame.stride(plane));
        std::slice::from_raw_parts(start, width)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture")
            .field("info", &self.info)
            .field("pts_ns", &self.pts_ns)
            .field("capture_ns", &self.capture_ns)
            .finish_non_exhaustive()
    }
}
