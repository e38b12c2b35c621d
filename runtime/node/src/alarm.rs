//! A node's one timer. Setting a timer wakes a thread, so it is set anew only where it would come too
//! late.

use std::time::Instant;

use futures_timer::Delay;

/// A timer that rings now and then.
pub(crate) struct Alarm {
    delay: Delay,
    due: Instant,
}

impl Alarm {
    /// Rings at this time at first.
    pub(crate) fn new(due: Instant, now: Instant) -> Self {
        let delay = Delay::new(due.saturating_duration_since(now));
        Self { delay, due }
    }

    /// What to wait for to wake at this time or before.
    pub(crate) fn ring_by(&mut self, due: Instant, now: Instant) -> &mut Delay {
        if self.due <= now || due < self.due {
            self.delay.reset(due.saturating_duration_since(now));
            self.due = due;
        }
        &mut self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_is_set_anew_where_it_would_come_too_late_and_once_it_has_rung() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut alarm = Alarm::new(after(4), start);
        alarm.ring_by(after(8), after(1));
        assert_eq!(alarm.due, after(4));
        alarm.ring_by(after(2), after(1));
        assert_eq!(alarm.due, after(2));
        alarm.ring_by(after(8), after(2));
        assert_eq!(alarm.due, after(8));
    }
}
