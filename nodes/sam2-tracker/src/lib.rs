//! Streaming video segmentation with memory: SAM 2 (Ravi et al. 2024) and models of its family.
//!
//! The model itself is `tracklens-sam2`; everything with a state is here. [`tracker`] is the loop,
//! [`stream`] what it keeps of a stream, [`object`] of an object; [`recognition`] knows objects again,
//! [`memory_tree`] weighs where they could be; [`running_model`] takes a smaller model where it must; [`snapshot`] brings all of it to disk.

pub mod memory_pressure;
pub mod memory_tree;
pub mod object;
pub mod recognition;
mod rows;
pub mod running_model;
pub mod snapshot;
pub mod stream;
pub mod tracker;

pub use tracker::{Late, Outcome, Tracker, TrackerSettings};
