//! Conversion between pixel formats and sizes (libswscale), with the context kept between frames.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};

use crate::VideoError;

/// Converts frames; remembers the last conversion.
#[derive(Default)]
pub(crate) struct Scaler(Option<Context>);

// SAFETY: a SwsContext has no ties to the thread that made it, and `&mut self` on every use keeps
// two threads from using it at once.
unsafe impl Send for Scaler {}

impl Scaler {
    /// A new frame in the given format and size.
    pub(crate) fn convert(
        &mut self,
        source: &Video,
        format: Pixel,
        width: u32,
        height: u32,
    ) -> Result<Video, VideoError> {
        let failed = |error: ffmpeg_next::Error| VideoError::Convert {
            reason: format!(
                "{:?} {}x{} to {format:?} {width}x{height}: {error}",
                source.format(),
                source.width(),
                source.height(),
            ),
        };
        let fits = self.0.as_ref().is_some_and(|context| {
            let (from, to) = (context.input(), context.output());
            (from.format, from.width, from.height)
                == (source.format(), source.width(), source.height())
                && (to.format, to.width, to.height) == (format, width, height)
        });
        if !fits {
            let shrinks = width < source.width() && height < source.height();
            let kind = if shrinks { Flags::AREA } else { Flags::BICUBIC };
            let (from, w, h) = (source.format(), source.width(), source.height());
            let flags = kind | Flags::ACCURATE_RND | Flags::BITEXACT;
            let context = Context::get(from, w, h, format, width, height, flags).map_err(failed)?;
            self.0 = Some(context);
        }
        let mut target = Video::empty();
        if let Some(context) = &mut self.0 {
            context.run(source, &mut target).map_err(failed)?;
        }
        Ok(target)
    }
}
