//! Classical image processing that more than one node needs: small brightness images, bitmaps and
//! what hangs together in them. Plain slices in and out; nothing here knows of streams or dora.

pub mod components;
pub mod luma;
pub mod morphology;
