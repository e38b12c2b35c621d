//! What is published of a frame: one row per object, and which objects are let go.

use tracklens_sam2::bitmap::Bitmap;
use tracklens_sam2::modules::Modules;
use tracklens_sam2::sighting::Sighting;
use tracklens_schemas::{Mask, Track};

use crate::stream::StreamState;
use crate::tracker::Tracker;

/// Cells of the reference's masks, 256×256, for which its clean-up limit is given.
const REFERENCE_CELLS: usize = 256 * 256;
/// Frames in a row after which the younger of two equal objects is let go.
const DOUBLED_FRAMES: u32 = 3;

impl<M: Modules> Tracker<M> {
    /// Rows of all objects; those that are gone, or twice there, are let go.
    pub(crate) fn publish(
        &mut self,
        state: &mut StreamState<M::Frame>,
        looks: &mut Vec<(Sighting, Option<Mask>)>,
        size: (u32, u32),
    ) -> Vec<Track> {
        let doubles = self.doubles(state, looks);
        let mut keep = doubles.iter().map(|double| !double);
        looks.retain(|_| keep.next().unwrap_or(true));
        let mut keep = doubles.iter().map(|double| !double);
        state.objects.retain(|_| keep.next().unwrap_or(true));

        let cells = self.observer.config.geometry.mask;
        let limit = self.settings.clean_cells * cells[0] * cells[1];
        let limit = limit.div_ceil(REFERENCE_CELLS);
        for (sighting, _) in looks.iter_mut() {
            self.clean_up.run(&mut sighting.logits, cells, limit);
        }
        let logits: Vec<&[f32]> = looks.iter().map(|(s, _)| s.logits.as_slice()).collect();
        let masks = self
            .painter
            .paint(&logits, cells, size, self.settings.exclusive);
        let tracks: Vec<Track> = state
            .objects
            .iter_mut()
            .zip(looks.iter_mut())
            .zip(masks)
            .map(|((object, (sighting, given)), mask)| {
                object.publish(given.take().unwrap_or(mask), sighting.iou)
            })
            .collect();
        let stays: Vec<bool> = state
            .objects
            .iter()
            .map(|object| object.missed <= self.settings.lost_frames)
            .collect();
        for at in (0..stays.len()).rev().filter(|at| !stays[*at]) {
            let gone = state.objects.remove(at);
            state.give_up(&gone, self.return_frames());
        }
        let mut stay = stays.iter().copied();
        looks.retain(|_| stay.next().unwrap_or(true));
        // An object that is forgotten on this frame has no row of its own any more.
        let mut stay = stays.into_iter();
        tracks
            .into_iter()
            .filter(|_| stay.next().unwrap_or(true))
            .collect()
    }

    /// Which objects have been the same as an older one for too long.
    fn doubles(
        &self,
        state: &mut StreamState<M::Frame>,
        looks: &[(Sighting, Option<Mask>)],
    ) -> Vec<bool> {
        let mut doubles = vec![false; looks.len()];
        if self.settings.duplicate_iou > 1.0 || looks.len() < 2 {
            return doubles;
        }
        let bitmaps: Vec<Bitmap> = looks.iter().map(|(s, _)| Bitmap::new(&s.logits)).collect();
        for younger in 1..looks.len() {
            let same = (0..younger)
                .filter(|older| !doubles[*older])
                .any(|older| bitmaps[older].iou(&bitmaps[younger]) >= self.settings.duplicate_iou);
            let object = &mut state.objects[younger];
            object.doubled = if same { object.doubled + 1 } else { 0 };
            doubles[younger] = object.doubled >= DOUBLED_FRAMES;
        }
        doubles
    }
}
