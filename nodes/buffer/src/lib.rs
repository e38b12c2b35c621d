//! The memory of frames.
