//! FFmpeg for TrackLens.
