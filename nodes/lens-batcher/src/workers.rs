//! Threads that enhance pictures and make calls, so that waiting for a service holds nothing up.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::backend::{Backend, Service, Shot};
use crate::call_error::CallError;
use crate::enhance::{Chain, ChainPlan};
use crate::error::LensError;
use crate::question::{Call, CallResult};

/// A call that is over.
pub type Ended = (u64, CallResult);

/// The threads. They end when this is dropped, each after the call at hand.
#[derive(Debug)]
pub struct Workers {
    calls: Option<Sender<Call>>,
    ended: Receiver<Ended>,
}

impl Workers {
    /// Starts threads, each with a connection to the service and an enhancement chain of its own.
    /// `wake` is called after every call.
    ///
    /// # Errors
    /// Where a connection or a chain cannot be made.
    pub fn start(
        count: usize,
        service: &Service,
        plan: &ChainPlan,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, LensError> {
        let count = count.max(1);
        let (calls, waiting) = channel::<Call>();
        let waiting = Arc::new(Mutex::new(waiting));
        let (done, ended) = channel();
        let (ready, started) = channel();
        for _ in 0..count {
            let (service, plan) = (service.clone(), plan.clone());
            let (waiting, done, ready) = (waiting.clone(), done.clone(), ready.clone());
            let wake = wake.clone();
            std::thread::spawn(move || {
                // A plug-in stays on the thread that made it, hence here.
                let made = service
                    .open()
                    .and_then(|backend| Ok((backend, plan.chain()?)));
                let (mut backend, mut chain) = match made {
                    Ok(made) => made,
                    Err(error) => {
                        let _starter_gone = ready.send(Err(error));
                        return;
                    }
                };
                let _starter_gone = ready.send(Ok(()));
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    let Ok(call) = next else { return };
                    let result = make(&mut *backend, &mut chain, &call);
                    if done.send((call.id, result)).is_err() {
                        return;
                    }
                    wake();
                }
            });
        }
        // One word from each: their senders live as long as they do.
        started
            .iter()
            .take(count)
            .collect::<Result<(), LensError>>()?;
        Ok(Self {
            calls: Some(calls),
            ended,
        })
    }

    /// Makes a call as soon as a thread is free.
    pub fn make(&self, call: Call) {
        if let Some(calls) = &self.calls {
            let _all_threads_gone = calls.send(call);
        }
    }

    /// A call that is over, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<Ended> {
        self.ended.try_recv().ok()
    }

    /// A call that is over, within this time.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<Ended> {
        self.ended.recv_timeout(limit).ok()
    }
}

fn make(backend: &mut dyn Backend, chain: &mut Chain, call: &Call) -> CallResult {
    let shots = call.questions.iter().map(|question| Shot {
        track: question.object.track,
        view: question.view.clone(),
    });
    let mut shots: Vec<Shot> = shots.collect();
    if backend.wants_enhanced() {
        chain.enhance(&mut shots);
    }
    // What one call breaks shall not take the thread with it.
    let asked = std::panic::AssertUnwindSafe(|| backend.identify(&shots));
    std::panic::catch_unwind(asked).unwrap_or_else(|_| {
        Err(CallError::Own {
            reason: "the backend panicked on this call (a bug, please report it)".into(),
        })
    })
}
