//! The epoch of each stream that is opened.

use std::collections::{BTreeMap, VecDeque};

use tracklens_schemas::{Epoch, StreamId};

/// Streams whose last epoch is remembered.
const REMEMBERED: usize = 4096;

/// Gives epochs that grow for every stream, in bounded memory: streams that are forgotten begin
/// beyond every epoch that was forgotten.
#[derive(Debug)]
pub struct Epochs {
    first: u32,
    next: BTreeMap<StreamId, u32>,
    order: VecDeque<StreamId>,
}

impl Epochs {
    /// Epochs from `first` on.
    #[must_use]
    pub fn new(first: Epoch) -> Self {
        Self {
            first: first.0,
            next: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// A stream is opened: its epoch.
    pub fn open(&mut self, stream: &StreamId) -> Epoch {
        let epoch = self.next.get(stream).copied().unwrap_or(self.first);
        if self
            .next
            .insert(stream.clone(), epoch.saturating_add(1))
            .is_none()
        {
            self.order.push_back(stream.clone());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
            && let Some(next) = self.next.remove(&oldest)
        {
            self.first = self.first.max(next);
        }
        Epoch(epoch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn epochs_grow_also_for_forgotten_streams() {
        let mut epochs = Epochs::new(Epoch(7));
        let door: StreamId = "door".parse().unwrap();
        assert_eq!(epochs.open(&door), Epoch(7));
        assert_eq!(epochs.open(&door), Epoch(8));
        for number in 0..2 * REMEMBERED {
            epochs.open(&format!("s{number}").parse().unwrap());
        }
        assert_eq!(epochs.next.len(), REMEMBERED);
        assert!(epochs.open(&door) > Epoch(8));
    }
}
