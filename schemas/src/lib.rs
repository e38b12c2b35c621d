//! TrackLens messages.
