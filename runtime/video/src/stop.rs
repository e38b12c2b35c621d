//! Ends a blocking read from outside: on request, or when nothing has come for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Stops a [`crate::Reader`] from another thread, also in the middle of a blocking read. Clones
/// share the request.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Makes the reader return [`crate::VideoError::Stopped`] soon.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What FFmpeg asks, many times a second, while it waits for bytes.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    stop: StopHandle,
    start: Instant,
    /// Milliseconds after `start`; `u64::MAX` is never.
    deadline: Arc<AtomicU64>,
}

impl Watch {
    pub(crate) fn new(stop: StopHandle) -> Self {
        Self {
            stop,
            start: Instant::now(),
            deadline: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// Starts the time-out anew.
    pub(crate) fn arm(&self, timeout: Option<Duration>) {
        let at = timeout.map_or(u64::MAX, |timeout| {
            u64::try_from((self.start.elapsed() + timeout).as_millis()).unwrap_or(u64::MAX)
        });
        self.deadline.store(at, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    pub(crate) fn is_late(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        deadline != u64::MAX && self.start.elapsed().as_millis() > u128::from(deadline)
    }

    pub(crate) fn interrupts(&self) -> bool {
        self.is_stopped() || self.is_late()
    }
}
