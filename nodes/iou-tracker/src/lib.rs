//! Frame-by-frame tracker.
