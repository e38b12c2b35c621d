//! One source's thread: decodes a few frames ahead of the consumer, and waits when it is ahead.

use std::num::NonZero;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracklens_node::Backoff;
use tracklens_schemas::wall_clock_ns;
use tracklens_video::{
    Damage, Hwaccel, Picture, Reader, ReaderOptions, StopHandle, VideoError, VideoInfo, is_file,
    redact,
};

/// Frames decoded ahead of the consumer that are given to it one by one.
const AHEAD: usize = 2;
/// Frames of a single file that are given together, if they do not take more memory than this.
const TOGETHER: usize = 8;
const TOGETHER_BYTES: usize = 16 << 20;
/// As many threads as FFmpeg takes by itself at most.
const MOST_THREADS: usize = 16;
/// The first pause before a network source is opened again, and the longest.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);
const RECONNECT_CAP: Duration = Duration::from_secs(15);
/// The longest a sleeping thread takes to notice a stop.
const NAP: Duration = Duration::from_millis(20);
/// Time between the last frame of a round and the first of the next, where nothing better is known.
const USUAL_PERIOD_NS: i64 = 40_000_000;

/// How a source is played.
#[derive(Clone, Debug)]
pub struct Playback {
    /// Files play in real time, by their timestamps; otherwise as fast as frames are taken.
    pub live: bool,
    /// How often a file is played; 0 is for ever.
    pub rounds: u64,
    /// Threads of the codec; 0 lets FFmpeg choose.
    pub threads: usize,
    /// Frames of a file are given in groups as they are acknowledged, which wakes nobody for each
    /// of them: what the nodes behind do for several at once takes less time than for one by one.
    pub in_groups: bool,
    /// How long a network source may say nothing.
    pub timeout: Duration,
    /// A network source that ends or breaks off is opened again.
    pub reconnect: bool,
    /// Decoding on a device.
    pub hwaccel: Hwaccel,
}

/// Threads of the codec for so many sources that are decoded as fast as they can be: 0, FFmpeg's own
/// choice of one more than there are cores, but twice as many for a single source. Pictures that are
/// decoded side by side wait for rows of those before them, and leave cores idle that others can fill.
#[must_use]
pub fn threads_for(sources: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    match (sources, cores) {
        (1, 2..) => MOST_THREADS.min(2 * (cores + 1)),
        _ => 0,
    }
}

/// What comes out of a source, in order.
#[derive(Debug)]
pub enum StreamItem {
    /// The source can be read; after [`StreamItem::Lost`]: again, and times begin at 0.
    Opened(VideoInfo),
    /// A frame.
    Frame {
        /// Its pixels.
        picture: Picture,
        /// Presentation time in nanoseconds; times grow across rounds.
        pts_ns: i64,
        /// Wall clock, nanoseconds since 1970: when its bytes came in, or when it was due, where a
        /// file plays in real time.
        capture_ns: i64,
    },
    /// A network source is gone, and is being opened again from time to time. Said once.
    Lost {
        /// What ended it, if not its end.
        error: Option<VideoError>,
        /// What was damaged on the way.
        damage: Damage,
    },
    /// The last item.
    Ended {
        /// What ended it, if not its end.
        error: Option<VideoError>,
        /// What was damaged on the way.
        damage: Damage,
    },
}

/// A source being decoded on a thread of its own. Dropping it stops the thread.
#[derive(Debug)]
pub struct StreamWorker {
    groups: Option<Receiver<Vec<StreamItem>>>,
    /// The rest of the last group.
    items: std::vec::IntoIter<StreamItem>,
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
    url: String,
    ended: bool,
}

impl StreamWorker {
    /// Starts to open and decode `url`. `wake` is called after each item, or each group of them.
    #[must_use]
    pub fn start(url: &str, playback: Playback, wake: impl Fn() + Send + 'static) -> Self {
        let in_groups = playback.in_groups && !playback.live && is_file(url);
        let (sender, groups) = mpsc::sync_channel(if in_groups { 1 } else { AHEAD });
        let stop = StopHandle::default();
        let player = Player {
            url: url.to_string(),
            playback,
            stop: stop.clone(),
            sender,
            wake,
            clock: Clock::default(),
            in_groups,
            group: Vec::new(),
            frames: 0,
        };
        let thread = std::thread::Builder::new()
            .name("decode".into())
            .spawn(move || player.run());
        Self {
            groups: Some(groups),
            items: Vec::new().into_iter(),
            stop,
            // Without a thread the channel is closed, which reads as an end with an error.
            thread: thread.ok(),
            url: redact(url),
            ended: false,
        }
    }

    /// The next item, if there is one yet.
    pub fn try_next(&mut self) -> Option<StreamItem> {
        if self.ended {
            return None;
        }
        let item = match self.items.next() {
            Some(item) => item,
            None => match self.groups.as_ref().map(Receiver::try_recv) {
                Some(Ok(group)) => {
                    self.items = group.into_iter();
                    return self.try_next();
                }
                Some(Err(TryRecvError::Empty)) => return None,
                Some(Err(TryRecvError::Disconnected)) | None => StreamItem::Ended {
                    error: Some(VideoError::Broken {
                        url: self.url.clone(),
                        reason: "the decoding thread ended unexpectedly".into(),
                    }),
                    damage: Damage::default(),
                },
            },
        };
        self.ended = matches!(item, StreamItem::Ended { .. });
        Some(item)
    }

    /// Asks the thread to end, without waiting for it.
    pub fn stop(&mut self) {
        self.stop.stop();
        self.groups = None;
        self.items = Vec::new().into_iter();
    }
}

impl Drop for StreamWorker {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already been reported by `try_next`.
            let _ended = thread.join();
        }
    }
}

/// Times across rounds, and the wall clock beside them.
#[derive(Debug, Default)]
struct Clock {
    /// Added to the times of this round.
    offset_ns: i64,
    last_ns: Option<i64>,
    step_ns: i64,
    started: Option<(Instant, i64)>,
}

impl Clock {
    fn next_round(&mut self) {
        if let Some(last) = self.last_ns {
            let step = if self.step_ns > 0 {
                self.step_ns
            } else {
                USUAL_PERIOD_NS
            };
            self.offset_ns = last.saturating_add(step);
        }
    }

    fn stamp(&mut self, pts_ns: i64) -> i64 {
        let time = pts_ns.saturating_add(self.offset_ns);
        if let Some(last) = self.last_ns {
            self.step_ns = time.saturating_sub(last);
        }
        self.last_ns = Some(time);
        time
    }

    /// How long a frame is ahead of its time.
    fn early(&mut self, time_ns: i64) -> Duration {
        let (start, first) = *self.started.get_or_insert((Instant::now(), time_ns));
        let due = Duration::from_nanos(u64::try_from(time_ns.saturating_sub(first)).unwrap_or(0));
        due.saturating_sub(start.elapsed())
    }
}

/// The consumer is gone or has asked to stop.
struct Gone;

struct Player<W> {
    url: String,
    playback: Playback,
    stop: StopHandle,
    sender: SyncSender<Vec<StreamItem>>,
    wake: W,
    clock: Clock,
    in_groups: bool,
    /// What is given together soon.
    group: Vec<StreamItem>,
    /// Frames so far.
    frames: usize,
}

impl<W: Fn()> Player<W> {
    fn run(mut self) {
        let ended = if self.playback.reconnect && !is_file(&self.url) {
            self.play_on()
        } else {
            self.play_once()
        };
        if let Ok((error, damage)) = ended {
            let _consumer_may_be_gone = self.send(StreamItem::Ended { error, damage });
        }
    }

    fn play_once(&mut self) -> Result<(Option<VideoError>, Damage), Gone> {
        let mut damage = Damage::default();
        let played = self.play_all(&mut damage)?;
        Ok((played.err(), damage))
    }

    /// Plays a network source again and again, with longer and longer pauses while it gives nothing.
    fn play_on(&mut self) -> Result<(Option<VideoError>, Damage), Gone> {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_CAP);
        let mut told = false;
        loop {
            let (error, damage) = self.play_once()?;
            if self.stop.is_stopped() {
                return Err(Gone);
            }
            if error.as_ref().is_some_and(is_final) {
                return Ok((error, damage));
            }
            if self.clock.last_ns.is_some() {
                backoff.reset();
                told = false;
            }
            self.clock = Clock::default();
            let pause = backoff.next(fastrand::f64());
            if told {
                tracing::debug!(url = redact(&self.url), ?pause, ?error, "still not there");
            } else {
                told = true;
                self.send(StreamItem::Lost { error, damage })?;
            }
            self.nap(pause)?;
        }
    }

    fn nap(&self, pause: Duration) -> Result<(), Gone> {
        let start = Instant::now();
        while start.elapsed() < pause {
            if self.stop.is_stopped() {
                return Err(Gone);
            }
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    fn play_all(&mut self, damage: &mut Damage) -> Result<Result<(), VideoError>, Gone> {
        let file = is_file(&self.url);
        let rounds = match self.playback.rounds {
            _ if !file => 1,
            0 => u64::MAX,
            rounds => rounds,
        };
        let mut reader = match self.open(file) {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        self.send(StreamItem::Opened(reader.info().clone()))?;
        for round in 0..rounds {
            if round > 0 {
                if !reader.rewind() {
                    reader = match self.open(file) {
                        Ok(reader) => reader,
                        Err(error) => return Ok(Err(error)),
                    };
                }
                self.clock.next_round();
            }
            let played = self.play(&mut reader, self.playback.live && file)?;
            add(damage, reader.damage());
            match played {
                Err(error) => return Ok(Err(error)),
                Ok(0) => return Ok(Ok(())),
                Ok(_) => {}
            }
        }
        Ok(Ok(()))
    }

    fn open(&self, file: bool) -> Result<Reader, VideoError> {
        let options = ReaderOptions {
            threads: self.playback.threads,
            timeout: self.playback.timeout,
            hwaccel: self.playback.hwaccel.clone(),
            low_delay: self.playback.live && !file,
            stop: self.stop.clone(),
        };
        Reader::open(&self.url, options)
    }

    fn play(
        &mut self,
        reader: &mut Reader,
        real_time: bool,
    ) -> Result<Result<u64, VideoError>, Gone> {
        let mut frames = 0;
        loop {
            let picture = match reader.next() {
                Ok(Some(picture)) => picture,
                Ok(None) => return Ok(Ok(frames)),
                Err(error) => return Ok(Err(error)),
            };
            frames += 1;
            let pts_ns = self.clock.stamp(picture.pts_ns());
            let capture_ns = if real_time {
                self.wait_for(pts_ns)?;
                wall_clock_ns()
            } else {
                picture.capture_ns()
            };
            self.send(StreamItem::Frame {
                picture,
                pts_ns,
                capture_ns,
            })?;
        }
    }

    /// How many frames are given together: as many as there were before, so that nobody waits long for
    /// the first ones.
    fn together(&self, item: &StreamItem) -> usize {
        match item {
            StreamItem::Frame { picture, .. } if self.in_groups => {
                let bytes = picture.info().byte_len().max(1);
                let before = self.frames - self.group.len();
                TOGETHER.min(TOGETHER_BYTES / bytes).min(before)
            }
            _ => 1,
        }
    }

    /// Sleeps until the frame of this time is due.
    fn wait_for(&mut self, time_ns: i64) -> Result<(), Gone> {
        loop {
            if self.stop.is_stopped() {
                return Err(Gone);
            }
            match self.clock.early(time_ns) {
                Duration::ZERO => return Ok(()),
                early => std::thread::sleep(early.min(NAP)),
            }
        }
    }

    /// Waits while the consumer is behind.
    fn send(&mut self, item: StreamItem) -> Result<(), Gone> {
        let is_frame = matches!(item, StreamItem::Frame { .. });
        let together = self.together(&item);
        self.group.push(item);
        if is_frame {
            self.frames += 1;
            if self.group.len() < together {
                return Ok(());
            }
        }
        let group = std::mem::take(&mut self.group);
        self.sender.send(group).map_err(|_| Gone)?;
        (self.wake)();
        if self.stop.is_stopped() {
            Err(Gone)
        } else {
            Ok(())
        }
    }
}

/// Whether opening the source again cannot help.
fn is_final(error: &VideoError) -> bool {
    matches!(
        error,
        VideoError::Address { .. } | VideoError::NoDecoder { .. } | VideoError::Start { .. }
    )
}

fn add(total: &mut Damage, round: &Damage) {
    total.packets += round.packets;
    total.frames += round.frames;
    if total.first.is_none() {
        total.first.clone_from(&round.first);
    }
    if total.ended_early.is_none() {
        total.ended_early.clone_from(&round.ended_early);
    }
}
