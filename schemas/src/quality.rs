//! How much is spent on a frame where there is too much to do: a ladder of steps, each of which keeps
//! those above it.

use crate::{Metadata, SchemaError, Value, keys};

/// Heights in pixels of processing resolutions, as `PROCESSING_RESOLUTION` takes them.
const HEIGHTS: [u32; 5] = [480, 720, 1080, 1440, 2160];
/// Fewest points per side that are left of a grid.
const LEAST_DENSITY: usize = 4;

/// A step of the ladder: 0 is everything that the settings say. Travels with frames of live graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quality(u8);

impl Quality {
    /// Everything that the settings say.
    pub const FULL: Self = Self(0);
    /// The last step.
    pub const LEAST: Self = Self(5);

    /// One step further down, if there is one.
    #[must_use]
    pub fn lower(self) -> Option<Self> {
        (self < Self::LEAST).then_some(Self(self.0 + 1))
    }

    /// One step back up, if there is one.
    #[must_use]
    pub fn higher(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// Steps below [`Self::FULL`].
    #[must_use]
    pub fn steps(self) -> u8 {
        self.0
    }

    /// What this step takes away, on top of those before it.
    #[must_use]
    pub fn saving(self) -> &'static str {
        match self.0 {
            0 => "everything as set",
            1 => "half the points per side of prompt grids",
            2 => "half as many looks for new objects",
            3 => "the next smaller processing resolution",
            4 => "the next smaller model, where one is installed",
            _ => "a still smaller processing resolution",
        }
    }

    /// Points per side of a prompt grid.
    #[must_use]
    pub fn density(self, full: usize) -> usize {
        match self.0 {
            0 => full,
            _ => (full / 2).max(LEAST_DENSITY).min(full),
        }
    }

    /// Frames from one look for objects to the next.
    #[must_use]
    pub fn reprompt_interval(self, full: u64) -> u64 {
        match self.0 {
            0 | 1 => full,
            _ => full.saturating_mul(2),
        }
    }

    /// Height in pixels that frames are resized to.
    #[must_use]
    pub fn processing_height(self, full: u32) -> u32 {
        let steps = match self.0 {
            0..=2 => 0,
            3 | 4 => 1,
            _ => 2,
        };
        let below = HEIGHTS.iter().rev().filter(|height| **height < full);
        below.take(steps).last().copied().unwrap_or(full)
    }

    /// Whether a smaller model is to go on.
    #[must_use]
    pub fn wants_smaller_model(self) -> bool {
        self.0 >= 4
    }

    pub(crate) fn write(self, metadata: &mut Metadata) {
        if self != Self::FULL {
            metadata.insert(keys::QUALITY, Value::Int(self.0.into()));
        }
    }

    /// Reads the step from metadata; [`Self::FULL`] where there is none.
    pub(crate) fn read(metadata: &Metadata) -> Result<Self, SchemaError> {
        if metadata.get(keys::QUALITY).is_none() {
            return Ok(Self::FULL);
        }
        let steps = metadata.int(keys::QUALITY)?;
        u8::try_from(steps)
            .ok()
            .map(Self)
            .filter(|quality| *quality <= Self::LEAST)
            .ok_or_else(|| SchemaError::OutOfRange {
                field: keys::QUALITY,
                expected: format!("0 to {}", Self::LEAST.0),
                found: steps.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ladder() -> Vec<Quality> {
        std::iter::successors(Some(Quality::FULL), |quality| quality.lower()).collect()
    }

    #[test]
    fn every_step_spends_no_more_than_the_one_above_and_can_be_taken_back() {
        let ladder = ladder();
        assert_eq!(*ladder.last().unwrap(), Quality::LEAST);
        for pair in ladder.windows(2) {
            let [above, below] = [pair[0], pair[1]];
            assert_eq!(below.higher(), Some(above));
            assert!(below.density(16) <= above.density(16));
            assert!(below.reprompt_interval(15) >= above.reprompt_interval(15));
            assert!(below.processing_height(1080) <= above.processing_height(1080));
            assert!(below.wants_smaller_model() >= above.wants_smaller_model());
        }
        assert_eq!(Quality::FULL.higher(), None);
    }

    #[test]
    fn little_is_left_of_little() {
        let least = Quality::LEAST;
        assert_eq!(
            (least.density(16), least.density(6), least.density(2)),
            (8, 4, 2)
        );
        assert_eq!(least.processing_height(1080), 480);
        assert_eq!(least.processing_height(720), 480);
        assert_eq!(least.processing_height(480), 480);
        assert_eq!(Quality::FULL.processing_height(720), 720);
    }

    #[test]
    fn travels_in_metadata_and_refuses_what_is_no_step() {
        for quality in ladder() {
            let mut metadata = Metadata::default();
            quality.write(&mut metadata);
            assert_eq!(Quality::read(&metadata).unwrap(), quality);
        }
        for wrong in [-1, 6, 1000] {
            let mut metadata = Metadata::default();
            metadata.insert(keys::QUALITY, Value::Int(wrong));
            assert!(Quality::read(&metadata).is_err());
        }
    }
}
