//! The node's settings, and the detector and tracker that they ask for.

use std::path::PathBuf;

use serde::Deserialize;
use tracklens_iou_tracker::{
    Detector, MotionDetector, Sam2Detector, Sam2Settings, TrackerSettings, YoloxDetector,
    YoloxSettings,
};
use tracklens_onnx::{Device, SessionSettings};
use tracklens_sam2::{ModelChoice, ProposalRules};

/// What the node reads, from the table in `tracklens_node::settings`.
pub(crate) const NAMES: &[&str] = &[
    "DETECTOR",
    "DETECTOR_MODEL",
    "DETECTOR_CLASSES",
    "DETECTOR_SCORE_THRESHOLD",
    "DETECTOR_THREADS",
    "SAM2_MODEL_SIZE",
    "SAM2_MODEL_DIR",
    "SAM2_DEVICE",
    "SAM2_THREADS",
    "SAM2_MAX_BATCH",
    "PROMPT_MIN_IOU",
    "PROMPT_MIN_STABILITY",
    "PROMPT_MAX_OVERLAP",
    "MASK_CLEAN_CELLS",
    "MIN_OBJECT_AREA",
    "SAM2_MAX_OBJECTS_PER_STREAM",
    "TRACK_MIN_IOU",
    "TRACK_CONFIRM_FRAMES",
    "TRACK_LOST_FRAMES",
    "TRACKLENS_MODELS",
    "ORT_DYLIB_PATH",
];

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) struct Settings {
    config_profile: String,
    detector: String,
    detector_model: Option<PathBuf>,
    detector_classes: Option<Vec<String>>,
    detector_score_threshold: f32,
    detector_threads: usize,
    sam2_model_size: Option<String>,
    sam2_model_dir: Option<PathBuf>,
    sam2_device: String,
    sam2_threads: usize,
    sam2_max_batch: usize,
    prompt_min_iou: f32,
    prompt_min_stability: f32,
    prompt_max_overlap: f32,
    mask_clean_cells: usize,
    min_object_area: u32,
    sam2_max_objects_per_stream: usize,
    track_min_iou: f32,
    track_confirm_frames: u32,
    track_lost_frames: u32,
    tracklens_models: Option<PathBuf>,
    ort_dylib_path: Option<PathBuf>,
}

impl Settings {
    /// Whether the detector has to be told where to look.
    pub(crate) fn takes_prompts(&self) -> bool {
        self.detector == "sam2"
    }

    pub(crate) fn detector(&self) -> eyre::Result<Box<dyn Detector>> {
        match self.detector.as_str() {
            "yolox" => self.yolox(),
            "sam2" => self.sam2(),
            _ => Ok(Box::<MotionDetector>::default()),
        }
    }

    fn yolox(&self) -> eyre::Result<Box<dyn Detector>> {
        let model = self.detector_model.clone().or_else(|| {
            let folder = self.tracklens_models.as_ref()?;
            Some(folder.join("yolox-nano/yolox_nano.onnx"))
        });
        Ok(Box::new(YoloxDetector::new(&YoloxSettings {
            library: tracklens_onnx::library(self.ort_dylib_path.as_deref()),
            model: model.ok_or_else(|| {
                eyre::eyre!(
                    "DETECTOR=yolox needs a model: set DETECTOR_MODEL to a YOLOX .onnx file, or \
                     TRACKLENS_MODELS to the folder with yolox-nano/yolox_nano.onnx"
                )
            })?,
            classes: self.detector_classes.clone().unwrap_or_default(),
            score: self.detector_score_threshold,
            threads: self.detector_threads,
        })?))
    }

    fn sam2(&self) -> eyre::Result<Box<dyn Detector>> {
        let choice = ModelChoice {
            profile: &self.config_profile,
            size: self.sam2_model_size.as_deref(),
            dir: self.sam2_model_dir.as_ref(),
            models: self.tracklens_models.as_ref(),
        };
        let sessions = SessionSettings {
            library: tracklens_onnx::library(self.ort_dylib_path.as_deref()),
            threads: self.sam2_threads,
            device: Device::named(&self.sam2_device),
        };
        let settings = Sam2Settings {
            proposals: ProposalRules {
                min_iou: self.prompt_min_iou,
                min_stability: self.prompt_min_stability,
                max_overlap: self.prompt_max_overlap,
                min_area: self.min_object_area,
                ..ProposalRules::default()
            },
            clean_cells: self.mask_clean_cells,
            max_batch: self.sam2_max_batch,
        };
        let detector = Sam2Detector::open(&choice.open()?, &sessions, settings)?;
        Ok(Box::new(detector))
    }

    pub(crate) fn tracker(&self) -> TrackerSettings {
        TrackerSettings {
            score: self.detector_score_threshold,
            min_area: self.min_object_area,
            min_iou: self.track_min_iou,
            confirm_frames: self.track_confirm_frames,
            lost_frames: self.track_lost_frames,
            max_objects: self.sam2_max_objects_per_stream,
            ..TrackerSettings::default()
        }
    }
}
