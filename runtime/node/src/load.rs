//! How the consumers of a node's gated output keep up with it.

use std::time::{Duration, Instant};

/// Counts since the node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages queued.
    pub offered: u64,
    /// Of those, messages dropped for newer ones ([`crate::Policy::Newest`]).
    pub dropped: u64,
    /// Time during which a message was on its way to a consumer or being worked on by one.
    pub busy: Duration,
}

impl Load {
    /// What has come since an earlier look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            offered: self.offered.saturating_sub(earlier.offered),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            busy: self.busy.saturating_sub(earlier.busy),
        }
    }
}

/// Keeps a [`Load`].
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    load: Load,
    busy_since: Option<Instant>,
}

impl LoadMeter {
    pub(crate) fn offered(&mut self) {
        self.load.offered += 1;
    }

    pub(crate) fn dropped(&mut self) {
        self.load.dropped += 1;
    }

    /// Whether anything is on its way from now on.
    pub(crate) fn observe(&mut self, now: Instant, on_its_way: bool) {
        self.load.busy = self.at(now).busy;
        self.busy_since = on_its_way.then_some(now);
    }

    pub(crate) fn at(&self, now: Instant) -> Load {
        let since = self.busy_since.map(|since| now.duration_since(since));
        Load {
            busy: self.load.busy + since.unwrap_or_default(),
            ..self.load
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_while_something_is_on_its_way() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = LoadMeter::default();
        meter.observe(at(0), false);
        meter.observe(at(100), true);
        meter.observe(at(130), true);
        assert_eq!(meter.at(at(150)).busy, Duration::from_millis(50));
        meter.observe(at(160), false);
        meter.offered();
        meter.offered();
        meter.dropped();
        let load = meter.at(at(900));
        assert_eq!(load.busy, Duration::from_millis(60));
        let earlier = Load {
            offered: 1,
            ..Load::default()
        };
        let new = load.since(earlier);
        assert_eq!((new.offered, new.dropped), (1, 1));
    }
}
