//! The tracker that looks at one frame at a time: a detector finds objects, a Kalman filter and
//! their overlap tell which is which.
//!
//! Needs no model where plain motion is enough ([`motion`]); with one, any of the YOLOX family
//! serves ([`yolox`]), and SAM 2 without its memory where something says where to look ([`sam2`]). It sends the same messages as the trackers with a memory, so that one can
//! stand in for the other.

pub mod association;
mod column_runs;
pub mod detector;
pub mod follower;
pub mod kalman;
pub mod motion;
pub mod sam2;
pub mod tracker;
pub mod yolox;

pub use detector::{Detection, Detector, DetectorError, Shapes, SourceDetection, StreamFrame};
pub use follower::{Follower, Seen};
pub use motion::MotionDetector;
pub use sam2::{Sam2Detector, Sam2Settings};
pub use tracker::{Tracker, TrackerSettings};
pub use yolox::{YoloxDetector, YoloxSettings};
