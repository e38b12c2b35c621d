//! Publishes tracks.
