//! Scheduler and workers in real time, as the node runs them, without a dataflow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracklens_lens_batcher::Picture;
use tracklens_lens_batcher::backend::Service;
use tracklens_lens_batcher::candidate::{Object, View};
use tracklens_lens_batcher::circuit_breaker::Rules;
use tracklens_lens_batcher::enhance::ChainPlan;
use tracklens_lens_batcher::perceptual_hash::PerceptualHash;
use tracklens_lens_batcher::question::{Answered, Question};
use tracklens_lens_batcher::retry::RetryRules;
use tracklens_lens_batcher::scheduler::{Options, Scheduler};
use tracklens_lens_batcher::workers::Workers;
use tracklens_schemas::{BBox, Epoch, FrameId, FrameIndex, Header, TrackId};

pub(crate) struct Desk {
    pub(crate) scheduler: Scheduler,
    workers: Workers,
    start: Instant,
}

pub(crate) fn options() -> Options {
    Options {
        batch_size: 10,
        batch_wait: Duration::from_millis(100),
        queue: 1000,
        calls_at_once: 4,
        rate_limit: Some(10),
        restarted: false,
        retry: RetryRules {
            attempts: 2,
            delay: Duration::from_millis(50),
        },
        breaker: Rules {
            failures: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(1),
        },
        dedup: true,
        cache_size: 1000,
        radius: 3,
        seed: 5,
    }
}

pub(crate) fn question(number: u32, hash: Option<PerceptualHash>, picture: &Picture) -> Question {
    let stream: tracklens_schemas::StreamId = "cam".parse().unwrap();
    Question {
        object: Object {
            stream: stream.clone(),
            track: TrackId(number),
        },
        header: Header {
            id: FrameId {
                stream,
                epoch: Epoch(0),
                frame: FrameIndex(number.into()),
            },
            pts_ns: 0,
            capture_ns: 0,
        },
        view: Arc::new(View {
            frame: 0,
            picture: picture.clone(),
            bbox: BBox::default(),
            sharpness: 0.0,
            quality: 0.0,
        }),
        hash,
    }
}

impl Desk {
    pub(crate) fn new(options: Options, service: &Service) -> Self {
        let calls_at_once = options.calls_at_once;
        Self {
            scheduler: Scheduler::new(options, Duration::ZERO),
            workers: Workers::start(calls_at_once, service, &ChainPlan::default(), || {}).unwrap(),
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn ask(&mut self, question: Question) {
        let now = self.now();
        self.scheduler.ask(question, now);
    }

    /// Works until this time after the start.
    pub(crate) fn work_until(&mut self, until: Duration) -> Vec<Answered> {
        let mut answered = Vec::new();
        loop {
            while let Some(call) = self.scheduler.poll(self.now(), false) {
                self.workers.make(call);
            }
            answered.extend(self.scheduler.take_answered());
            let now = self.now();
            if now >= until {
                return answered;
            }
            let wakes = self.scheduler.wakes_at(now).unwrap_or(until).min(until);
            let wait = wakes.saturating_sub(now).max(Duration::from_micros(200));
            if let Some((call, result)) = self.workers.wait(wait) {
                let now = self.now();
                self.scheduler.ended(call, result, now);
            }
        }
    }

    /// Works until everything is answered; panics where that takes a minute.
    pub(crate) fn work_off(&mut self) -> Vec<Answered> {
        let mut answered = Vec::new();
        let limit = self.now() + Duration::from_secs(60);
        while !self.scheduler.is_idle() {
            assert!(self.now() < limit, "hangs: {:?}", self.scheduler.counts());
            let step = self.now() + Duration::from_millis(20);
            answered.extend(self.work_until(step));
        }
        answered.extend(self.scheduler.take_answered());
        answered
    }
}
