//! How objects are followed.

use std::time::Duration;

use tracklens_sam2::preprocess::ColourMatrix;
use tracklens_sam2::proposals::ProposalRules;

use crate::memory_tree::TreeRules;

/// How objects are followed.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackerSettings {
    /// How good a proposed mask must be.
    pub proposals: ProposalRules,
    /// Most objects of a stream.
    pub max_objects: usize,
    /// Hypotheses of where an object is.
    pub tree: TreeRules,
    /// Frames without sight after which an object is forgotten.
    pub lost_frames: u32,
    /// Frames since it was last seen for which a forgotten object gets its id back when it is found
    /// again, where the model makes out what objects look like; 0: never.
    pub return_frames: u64,
    /// Overlap (IoU) from which two objects are the same; above 1: never.
    pub duplicate_iou: f32,
    /// A pixel belongs to one object at most.
    pub exclusive: bool,
    /// Holes and specks of so many cells of a 256×256 mask are cleaned up.
    pub clean_cells: usize,
    /// Frames that late prompts may ask about.
    pub past_frames: usize,
    /// Further attempts after a failed inference.
    pub retries: u32,
    /// Pause before each.
    pub retry_delay: Duration,
    /// Most objects in one call of a module; 0: as many as fit in half a gigabyte of attention.
    pub max_batch: usize,
    /// The colours of the videos.
    pub colour: ColourMatrix,
    /// First id of a stream.
    pub first_id: u32,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self {
            proposals: ProposalRules::default(),
            max_objects: 50,
            tree: TreeRules::default(),
            lost_frames: 25,
            return_frames: 250,
            duplicate_iou: 0.8,
            exclusive: true,
            clean_cells: 8,
            past_frames: 0,
            retries: 2,
            retry_delay: Duration::from_millis(100),
            max_batch: 0,
            colour: ColourMatrix::default(),
            first_id: 1,
        }
    }
}
