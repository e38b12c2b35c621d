//! The shell that every TrackLens node runs in.
