//! Counts what was broken in a stream that was decoded all the same.

use std::fmt;

/// What was damaged so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Packets that the container or the decoder refused, or marked as broken.
    pub packets: u64,
    /// Frames that came out, but with errors that the decoder covered up.
    pub frames: u64,
    /// The first thing that was wrong, and where.
    pub first: Option<String>,
    /// How the stream ended before its announced end, if it did.
    pub ended_early: Option<String>,
}

impl Damage {
    /// Whether anything was damaged.
    #[must_use]
    pub fn any(&self) -> bool {
        self.packets > 0 || self.frames > 0 || self.ended_early.is_some()
    }

    pub(crate) fn packet(&mut self, what: impl FnOnce() -> String) {
        self.packets += 1;
        self.first.get_or_insert_with(what);
    }

    pub(crate) fn frame(&mut self, what: impl FnOnce() -> String) {
        self.frames += 1;
        self.first.get_or_insert_with(what);
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (packets, frames) = (self.packets, self.frames);
        write!(
            f,
            "{packets} bad packets, {frames} frames with covered-up errors"
        )?;
        if let Some(first) = &self.first {
            write!(f, "; first: {first}")?;
        }
        match &self.ended_early {
            Some(end) => write!(f, "; {end}"),
            None => Ok(()),
        }
    }
}
