//! Calls a function at a time set from another thread: the event loop sleeps longer than a batch may
//! wait.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

#[derive(Debug, Default)]
struct Shared {
    set: Mutex<Setting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Setting {
    at: Option<Instant>,
    over: bool,
}

/// Rings once per setting.
#[derive(Debug)]
pub struct Alarm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    /// An alarm that is not set. `ring` is called on a thread of its own.
    #[must_use]
    pub fn new(ring: impl Fn() + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut set = seen.set.lock().unwrap_or_else(PoisonError::into_inner);
            while !set.over {
                let now = Instant::now();
                set = match set.at {
                    Some(at) if at <= now => {
                        set.at = None;
                        drop(set);
                        ring();
                        seen.set.lock().unwrap_or_else(PoisonError::into_inner)
                    }
                    Some(at) => {
                        let waited = seen.changed.wait_timeout(set, at - now);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => seen
                        .changed
                        .wait(set)
                        .unwrap_or_else(PoisonError::into_inner),
                };
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Rings at this time, and no longer at the one set before.
    pub fn set(&self, at: Option<Instant>) {
        let mut set = self
            .shared
            .set
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if set.at != at {
            set.at = at;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut set = self
            .shared
            .set
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        set.over = true;
        drop(set);
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn it_rings_once_for_the_last_setting() {
        let (ring, rung) = mpsc::channel();
        let alarm = Alarm::new(move || ring.send(()).unwrap());
        let start = Instant::now();
        alarm.set(Some(start + Duration::from_secs(3600)));
        alarm.set(Some(start + Duration::from_millis(20)));
        rung.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
        alarm.set(None);
        drop(alarm);
        assert!(rung.try_recv().is_err());
    }
}
