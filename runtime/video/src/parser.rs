//! Cuts a byte stream that comes in pieces into the pictures it is made of (FFmpeg's parsers).

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use ffmpeg_next::ffi::{
    AV_NOPTS_VALUE, AVCodecContext, AVCodecParserContext, AVPictureType, av_parser_close,
    av_parser_init, av_parser_parse2, avcodec_alloc_context3, avcodec_free_context,
};
use ffmpeg_next::{Packet, codec};

/// Zero bytes that FFmpeg wants behind every input (AV_INPUT_BUFFER_PADDING_SIZE).
pub(crate) const PADDING: usize = 64;

/// A coded picture, complete.
pub(crate) struct Parsed {
    /// Its bytes, with the parameter sets before it.
    pub(crate) packet: Packet,
    /// Decoding can begin with it.
    pub(crate) key: bool,
    /// It is coded without reference to others.
    pub(crate) intra: bool,
    /// The times given with the piece in which it begins, if it is the first to begin there:
    /// presentation and capture.
    pub(crate) times: Option<(i64, i64)>,
}

/// The parser of one stream.
pub(crate) struct Parser {
    parser: NonNull<AVCodecParserContext>,
    /// The parser's own: the decoder's is in use by other threads.
    context: NonNull<AVCodecContext>,
}

// SAFETY: neither object is tied to the thread that made it, and `&mut self` on every use keeps two
// threads from using them at once.
unsafe impl Send for Parser {}

impl Parser {
    /// `None` where FFmpeg has no parser for the codec, or no memory.
    pub(crate) fn new(id: codec::Id) -> Option<Self> {
        let number: ffmpeg_next::ffi::AVCodecID = id.into();
        // SAFETY: both functions give null or an object that is ours until `drop`.
        unsafe {
            let parser = NonNull::new(av_parser_init(number as c_int))?;
            let Some(context) = NonNull::new(avcodec_alloc_context3(ptr::null())) else {
                av_parser_close(parser.as_ptr());
                return None;
            };
            (*context.as_ptr()).codec_id = number;
            Some(Self { parser, context })
        }
    }

    /// Takes bytes from the start of `data`, which must be followed by [`PADDING`] zeros; without
    /// data: the end, which completes the last picture. Returns how many were taken, and a picture
    /// where one has become complete. `times` are those of the piece that the data is part of. (The
    /// parser has room for two times of a piece, which it hands out with the first picture in it.)
    pub(crate) fn parse(
        &mut self,
        padded: &[u8],
        (pts_ns, capture_ns): (i64, i64),
    ) -> (usize, Option<Parsed>) {
        let len = padded.len().saturating_sub(PADDING);
        let mut out = ptr::null_mut();
        let mut out_len = 0;
        // SAFETY: parser and context are live and ours. The input is `len` bytes followed by the
        // padding that FFmpeg may read. `out` is set to `out_len` bytes, which stay in place until
        // the next call (in the parser or in the input) and are copied here, before it.
        unsafe {
            let used = av_parser_parse2(
                self.parser.as_ptr(),
                self.context.as_ptr(),
                &raw mut out,
                &raw mut out_len,
                padded.as_ptr(),
                c_int::try_from(len).unwrap_or(0),
                pts_ns,
                capture_ns,
                0,
            );
            let used = usize::try_from(used).unwrap_or(0).min(len);
            let bytes = usize::try_from(out_len).unwrap_or(0);
            if out.is_null() || bytes == 0 {
                return (used, None);
            }
            let state = self.parser.as_ref();
            let intra = state.pict_type == AVPictureType::AV_PICTURE_TYPE_I as c_int;
            let parsed = Parsed {
                packet: Packet::copy(std::slice::from_raw_parts(out, bytes)),
                key: state.key_frame == 1 || (state.key_frame < 0 && intra),
                intra,
                times: (state.pts != AV_NOPTS_VALUE).then_some((state.pts, state.dts)),
            };
            (used, Some(parsed))
        }
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: both are ours, and nothing refers to them any more.
        unsafe {
            av_parser_close(self.parser.as_ptr());
            avcodec_free_context(&raw mut context);
        }
    }
}
