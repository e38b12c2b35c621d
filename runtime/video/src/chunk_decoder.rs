//! Decodes a stream that comes in pieces cut anywhere, without a container around it.
//!
//! A parser finds the pictures, a decoder decodes them; both belong to one stream. Decoding begins at
//! the first keyframe, and again at the next one where pieces are missing. Broken bytes cost pictures,
//! never the stream. Codec and resolution may change on the way.

use ffmpeg_next::codec::{self, Context as CodecContext};
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Error, Packet, decoder};
use tracklens_schemas::{Codec, PixelEncoding};

use crate::hardware::{self, Hwaccel};
use crate::parameter_sets::parameter_sets;
use crate::parser::{PADDING, Parsed, Parser};
use crate::picture::encoding_of;
use crate::scaler::Scaler;
use crate::stamps::Stamps;
use crate::timeline::Timeline;
use crate::{Picture, VideoError, codec_context, ffmpeg};

/// A coded picture larger than this is none: the bytes are thrown away.
const MAX_PICTURE: usize = 32 << 20;
/// Pixels of the largest picture that is decoded (8192 x 4320 and a little).
const MAX_PIXELS: i64 = 36_000_000;
/// After so many pictures without a keyframe, one that is only coded by itself will do, and the
/// missing keyframe is told.
const PATIENCE: u64 = 300;
/// Clean pictures after which damage is over.
const CLEAN: u32 = 25;
/// Time of a picture where the stream does not say its rate.
const USUAL_PERIOD_NS: i64 = 40_000_000;

/// How to decode.
#[derive(Clone, Debug, Default)]
pub struct ChunkOptions {
    /// Threads of the codec; 0 lets FFmpeg choose.
    pub threads: usize,
    /// No picture waits for the next only so that threads have work.
    pub low_delay: bool,
    /// Decoding on a device.
    pub hwaccel: Hwaccel,
}

/// The times a piece came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkTimes {
    /// Of the first picture that begins in the piece: presentation, or arrival.
    pub pts_ns: i64,
    /// Wall clock when the piece came in, nanoseconds since 1970.
    pub capture_ns: i64,
}

/// What was lost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Coded pictures passed over while waiting for a keyframe.
    pub skipped: u64,
    /// Coded pictures that the decoder refused, or covered up.
    pub broken: u64,
}

/// A piece that is being worked off.
#[derive(Debug, Default)]
struct Input {
    codec: Codec,
    /// The bytes, followed by [`PADDING`] zeros.
    padded: Vec<u8>,
    at: usize,
    times: ChunkTimes,
}

impl Input {
    fn is_done(&self) -> bool {
        self.at + PADDING >= self.padded.len()
    }
}

/// Parser and decoder of the codec in force.
struct Active {
    codec: Codec,
    parser: Parser,
    decoder: decoder::Video,
    /// The end has been given to the decoder.
    draining: bool,
    /// Bytes taken by the parser since the last whole picture.
    unparsed: usize,
}

/// The decoder of one stream.
pub struct ChunkDecoder {
    options: ChunkOptions,
    active: Option<Active>,
    input: Input,
    ending: bool,
    waiting_for_keyframe: bool,
    /// Parameter sets of pictures passed over.
    parameter_sets: Vec<u8>,
    stamps: Stamps,
    timeline: Timeline,
    scaler: Scaler,
    counts: ChunkCounts,
    skipped_in_a_row: u64,
    /// Clean pictures since the last damage; `None` while all is well.
    damaged: Option<u32>,
    news: Option<String>,
}

impl ChunkDecoder {
    /// A decoder that waits for its first keyframe.
    ///
    /// # Errors
    /// Where FFmpeg does not start.
    pub fn new(options: ChunkOptions) -> Result<Self, VideoError> {
        ffmpeg::start()?;
        Ok(Self {
            options,
            active: None,
            input: Input::default(),
            ending: false,
            waiting_for_keyframe: true,
            parameter_sets: Vec::new(),
            stamps: Stamps::default(),
            timeline: Timeline::new(1, 1_000_000_000, USUAL_PERIOD_NS, true),
            scaler: Scaler::default(),
            counts: ChunkCounts::default(),
            skipped_in_a_row: 0,
            damaged: None,
            news: None,
        })
    }

    /// Takes the next piece, once [`next`](Self::next) has returned `None` for the one before; what
    /// is left of that one is given up otherwise.
    pub fn push(&mut self, codec: Codec, bytes: &[u8], times: ChunkTimes) {
        let input = &mut self.input;
        input.codec = codec;
        input.padded.clear();
        input.padded.extend_from_slice(bytes);
        input.padded.resize(bytes.len() + PADDING, 0);
        input.at = 0;
        input.times = times;
        self.ending = false;
    }

    /// Pieces are missing before the next one: what is begun is given up, and decoding goes on at the
    /// next keyframe.
    pub fn lost(&mut self, what: &str) {
        self.hurt(|| what.to_string());
        if let Some(active) = &mut self.active
            && let Some(parser) = Parser::new(id(active.codec))
        {
            active.parser = parser;
            active.unparsed = 0;
            if !active.draining {
                active.decoder.flush();
            }
        }
        self.stamps.clear();
        self.wait_for_keyframe();
    }

    /// Nothing more will come: [`next`](Self::next) gives what is left.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// The next picture in presentation order; `None` where another piece is needed, or after the
    /// end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Picture> {
        loop {
            if let Some(picture) = self.receive() {
                return Some(picture);
            }
            if !self.step() {
                return None;
            }
        }
    }

    /// What was lost so far.
    #[must_use]
    pub fn counts(&self) -> ChunkCounts {
        self.counts
    }

    /// The codec in force and the frames per second that the stream says it has.
    #[must_use]
    pub fn describe(&self) -> Option<(Codec, Option<f64>)> {
        let active = self.active.as_ref()?;
        Some((active.codec, frame_rate(&active.decoder)))
    }

    /// What is wrong, once for each time that something begins to be.
    pub fn take_damage(&mut self) -> Option<String> {
        self.news.take()
    }

    fn hurt(&mut self, what: impl FnOnce() -> String) {
        if self.damaged.is_none() {
            self.news = Some(what());
        }
        self.damaged = Some(0);
    }

    fn wait_for_keyframe(&mut self) {
        self.waiting_for_keyframe = true;
        self.skipped_in_a_row = 0;
    }

    /// A picture that the decoder has ready.
    fn receive(&mut self) -> Option<Picture> {
        loop {
            let active = self.active.as_mut()?;
            let mut frame = Video::empty();
            match active.decoder.receive_frame(&mut frame) {
                Ok(()) => match self.picture(frame) {
                    Ok(picture) => return Some(picture),
                    Err(reason) => {
                        self.counts.broken += 1;
                        self.hurt(|| reason);
                    }
                },
                Err(Error::Other { errno: EAGAIN }) => return None,
                Err(Error::Eof) => {
                    self.active = None;
                    self.stamps.clear();
                    self.wait_for_keyframe();
                    return None;
                }
                Err(error) => {
                    self.counts.broken += 1;
                    self.hurt(|| format!("a picture cannot be decoded: {error}"));
                }
            }
        }
    }

    /// Brings one piece of work to the decoder; whether there was any.
    fn step(&mut self) -> bool {
        let Some(active) = &mut self.active else {
            return !self.input.is_done() && self.open();
        };
        let other_codec = !self.input.is_done() && active.codec != self.input.codec;
        if self.ending && self.input.is_done() || other_codec {
            self.drain();
            return true;
        }
        if self.input.is_done() {
            return false;
        }
        let rest = &self.input.padded[self.input.at..];
        let times = (self.input.times.pts_ns, self.input.times.capture_ns);
        let (used, parsed) = active.parser.parse(rest, times);
        active.unparsed += used;
        self.input.at += used;
        match parsed {
            Some(parsed) => {
                active.unparsed = 0;
                self.take(parsed);
            }
            // A parser that takes nothing and gives nothing would be asked for ever.
            None if used == 0 => self.input.at = self.input.padded.len(),
            None if active.unparsed > MAX_PICTURE => {
                self.counts.broken += 1;
                self.lost("no picture in 32 MiB: not video of this codec, or damaged");
            }
            None => {}
        }
        true
    }

    fn open(&mut self) -> bool {
        let codec = self.input.codec;
        match open(codec, &self.options) {
            Ok((parser, decoder)) => {
                self.active = Some(Active {
                    codec,
                    parser,
                    decoder,
                    draining: false,
                    unparsed: 0,
                });
                self.parameter_sets.clear();
                self.wait_for_keyframe();
                true
            }
            Err(reason) => {
                self.input.at = self.input.padded.len();
                self.counts.broken += 1;
                self.hurt(|| format!("no decoder for {}: {reason}", codec.as_str()));
                false
            }
        }
    }

    /// Completes the last picture and tells the decoder the end.
    fn drain(&mut self) {
        let Some(active) = &mut self.active else {
            return;
        };
        if active.draining {
            return;
        }
        let (_, parsed) = active.parser.parse(&[0; PADDING], (0, 0));
        active.unparsed = 0;
        if let Some(parsed) = parsed {
            self.take(parsed);
            return;
        }
        active.draining = true;
        // The decoder refuses only where it is draining already.
        let _already_draining = active.decoder.send_eof();
    }

    /// A whole coded picture: to the decoder, or passed over.
    fn take(&mut self, parsed: Parsed) {
        let Some(active) = &mut self.active else {
            return;
        };
        let mut packet = parsed.packet;
        if self.waiting_for_keyframe {
            let patient = self.skipped_in_a_row < PATIENCE;
            if !parsed.key && (patient || !parsed.intra) {
                self.pass_over(&packet);
                return;
            }
            self.waiting_for_keyframe = false;
            if !self.parameter_sets.is_empty() {
                let mut whole = std::mem::take(&mut self.parameter_sets);
                whole.extend_from_slice(packet.data().unwrap_or_default());
                packet = Packet::copy(&whole);
            }
        }
        let (pts, capture) = match parsed.times {
            Some((pts, capture)) => (Some(pts), capture),
            None => (None, self.input.times.capture_ns),
        };
        let number = self.stamps.packet(pts, capture);
        packet.set_pts(Some(number));
        if let Err(error) = active.decoder.send_packet(&packet) {
            self.counts.broken += 1;
            self.hurt(|| format!("a picture is refused: {error}"));
        }
    }

    fn pass_over(&mut self, packet: &Packet) {
        self.counts.skipped += 1;
        self.skipped_in_a_row += 1;
        let Some(active) = &self.active else { return };
        let sets = parameter_sets(active.codec, packet.data().unwrap_or_default());
        if !sets.is_empty() {
            self.parameter_sets = sets;
        }
        if self.skipped_in_a_row == PATIENCE {
            self.hurt(|| format!("no keyframe among {PATIENCE} pictures"));
        }
    }

    /// Brings a decoded frame into the form in which frames travel.
    fn picture(&mut self, frame: Video) -> Result<Picture, String> {
        let number = frame.pts();
        let (key, broken) = (
            frame.is_key(),
            frame.is_corrupt() || frame.has_decode_errors(),
        );
        let (reordered, rate) = match &self.active {
            Some(active) => (active.decoder.has_b_frames(), frame_rate(&active.decoder)),
            None => (true, None),
        };
        if let Some(rate) = rate {
            self.timeline.set_period((1e9 / rate).round() as i64);
        }
        let (pts, capture_ns) = self.stamps.picture(number, reordered);
        let frame = hardware::to_memory(frame)
            .map_err(|error| format!("a picture cannot be fetched from the device: {error}"))?;
        let (width, height) = (frame.width(), frame.height());
        let (frame, encoding) = match encoding_of(&frame) {
            Some(encoding) => (frame, encoding),
            None => {
                let converted = self
                    .scaler
                    .convert(&frame, Pixel::YUV420P, width, height)
                    .map_err(|error| error.to_string())?;
                (converted, PixelEncoding::Yuv420p)
            }
        };
        if broken {
            self.counts.broken += 1;
            self.hurt(|| "a picture has decoding errors".into());
        } else if let Some(clean) = &mut self.damaged {
            *clean += 1;
            if key || *clean >= CLEAN {
                self.damaged = None;
            }
        }
        let pts_ns = self.timeline.next(pts);
        Ok(Picture::new(frame, encoding, key, pts_ns, capture_ns))
    }
}

fn id(codec: Codec) -> codec::Id {
    match codec {
        Codec::H264 => codec::Id::H264,
        Codec::Hevc => codec::Id::HEVC,
    }
}

fn open(codec: Codec, options: &ChunkOptions) -> Result<(Parser, decoder::Video), String> {
    let found = decoder::find(id(codec)).ok_or("this FFmpeg has none")?;
    let parser = Parser::new(id(codec)).ok_or("this FFmpeg has no parser for it")?;
    let context = CodecContext::new_with_codec(found);
    let ChunkOptions {
        threads,
        low_delay,
        hwaccel,
    } = options;
    let limit = Some(MAX_PIXELS);
    let decoder = codec_context::open(context, found, *threads, *low_delay, hwaccel, limit, |_| {})
        .map_err(|error| error.to_string())?;
    Ok((parser, decoder))
}

/// The rate that the stream says it has, if it is a sensible one.
fn frame_rate(decoder: &decoder::Video) -> Option<f64> {
    let rate = f64::from(decoder.frame_rate()?);
    (1.0..=240.0).contains(&rate).then_some(rate)
}
