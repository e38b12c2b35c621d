//! Less is spent on each frame while the tracker cannot keep up, and more again when it can.
//!
//! A pure function of measured rates: [`AdaptiveQuality::observe`] is told from time to time what has
//! been offered and taken since, and takes at most one step. Down where the tracker takes less than
//! 80 % of what it is offered; up where it takes all but all and has time left. Between the two
//! nothing happens, and a step up that has to be taken back is tried again only after twice the
//! time, so that quality does not swing.

use std::time::Duration;

use tracklens_schemas::Quality;

/// Share of the frames offered below which the tracker is too slow …
const SLOW: f64 = 0.8;
/// … and from which on it keeps up.
const STEADY: f64 = 0.95;
/// Share of the time in which the tracker has something to do, below which it has room for more …
const ROOM: f64 = 0.6;
/// … and below which it is not the tracker that is slow: it is away, or starting.
const AWAY: f64 = 0.5;
/// Time for which it must be too slow before a step down.
const DOWN_AFTER: Duration = Duration::from_secs(2);
/// Time for which it must have room before a step up: at first, and at most.
const UP_AFTER: Duration = Duration::from_secs(1);
const UP_AFTER_MOST: Duration = Duration::from_secs(64);
/// A step down this soon after one up takes it back.
const TAKEN_BACK: Duration = Duration::from_secs(10);

/// What was measured over a while, over all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Frames offered to the tracker (after pacing by TARGET_FPS) per second.
    pub offered: f64,
    /// Frames that it took per second.
    pub taken: f64,
    /// Share of the time, 0 to 1, in which it had something to do.
    pub busy: f64,
}

/// A step that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The quality before.
    pub from: Quality,
    /// The quality from now on.
    pub to: Quality,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct AdaptiveQuality {
    quality: Quality,
    slow_for: Duration,
    roomy_for: Duration,
    up_after: Duration,
    since_up: Option<Duration>,
}

impl Default for AdaptiveQuality {
    fn default() -> Self {
        Self {
            quality: Quality::FULL,
            slow_for: Duration::ZERO,
            roomy_for: Duration::ZERO,
            up_after: UP_AFTER,
            since_up: None,
        }
    }
}

impl AdaptiveQuality {
    /// The quality at present.
    #[must_use]
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Takes in what was measured over the time since the last call. Returns the step that is taken.
    pub fn observe(&mut self, elapsed: Duration, rates: Rates) -> Option<Step> {
        self.since_up = self.since_up.map(|since| since + elapsed);
        if self.since_up.is_some_and(|since| since > UP_AFTER_MOST) {
            self.since_up = None;
            self.up_after = UP_AFTER;
        }
        let share = match rates.offered > 0.0 {
            true => rates.taken / rates.offered,
            false => 1.0,
        };
        let slow = share < SLOW && rates.busy >= AWAY;
        let roomy = share >= STEADY && rates.busy < ROOM;
        let count = |before: Duration, holds: bool| match holds {
            true => before + elapsed,
            false => Duration::ZERO,
        };
        self.slow_for = count(self.slow_for, slow);
        self.roomy_for = count(self.roomy_for, roomy);
        let to = if self.slow_for >= DOWN_AFTER {
            self.quality.lower()
        } else if self.roomy_for >= self.up_after {
            self.quality.higher()
        } else {
            None
        }?;
        let step = Step {
            from: self.quality,
            to,
        };
        if to < self.quality {
            self.since_up = Some(Duration::ZERO);
        } else if self.since_up.take_if(|since| *since < TAKEN_BACK).is_some() {
            self.up_after = (2 * self.up_after).min(UP_AFTER_MOST);
        }
        (self.slow_for, self.roomy_for) = (Duration::ZERO, Duration::ZERO);
        self.quality = to;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A tracker that takes `cost` seconds for a frame of full quality, a fifth less at each step.
    fn rates(offered: f64, cost: f64, quality: Quality) -> Rates {
        let cost = cost * 0.8_f64.powi(quality.steps().into());
        let taken = offered.min(1.0 / cost);
        Rates {
            offered,
            taken,
            busy: (taken * cost).min(1.0),
        }
    }

    fn run(controller: &mut AdaptiveQuality, seconds: usize, offered: f64, cost: f64) -> Vec<Step> {
        (0..seconds)
            .filter_map(|_| {
                let rates = rates(offered, cost, controller.quality());
                controller.observe(SECOND, rates)
            })
            .collect()
    }

    #[test]
    fn an_overload_goes_down_a_step_at_a_time_and_its_end_comes_back() {
        let mut controller = AdaptiveQuality::default();
        assert!(run(&mut controller, 20, 25.0, 0.01).is_empty());
        let down = run(&mut controller, 30, 25.0, 0.5);
        assert_eq!(down.len(), 5);
        assert_eq!(controller.quality(), Quality::LEAST);
        assert!(down.iter().all(|step| step.from.lower() == Some(step.to)));
        let up = run(&mut controller, 5, 25.0, 0.01);
        assert_eq!(up.len(), 5, "one a second where there is plenty of room");
        assert_eq!(controller.quality(), Quality::FULL);
    }

    #[test]
    fn a_load_between_the_limits_moves_nothing() {
        let mut controller = AdaptiveQuality::default();
        // 90 % are taken, all the time is spent.
        assert!(run(&mut controller, 100, 25.0, 1.0 / 22.5).is_empty());
    }

    #[test]
    fn a_tracker_that_is_away_is_not_slow() {
        let mut controller = AdaptiveQuality::default();
        let away = Rates {
            offered: 25.0,
            taken: 0.0,
            busy: 0.0,
        };
        for _ in 0..60 {
            assert_eq!(controller.observe(SECOND, away), None);
        }
    }

    #[test]
    fn steps_up_that_are_taken_back_become_rare() {
        let mut controller = AdaptiveQuality::default();
        // One step makes all the difference: too slow above it, plenty of room below.
        let mut steps = 0;
        for _ in 0..600 {
            let rates = match controller.quality() {
                Quality::FULL => rates(25.0, 0.1, Quality::FULL),
                _ => rates(25.0, 0.01, Quality::FULL),
            };
            steps += usize::from(controller.observe(SECOND, rates).is_some());
        }
        assert!(steps <= 32, "{steps}");
    }

    proptest! {
        #[test]
        fn never_more_than_a_step_at_once_and_never_beyond_the_ends(
            measured in prop::collection::vec((0.0..60.0, 0.0..1.2, 0.0..1.0, 1u64..3000), 200),
        ) {
            let mut controller = AdaptiveQuality::default();
            for (offered, share, busy, ms) in measured {
                let before = controller.quality();
                let rates = Rates { offered, taken: offered * share, busy };
                let step = controller.observe(Duration::from_millis(ms), rates);
                let after = controller.quality();
                prop_assert!(before.steps().abs_diff(after.steps()) <= 1);
                prop_assert_eq!(step.is_some(), before != after);
                prop_assert!(after <= Quality::LEAST);
                if share < SLOW && busy >= ROOM {
                    prop_assert!(after >= before, "no step up under overload");
                }
                if share >= STEADY {
                    prop_assert!(after <= before, "no step down while all is taken");
                }
            }
        }

        #[test]
        fn under_a_constant_load_it_comes_to_rest(offered in 1.0..60.0, cost in 0.001..1.0) {
            let mut controller = AdaptiveQuality::default();
            run(&mut controller, 600, offered, cost);
            prop_assert!(run(&mut controller, 60, offered, cost).len() <= 4);
        }
    }
}
