//! Reading a recording ahead, at the pace that is asked for.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracklens_node::Waker;
use tracklens_recording::{End, ReadError, Reader};

use crate::{Options, Script, Step};

/// Steps that are read ahead: a few frames in memory at a time.
const AHEAD: usize = 4;

/// What comes out of the thread that reads.
#[derive(Debug)]
pub enum Played {
    /// Something to be done now.
    Step(Step),
    /// A round is over; `reason`: the recording was cut off or is damaged.
    Round {
        /// Messages of this node that were played.
        count: u64,
        /// Why the recording ends here, if not as it should.
        reason: Option<String>,
    },
    /// Nothing more will come.
    End,
}

/// A recording that is being played.
#[derive(Debug)]
pub struct Playback(Receiver<Played>);

impl Playback {
    /// Begins to play; `wake` is told whenever there is something to be done.
    #[must_use]
    pub fn start(reader: Reader<File>, options: Options, script: Script, wake: Waker) -> Self {
        let (steps, played) = sync_channel(AHEAD);
        let player = Player {
            options,
            script,
            steps,
            wake,
        };
        // A thread that cannot be made ends the channel, and with it the playback.
        let _thread = thread::Builder::new()
            .name("playback".into())
            .spawn(move || player.play(reader));
        Self(played)
    }

    /// What is to be done now, if anything.
    pub fn next(&self) -> Option<Played> {
        match self.0.try_recv() {
            Ok(played) => Some(played),
            Err(std::sync::mpsc::TryRecvError::Empty) => None,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Some(Played::End),
        }
    }
}

/// Nobody listens any more.
struct Unheard;

struct Player {
    options: Options,
    script: Script,
    steps: SyncSender<Played>,
    wake: Waker,
}

impl Player {
    fn play(mut self, first: Reader<File>) {
        let mut reader = Ok(first);
        loop {
            let (count, reason) = match reader {
                Ok(reader) => match self.round(reader) {
                    Ok(over) => over,
                    Err(Unheard) => return,
                },
                Err(ReadError { .. }) => return,
            };
            let over = Played::Round { count, reason };
            if self.say(over).is_err() || !self.options.repeat || count == 0 {
                return;
            }
            reader = Reader::open(&self.options.file);
        }
    }

    /// Plays the recording once: how many messages, and why no more if there should be.
    fn round(&mut self, mut reader: Reader<File>) -> Result<(u64, Option<String>), Unheard> {
        let start = Instant::now();
        let mut count = 0;
        let fault = loop {
            let record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            };
            if !self.script.is_ours(&record) {
                continue;
            }
            let steps = match self.script.steps(&record) {
                Ok(steps) => steps,
                Err(fault) => break Some(fault),
            };
            count += 1;
            if !steps.is_empty() {
                self.wait(start, record.offset);
            }
            for step in steps {
                self.say(Played::Step(step))?;
            }
        };
        for step in self.script.end() {
            self.say(Played::Step(step))?;
        }
        let fault = fault.map(|fault| fault.to_string());
        Ok((count, fault.or_else(|| reader.end().and_then(End::fault))))
    }

    fn wait(&self, start: Instant, offset: Duration) {
        let due = offset.saturating_sub(self.options.from).as_secs_f64() / self.options.speed;
        // Speed 0 is due in no time at all.
        if due.is_finite() && self.options.speed > 0.0 {
            let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }

    fn say(&self, played: Played) -> Result<(), Unheard> {
        let said = self.steps.send(played).map_err(|_| Unheard);
        self.wake.wake();
        said
    }
}
