//! Streams in chunks through their threads, whatever the order of things: every chunk is finished
//! with once, every epoch is opened and closed once, frames are numbered without gaps, and epochs of
//! a stream do not mix.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use tracklens_decoder::{Chunk, ChunkStreams, Step};
use tracklens_schemas::{ChunkInfo, Codec, Epoch, FrameId, FrameIndex, Header, StreamId};
use tracklens_video::{ChunkOptions, ChunkTimes};

/// A short H.264 stream.
fn video() -> &'static [u8] {
    static VIDEO: OnceLock<Vec<u8>> = OnceLock::new();
    VIDEO.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.h264");
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-f", "lavfi"])
            .args(["-i", "testsrc2=size=48x32:rate=25", "-frames:v", "10"])
            .args([
                "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "5", "-f", "h264",
            ])
            .arg(&path)
            .status()
            .expect("the ffmpeg command is installed");
        assert!(status.success());
        std::fs::read(path).unwrap()
    })
}

fn chunk_header(stream: &StreamId, epoch: u32, number: u64) -> Header {
    Header {
        id: FrameId {
            stream: stream.clone(),
            epoch: Epoch(epoch),
            frame: FrameIndex(number),
        },
        pts_ns: number as i64 * 1_000_000,
        capture_ns: 0,
    }
}

/// What has been seen.
#[derive(Default)]
struct Seen {
    opened: BTreeSet<(StreamId, Epoch)>,
    closed: BTreeMap<(StreamId, Epoch), u64>,
    frames: BTreeMap<(StreamId, Epoch), u64>,
    damage: usize,
    done: BTreeSet<FrameId>,
    unacknowledged: VecDeque<FrameId>,
}

impl Seen {
    fn take(&mut self, step: Step) {
        let key = |header: &Header| (header.id.stream.clone(), header.id.epoch);
        match step {
            Step::Opened(header, _) => {
                let (stream, epoch) = key(&header);
                let later = self.frames.keys().any(|(s, e)| *s == stream && *e > epoch);
                assert!(!later, "epoch {epoch:?} after a later one");
                assert!(!self.closed.contains_key(&key(&header)));
                self.opened.insert(key(&header));
            }
            Step::Frame(header, _) => {
                assert!(self.opened.contains(&key(&header)));
                assert!(!self.closed.contains_key(&key(&header)));
                let count = self.frames.entry(key(&header)).or_default();
                assert_eq!(header.id.frame.0, *count);
                *count += 1;
                self.unacknowledged.push_back(header.id);
            }
            Step::Damaged(..) => self.damage += 1,
            Step::Closed(header, _) => {
                let frames = self.frames.get(&key(&header)).copied().unwrap_or_default();
                assert_eq!(header.id.frame.0, frames);
                assert!(self.closed.insert(key(&header), frames).is_none());
            }
            Step::Done(header) => assert!(self.done.insert(header.id), "done twice"),
        }
    }
}

struct Run {
    streams: ChunkStreams,
    woken: mpsc::Receiver<()>,
    seen: Seen,
}

impl Run {
    fn new() -> Self {
        let (wake, woken) = mpsc::channel();
        let wake = std::sync::Mutex::new(wake);
        let streams = ChunkStreams::new(ChunkOptions::default(), 3, move || {
            let _over = wake.lock().unwrap().send(());
        });
        Self {
            streams,
            woken,
            seen: Seen::default(),
        }
    }

    fn push(
        &mut self,
        stream: &StreamId,
        epoch: u32,
        number: u64,
        bytes: &[u8],
        seq: u64,
        end: bool,
    ) {
        let header = chunk_header(stream, epoch, number);
        let chunk = Chunk {
            info: ChunkInfo {
                codec: Codec::H264,
                seq,
                end_of_stream: end,
            },
            times: ChunkTimes::default(),
            bytes: bytes.to_vec(),
        };
        self.streams.push(&header, chunk);
    }

    fn turn(&mut self, acknowledge: bool) {
        while let Some(step) = self.streams.next(|_| true) {
            self.seen.take(step);
        }
        if acknowledge {
            while let Some(frame) = self.seen.unacknowledged.pop_front() {
                self.streams.acknowledged(&frame);
            }
        }
    }

    /// Works until everything is closed and every chunk is done.
    fn finish(&mut self, chunks: usize) {
        loop {
            self.turn(true);
            if self.streams.is_empty() && self.seen.done.len() == chunks {
                return;
            }
            let woken = self.woken.recv_timeout(Duration::from_secs(20));
            let done = self.seen.done.len();
            assert!(
                woken.is_ok() || !self.streams.is_empty(),
                "{done} of {chunks} chunks done"
            );
        }
    }
}

#[test]
fn a_stream_comes_out_whole_and_is_acknowledged_with_its_frames() {
    let stream: StreamId = "cam".parse().unwrap();
    let mut run = Run::new();
    run.streams.open(&stream, Epoch(4));
    for (number, piece) in video().chunks(100).enumerate() {
        run.push(&stream, 4, number as u64, piece, number as u64, false);
    }
    run.streams.close(&stream, Epoch(4));
    run.finish(video().chunks(100).len());
    assert_eq!(
        run.seen.closed[&(stream, Epoch(7))],
        10,
        "three restarts are in the epoch"
    );
    assert_eq!(run.seen.damage, 0);
}

#[test]
fn a_gap_is_told_once() {
    let stream: StreamId = "cam".parse().unwrap();
    let mut run = Run::new();
    run.streams.open(&stream, Epoch(0));
    let pieces: Vec<&[u8]> = video().chunks(200).collect();
    for (number, piece) in pieces.iter().enumerate() {
        // The source counts two that never came.
        let seq = number + if number > 3 { 2 } else { 0 };
        run.push(
            &stream,
            0,
            number as u64,
            piece,
            seq as u64,
            number + 1 == pieces.len(),
        );
    }
    run.finish(pieces.len());
    assert_eq!(run.seen.damage, 1);
}

/// What a sender may do.
#[derive(Clone, Debug)]
enum Act {
    Push {
        stream: usize,
        size: usize,
        end: bool,
    },
    Reopen {
        stream: usize,
    },
    Close {
        stream: usize,
    },
    Turn {
        acknowledge: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0_usize..3, 1_usize..600, prop::bool::weighted(0.03))
            .prop_map(|(stream, size, end)| Act::Push { stream, size, end }),
        1 => (0_usize..3).prop_map(|stream| Act::Reopen { stream }),
        1 => (0_usize..3).prop_map(|stream| Act::Close { stream }),
        4 => any::<bool>().prop_map(|acknowledge| Act::Turn { acknowledge }),
    ]
}

fn cases() -> u32 {
    let text = std::env::var("PROPTEST_CASES").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn every_chunk_is_done_once_and_every_epoch_closed_once(acts in prop::collection::vec(act(), 0..80)) {
        let ids: Vec<StreamId> = ["a", "b", "c"].iter().map(|id| id.parse().unwrap()).collect();
        let mut run = Run::new();
        // Epoch, next chunk, position in the video, open.
        let mut senders = vec![(0_u32, 0_u64, 0_usize, true); ids.len()];
        let mut chunks = 0;
        let mut epochs = ids.len();
        for id in &ids {
            run.streams.open(id, Epoch(0));
        }
        for act in acts {
            match act {
                Act::Push { stream, size, end } => {
                    let (epoch, number, at, open) = &mut senders[stream];
                    if !*open {
                        continue;
                    }
                    let video = video();
                    let to = (*at + size).min(video.len());
                    let piece = &video[*at..to];
                    let (epoch, chunk) = (*epoch, *number);
                    *number += 1;
                    *at = if to == video.len() { 0 } else { to };
                    run.push(&ids[stream], epoch, chunk, piece, chunk, end);
                    // A repeated `opened` changes nothing, even after the end.
                    run.streams.open(&ids[stream], Epoch(epoch));
                    chunks += 1;
                }
                Act::Reopen { stream } => {
                    let (epoch, number, at, open) = &mut senders[stream];
                    (*number, *at, *open) = (0, 0, true);
                    *epoch += 1;
                    epochs += 1;
                    run.streams.open(&ids[stream], Epoch(*epoch));
                }
                Act::Close { stream } => {
                    let (epoch, _, _, open) = &mut senders[stream];
                    if std::mem::take(open) {
                        run.streams.close(&ids[stream], Epoch(*epoch));
                    }
                }
                Act::Turn { acknowledge } => run.turn(acknowledge),
            }
        }
        for (id, (epoch, _, _, open)) in ids.iter().zip(&senders) {
            if *open {
                run.streams.close(id, Epoch(*epoch));
            }
        }
        run.finish(chunks);
        prop_assert_eq!(run.seen.closed.len(), epochs);
    }
}
