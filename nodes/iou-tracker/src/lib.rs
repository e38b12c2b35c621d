//! The tracker that looks at one frame at a time: a detector finds objects, a Kalman filter and
//! their overlap tell which is which.
//!
//! Needs no model where plain motion is enough ([`motion`]); with one, any of the YOLOX family
//! serves ([`yolox`]). It sends the same messages as the trackers with a memory, so that one can
//! stand in for the other.

pub mod association;
pub mod detector;
pub mod follower;
pub mod kalman;
pub mod motion;
pub mod tracker;
pub mod yolox;

pub use detector::{Detection, Detector, DetectorError, SourceDetection, StreamFrame};
pub use follower::Follower;
pub use motion::MotionDetector;
pub use tracker::{Tracker, TrackerSettings};
pub use yolox::{YoloxDetector, YoloxSettings};
