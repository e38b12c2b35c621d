//! Streams that come in pieces: cut anywhere, joined late, damaged, changing on the way. What is whole
//! decodes to exactly the frames that the reader finds in the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;
use support::{ffmpeg, pixels, read};
use tracklens_schemas::Codec;
use tracklens_video::{ChunkDecoder, ChunkOptions, ChunkTimes, Picture};

/// Frames of a made-up stream, and the frames from one keyframe to the next.
const FRAMES: usize = 24;
const GROUP: usize = 8;

/// A coded stream and the frames in it.
struct Stream {
    codec: Codec,
    bytes: Vec<u8>,
    frames: Vec<Vec<u8>>,
}

fn encode(codec: Codec, size: &str, b_frames: u8) -> Stream {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(codec.as_str());
    let source = format!("testsrc2=size={size}:rate=25");
    let group = GROUP.to_string();
    let (encoder, option) = match codec {
        Codec::H264 => ("libx264", "-x264-params"),
        Codec::Hevc => ("libx265", "-x265-params"),
    };
    let params = format!(
        "bframes={b_frames}:keyint={group}:min-keyint={group}:scenecut=0:aud=1:repeat-headers=1:log-level=none"
    );
    let count = FRAMES.to_string();
    let out = path.to_str().unwrap();
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &source,
        "-frames:v",
        &count,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        encoder,
        option,
        &params,
        "-f",
        codec.as_str(),
        out,
    ]);
    let bytes = std::fs::read(&path).unwrap();
    let frames = reference(&path);
    assert_eq!(frames.len(), FRAMES, "{codec:?}");
    Stream {
        codec,
        bytes,
        frames,
    }
}

fn reference(path: &Path) -> Vec<Vec<u8>> {
    read(path).0.iter().map(pixels).collect()
}

fn h264() -> &'static Stream {
    static STREAM: OnceLock<Stream> = OnceLock::new();
    STREAM.get_or_init(|| encode(Codec::H264, "64x48", 2))
}

fn hevc() -> &'static Stream {
    static STREAM: OnceLock<Stream> = OnceLock::new();
    STREAM.get_or_init(|| encode(Codec::Hevc, "64x64", 2))
}

/// The access units, which begin with delimiters.
fn access_units(stream: &Stream) -> Vec<&[u8]> {
    let mark: &[u8] = match stream.codec {
        Codec::H264 => &[0, 0, 0, 1, 9],
        Codec::Hevc => &[0, 0, 0, 1, 0x46],
    };
    let mut starts: Vec<usize> = (0..stream.bytes.len())
        .filter(|&at| stream.bytes[at..].starts_with(mark))
        .collect();
    assert_eq!(starts.len(), FRAMES);
    starts.push(stream.bytes.len());
    starts
        .windows(2)
        .map(|pair| &stream.bytes[pair[0]..pair[1]])
        .collect()
}

fn decoder(threads: usize) -> ChunkDecoder {
    ChunkDecoder::new(ChunkOptions {
        threads,
        low_delay: false,
        ..ChunkOptions::default()
    })
    .unwrap()
}

fn drain(decoder: &mut ChunkDecoder, out: &mut Vec<Picture>) {
    out.extend(std::iter::from_fn(|| decoder.next()));
}

fn decode<'a>(
    codec: Codec,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Vec<u8>>, ChunkDecoder) {
    let mut decoder = decoder(1);
    let mut out = Vec::new();
    for (number, piece) in (0..).zip(pieces) {
        let times = ChunkTimes {
            pts_ns: number * 40_000_000,
            capture_ns: number,
        };
        decoder.push(codec, piece, times);
        drain(&mut decoder, &mut out);
    }
    decoder.end();
    drain(&mut decoder, &mut out);
    let times: Vec<i64> = out.iter().map(|each| each.pts_ns()).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    (out.iter().map(pixels).collect(), decoder)
}

#[test]
fn pieces_of_any_size_decode_to_the_same_frames() {
    for stream in [h264(), hevc()] {
        for size in [1, 7, 188, 1000, stream.bytes.len()] {
            let (frames, mut decoder) = decode(stream.codec, stream.bytes.chunks(size));
            assert!(
                frames == stream.frames,
                "{:?} in {size}: {}",
                stream.codec,
                frames.len()
            );
            assert_eq!(decoder.take_damage(), None);
            assert_eq!(decoder.counts(), Default::default());
        }
    }
}

#[test]
fn times_are_those_of_the_pieces_in_the_order_in_which_frames_are_shown() {
    for stream in [h264(), hevc()] {
        let mut decoder = decoder(1);
        let mut out = Vec::new();
        for (number, unit) in (0..).zip(access_units(stream)) {
            let times = ChunkTimes {
                pts_ns: 5_000_000_000 + number * 40_000_000,
                capture_ns: 1000 + number,
            };
            decoder.push(stream.codec, unit, times);
            drain(&mut decoder, &mut out);
        }
        decoder.end();
        drain(&mut decoder, &mut out);
        let times: Vec<i64> = out.iter().map(|each| each.pts_ns()).collect();
        let expected: Vec<i64> = (0..FRAMES as i64)
            .map(|number| number * 40_000_000)
            .collect();
        assert_eq!(times, expected);
        let mut captured: Vec<i64> = out.iter().map(|each| each.capture_ns()).collect();
        captured.sort_unstable();
        let expected: Vec<i64> = (0..FRAMES as i64).map(|number| 1000 + number).collect();
        assert_eq!(captured, expected);
        let (codec, rate) = decoder.describe().unzip();
        assert!(codec.is_none() || rate == Some(Some(25.0)));
    }
}

#[test]
fn a_stream_is_joined_at_its_next_keyframe() {
    for stream in [h264(), hevc()] {
        let units = access_units(stream);
        let (frames, mut decoder) = decode(stream.codec, units[3..].iter().copied());
        assert!(
            frames == stream.frames[GROUP..],
            "{:?}: {}",
            stream.codec,
            frames.len()
        );
        assert_eq!(decoder.counts().skipped as usize, GROUP - 3);
        assert_eq!(decoder.take_damage(), None, "joining late is no damage");
    }
}

#[test]
fn after_a_loss_decoding_goes_on_at_the_next_keyframe() {
    for stream in [h264(), hevc()] {
        let units = access_units(stream);
        let mut decoder = decoder(1);
        let mut out = Vec::new();
        for (number, unit) in units.iter().enumerate() {
            match number {
                10 => continue,
                11 => decoder.lost("chunk 10 is missing"),
                _ => {}
            }
            // Half a unit at a time: the loss is in the middle of one.
            for half in unit.chunks(unit.len().div_ceil(2)) {
                decoder.push(stream.codec, half, ChunkTimes::default());
                drain(&mut decoder, &mut out);
            }
        }
        decoder.end();
        drain(&mut decoder, &mut out);
        assert_eq!(
            decoder.take_damage().as_deref(),
            Some("chunk 10 is missing")
        );
        let frames: Vec<Vec<u8>> = out.iter().map(pixels).collect();
        assert!(frames[..GROUP - 2] == stream.frames[..GROUP - 2]);
        assert!(frames.len() >= 2 * GROUP - 2);
        assert!(frames[frames.len() - GROUP..] == stream.frames[2 * GROUP..]);
    }
}

#[test]
fn resolution_and_codec_may_change_on_the_way() {
    let larger = encode(Codec::H264, "96x80", 0);
    let mut decoder = decoder(2);
    let mut out = Vec::new();
    for stream in [h264(), &larger, hevc(), h264()] {
        for piece in stream.bytes.chunks(333) {
            decoder.push(stream.codec, piece, ChunkTimes::default());
            drain(&mut decoder, &mut out);
        }
    }
    decoder.end();
    drain(&mut decoder, &mut out);
    let frames: Vec<Vec<u8>> = out.iter().map(pixels).collect();
    let expected: Vec<&Vec<u8>> = [h264(), &larger, hevc(), h264()]
        .iter()
        .flat_map(|stream| &stream.frames)
        .collect();
    assert_eq!(frames.len(), expected.len());
    assert!(
        frames
            .iter()
            .zip(expected)
            .all(|(frame, expected)| frame == expected)
    );
    assert_eq!(decoder.take_damage(), None);
}

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / 1_048_576.0
}

#[test]
fn garbage_is_told_and_takes_no_memory() {
    let mut decoder = decoder(1);
    let mut noise = 1_u64;
    let piece: Vec<u8> = (0..1 << 20)
        .map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // No zero byte, hence no start code: a picture that never ends.
            ((noise >> 33) as u8).max(1)
        })
        .collect();
    decoder.push(Codec::H264, &piece, ChunkTimes::default());
    drain(&mut decoder, &mut Vec::new());
    let before = resident();
    for _ in 0..200 {
        decoder.push(Codec::H264, &piece, ChunkTimes::default());
        assert!(decoder.next().is_none());
    }
    let told = decoder.take_damage().unwrap();
    assert!(told.contains("32 MiB"), "{told}");
    assert!(
        resident() - before < 100.0,
        "{} MiB more",
        resident() - before
    );
    // And it goes on with what is good.
    let mut out = Vec::new();
    for stream in [h264(), h264()] {
        decoder.push(Codec::H264, &stream.bytes, ChunkTimes::default());
        drain(&mut decoder, &mut out);
    }
    assert!(out.len() >= FRAMES, "{}", out.len());
}

/// What may happen to a stream on its way.
#[derive(Clone, Debug)]
enum Mishap {
    Flip { at: usize, mask: u8 },
    Cut { at: usize, len: usize },
    Repeat { at: usize, len: usize },
    Insert { at: usize, bytes: Vec<u8> },
    WrongCodec { from: usize },
    Lost { piece: usize },
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let byte = prop_oneof![Just(0_u8), Just(1), any::<u8>()];
    prop_oneof![
        4 => (any::<usize>(), 1_u8..).prop_map(|(at, mask)| Mishap::Flip { at, mask }),
        2 => (any::<usize>(), 1_usize..400).prop_map(|(at, len)| Mishap::Cut { at, len }),
        1 => (any::<usize>(), 1_usize..400).prop_map(|(at, len)| Mishap::Repeat { at, len }),
        2 => (any::<usize>(), prop::collection::vec(byte, 1..200))
            .prop_map(|(at, bytes)| Mishap::Insert { at, bytes }),
        1 => any::<usize>().prop_map(|from| Mishap::WrongCodec { from }),
        1 => any::<usize>().prop_map(|piece| Mishap::Lost { piece }),
    ]
}

fn start_codes(bytes: &[u8]) -> usize {
    bytes.windows(3).filter(|at| *at == [0, 0, 1]).count()
}

fn cases() -> u32 {
    let text = std::env::var("PROPTEST_CASES").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whatever_happens_to_a_stream_it_is_survived(
        is_hevc: bool, size in 1_usize..900, mishaps in prop::collection::vec(mishap(), 0..8),
    ) {
        let stream = if is_hevc { hevc() } else { h264() };
        let mut bytes = stream.bytes.clone();
        let (mut wrong_from, mut lost) = (usize::MAX, None);
        for mishap in &mishaps {
            let len = bytes.len();
            match mishap {
                Mishap::Flip { at, mask } => bytes[at % len] ^= mask,
                Mishap::Cut { at, len: cut } => {
                    let at = at % len;
                    bytes.drain(at..(at + cut).min(len - 1).max(at));
                }
                Mishap::Repeat { at, len: run } => {
                    let at = at % len;
                    let again = bytes[at..(at + run).min(len)].to_vec();
                    bytes.splice(at..at, again);
                }
                Mishap::Insert { at, bytes: new } => {
                    let at = at % len;
                    bytes.splice(at..at, new.iter().copied());
                }
                Mishap::WrongCodec { from } => wrong_from = from % len,
                Mishap::Lost { piece } => lost = Some(piece % len.div_ceil(size)),
            }
        }
        let mut decoder = decoder(1);
        let mut frames = Vec::new();
        for (number, piece) in bytes.chunks(size).enumerate() {
            if lost == Some(number) {
                decoder.lost("a chunk");
                continue;
            }
            let wrong = number * size >= wrong_from;
            let codec = if wrong == is_hevc { Codec::H264 } else { Codec::Hevc };
            decoder.push(codec, piece, ChunkTimes { pts_ns: number as i64, capture_ns: 0 });
            drain(&mut decoder, &mut frames);
        }
        decoder.end();
        drain(&mut decoder, &mut frames);
        prop_assert!(decoder.next().is_none());
        // What is repeated may hold pictures, and noise may make a few more, never many.
        let repeated = start_codes(&bytes).saturating_sub(start_codes(&stream.bytes));
        prop_assert!(frames.len() <= FRAMES + 16 + repeated, "{} frames", frames.len());
        if mishaps.is_empty() {
            prop_assert_eq!(frames.len(), FRAMES);
        }
    }
}
