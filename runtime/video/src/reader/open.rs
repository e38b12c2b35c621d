//! Opening: everything that can be wrong with an address or a file is told apart here.

use std::io::Read;

use ffmpeg_next::{codec, format, media};

use super::{
    Arrivals, CodecContext, Dictionary, Error, Input, Phase, Rational, Reader, ReaderOptions,
    Scaler, Timeline, VideoInfo, Watch, decoder,
};
use crate::{Damage, VideoError, codec_context, ffmpeg, url};

/// Frame rate where a stream does not say its own.
const USUAL_FPS: (u32, u32) = (25, 1);
/// Bytes looked at to say what a file is that is no video.
const LOOK: usize = 512;
/// Demuxers of FFmpeg that take almost any text for a picture.
const NOT_VIDEO: [&str; 5] = ["tty", "bin", "xbin", "adf", "idf"];
/// The score up to which FFmpeg's idea of a format is a guess (AVPROBE_SCORE_RETRY).
const GUESS: i32 = 25;
/// Demuxers of bare codec data, which has no timestamps.
const RAW: [&str; 7] = ["h264", "hevc", "m4v", "mpegvideo", "vc1", "av1", "obu"];

pub(super) fn open(address: &str, options: ReaderOptions) -> Result<Reader, VideoError> {
    ffmpeg::start()?;
    let shown = url::redact(address);
    if address.is_empty() || address.contains('\0') {
        return Err(VideoError::Address {
            url: shown,
            reason: "expected text without zero bytes".into(),
        });
    }
    let local = url::local_path(address);
    if let Some(path) = local {
        check_file(path, &shown)?;
    }
    let timeout = local.is_none().then_some(options.timeout);
    let watch = Watch::new(options.stop.clone());
    watch.arm(timeout);
    let interrupt = watch.clone();
    let input = format::input_with_interrupt_and_dictionary(
        address,
        move || interrupt.interrupts(),
        network_options(address, &options),
    )
    .map_err(|error| refused(error, &shown, local, &watch, &options))?;
    let container = input.format().name().to_string();
    if NOT_VIDEO.contains(&container.as_str()) {
        return Err(VideoError::NotAVideo {
            found: local.map_or_else(|| "it looks like text".into(), look_at),
            url: shown,
        });
    }
    let (stream, decoder) = open_decoder(&input, &shown, &container, &options)?;
    let (info, counted_frames, timeline) = describe(&input, stream, &decoder, container);
    if info.width == 0 || info.height == 0 {
        let reason = format!("{} data without a single complete picture", info.codec);
        return Err(VideoError::NotAVideo {
            url: shown,
            found: reason,
        });
    }
    Ok(Reader {
        url: shown,
        input,
        decoder,
        stream,
        info,
        counted_frames,
        timeline,
        arrivals: Arrivals::default(),
        scaler: Scaler::default(),
        damage: Damage::default(),
        watch,
        timeout,
        phase: Phase::Reading,
        broken: None,
        errors_in_a_row: 0,
        packets: 0,
        frames: 0,
    })
}

fn check_file(path: &str, shown: &str) -> Result<(), VideoError> {
    let url = shown.to_string();
    match std::fs::metadata(path) {
        Ok(file) if file.is_dir() => Err(VideoError::Folder { url }),
        Ok(file) if file.is_file() && file.len() == 0 => Err(VideoError::Empty { url }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            match url::first_picture(path) {
                Some(picture) => check_file(&picture.to_string_lossy(), shown),
                None => Err(VideoError::NoSuchFile { url }),
            }
        }
        Err(error) => Err(VideoError::Open {
            url,
            reason: error.to_string(),
        }),
    }
}

/// RTSP over TCP: over UDP, lost packets are lost pictures. The time-outs of the protocols stand
/// behind the interrupt callback, which some of them ask too rarely. The first second of frames is not
/// held back to find their rate: the stream says it, or their times do.
fn network_options(address: &str, options: &ReaderOptions) -> Dictionary<'static> {
    let mut dictionary = Dictionary::new();
    if url::local_path(address).is_some() {
        return dictionary;
    }
    dictionary.set("fpsprobesize", "0");
    let microseconds = (2 * options.timeout).as_micros().to_string();
    if address.starts_with("rtsp:") || address.starts_with("rtsps:") {
        dictionary.set("rtsp_transport", "tcp");
        dictionary.set("timeout", &microseconds);
    } else {
        dictionary.set("rw_timeout", &microseconds);
    }
    dictionary
}

fn refused(
    error: Error,
    shown: &str,
    local: Option<&str>,
    watch: &Watch,
    options: &ReaderOptions,
) -> VideoError {
    let url = shown.to_string();
    match error {
        _ if watch.is_stopped() => VideoError::Stopped { url },
        _ if watch.is_late() => VideoError::Timeout {
            url,
            seconds: options.timeout.as_secs(),
        },
        Error::InvalidData | Error::Eof => VideoError::NotAVideo {
            url,
            found: local.map_or_else(
                || "its content is in no format that FFmpeg knows".into(),
                look_at,
            ),
        },
        Error::ProtocolNotFound => VideoError::Open {
            url,
            reason: "this FFmpeg does not know the protocol".into(),
        },
        other => VideoError::Open {
            url,
            reason: other.to_string(),
        },
    }
}

/// What a file that is no video seems to be.
fn look_at(path: &str) -> String {
    let mut start = Vec::with_capacity(LOOK);
    let read =
        std::fs::File::open(path).and_then(|file| file.take(LOOK as u64).read_to_end(&mut start));
    if read.is_err() {
        return "it cannot be read".into();
    }
    let whole = match std::str::from_utf8(&start) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
    };
    let is_text = whole.len() + 4 > start.len()
        && whole.chars().all(|c| !c.is_control() || c.is_whitespace());
    if is_text {
        return "it is a text file".into();
    }
    if start.get(4..8) == Some(b"ftyp") {
        return "an MP4 file without its index (moov box): it was cut off, or never finished"
            .into();
    }
    "its content is in no format that FFmpeg knows, or damaged from the start".into()
}

fn open_decoder(
    input: &Input,
    shown: &str,
    container: &str,
    options: &ReaderOptions,
) -> Result<(usize, decoder::Video), VideoError> {
    let url = || shown.to_string();
    let Some(stream) = input.streams().best(media::Type::Video) else {
        if input.probe_score() <= GUESS {
            return Err(VideoError::NotAVideo {
                url: url(),
                found: format!("its content is in no known format (the best guess is {container})"),
            });
        }
        let kinds: Vec<String> = input
            .streams()
            .map(|stream| format!("{:?}", stream.parameters().medium()).to_lowercase())
            .collect();
        return Err(VideoError::NoVideoStream {
            url: url(),
            format: container.into(),
            found: if kinds.is_empty() {
                "nothing".into()
            } else {
                kinds.join(", ")
            },
        });
    };
    let parameters = stream.parameters();
    let id = parameters.id();
    let codec = decoder::find(id).ok_or_else(|| VideoError::NoDecoder {
        url: url(),
        codec: id.name().into(),
    })?;
    let failed = |error: Error| VideoError::Open {
        url: url(),
        reason: format!("{} decoder: {error}", id.name()),
    };
    let context = CodecContext::from_parameters(parameters).map_err(failed)?;
    let ReaderOptions {
        threads,
        low_delay,
        hwaccel,
        ..
    } = options;
    let decoder = codec_context::open(
        context,
        codec,
        *threads,
        *low_delay,
        hwaccel,
        None,
        |decoder| {
            decoder.set_packet_time_base(stream.time_base());
        },
    )
    .map_err(failed)?;
    Ok((stream.index(), decoder))
}

fn describe(
    input: &Input,
    stream: usize,
    decoder: &decoder::Video,
    container: String,
) -> (VideoInfo, Option<u64>, Timeline) {
    let fraction = |rate: Rational| {
        let (numerator, denominator) = (rate.numerator(), rate.denominator());
        match (u32::try_from(numerator), u32::try_from(denominator)) {
            (Ok(n), Ok(d)) if n > 0 && d > 0 => Some((n, d)),
            _ => None,
        }
    };
    let (frame_rate, counted, ticks, time_base) = match input.stream(stream) {
        Some(stream) => (
            fraction(stream.avg_frame_rate()).or_else(|| fraction(stream.rate())),
            u64::try_from(stream.frames())
                .ok()
                .filter(|&frames| frames > 0),
            stream.duration(),
            stream.time_base(),
        ),
        None => (None, None, 0, Rational::new(1, 1000)),
    };
    // AV_TIME_BASE: FFmpeg gives a container's duration in microseconds.
    let of_stream = fraction(time_base)
        .filter(|_| ticks > 0)
        .map(|(n, d)| i128::from(ticks) * i128::from(n) * 1_000_000_000 / i128::from(d));
    let of_container = (input.duration() > 0).then(|| i128::from(input.duration()) * 1000);
    let duration_ns = of_stream
        .or(of_container)
        .and_then(|ns| i64::try_from(ns).ok());
    let raw = RAW.contains(&container.as_str());
    let estimated = match (duration_ns, frame_rate) {
        (Some(ns), Some((n, d))) if !raw => {
            let frames = ns as f64 / 1e9 * f64::from(n) / f64::from(d);
            Some(frames.round() as u64)
        }
        _ => None,
    };
    let (n, d) = frame_rate.unwrap_or(USUAL_FPS);
    let period_ns = (1e9 * f64::from(d) / f64::from(n)).round() as i64;
    let (tick_n, tick_d) = (time_base.numerator(), time_base.denominator());
    let info = VideoInfo {
        format: container,
        codec: codec::Id::name(&decoder.id()).to_string(),
        width: decoder.width(),
        height: decoder.height(),
        frame_rate,
        expected_frames: counted.or(estimated),
        duration_ns: duration_ns.filter(|_| !raw),
    };
    (
        info,
        counted,
        Timeline::new(tick_n, tick_d, period_ns, !raw),
    )
}
