//! Thins a live stream out to a target rate by presentation time.

/// Decides which frames of one stream go on, so that at most `fps` a second do.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    interval_ns: i64,
    due_ns: Option<i64>,
}

impl Pacer {
    /// A pacer for this many frames a second.
    #[must_use]
    pub fn new(fps: f64) -> Self {
        Self {
            interval_ns: (1e9 / fps.max(0.001)) as i64,
            due_ns: None,
        }
    }

    /// Whether the frame shown at this time goes on. Half an interval of jitter is forgiven; after
    /// a jump in time the rate starts anew.
    pub fn admits(&mut self, pts_ns: i64) -> bool {
        let due = self.due_ns.unwrap_or(pts_ns);
        let early = due.saturating_sub(pts_ns);
        let jumped_back = early > self.interval_ns.saturating_mul(2);
        if early > self.interval_ns / 2 && !jumped_back {
            return false;
        }
        let late = pts_ns.saturating_sub(due);
        let from = if jumped_back || late > self.interval_ns {
            pts_ns
        } else {
            due
        };
        self.due_ns = Some(from.saturating_add(self.interval_ns));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn thins_thirty_to_ten() {
        let mut pacer = Pacer::new(10.0);
        let passed = (0..300).filter(|i| pacer.admits(i * 33_333_333)).count();
        assert!((99..=101).contains(&passed), "{passed}");
    }

    #[test]
    fn passes_everything_at_the_same_rate_despite_jitter() {
        let mut pacer = Pacer::new(25.0);
        let passed = (0..100)
            .filter(|i| pacer.admits(i * 40_000_000 + (i % 3) * 5_000_000))
            .count();
        assert_eq!(passed, 100);
    }

    proptest! {
        #[test]
        fn any_times_are_survived(times: Vec<i64>, fps in 0.1f64..240.0) {
            let mut pacer = Pacer::new(fps);
            for time in times {
                pacer.admits(time);
            }
        }
    }
}
