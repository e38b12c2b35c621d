//! The detector that needs no model: what differs from the background and hangs together is an
//! object.

pub mod background_model;
pub mod blob_split;

use std::collections::HashMap;

use tracklens_schemas::{BBox, Image, Mask, StreamId};

use crate::detector::{Detection, Detector, DetectorError, Shapes, StreamFrame};
use background_model::{BackgroundModel, Verdict};
use tracklens_vision::components::{Blob, Components};
use tracklens_vision::luma::ReducedLuma;
use tracklens_vision::morphology::Morphology;

/// Radii in working pixels: specks removed, gaps closed (legs, belts and poles cut people into
/// pieces one above the other, hence the tall window).
const OPEN_RADIUS: (usize, usize) = (1, 1);
const CLOSE_RADIUS: (usize, usize) = (2, 4);
/// Blobs of fewer working pixels are noise.
const LEAST_PIXELS: usize = 24;
/// Mean contrast in grey levels at which a blob is certain (score 1).
const CERTAIN_CONTRAST: f32 = 50.0;
/// Edges of the background along a blob's outline that make it a ghost, in edges of the frame.
const GHOST_RATIO: f32 = 1.5;

/// The moving part of one stream's frames.
#[derive(Debug, Default)]
pub struct Foreground {
    luma: ReducedLuma,
    model: BackgroundModel,
    morphology: Morphology,
    components: Components,
    bitmap: Vec<u8>,
    blobs: Vec<Blob>,
}

impl Foreground {
    /// Learns from a frame and finds its blobs.
    pub fn apply(&mut self, image: &Image<'_>) {
        self.luma.fill(image);
        self.blobs.clear();
        self.bitmap.clear();
        let width = self.luma.width;
        if self.model.apply(&self.luma.pixels, width) == Verdict::Started {
            self.bitmap.resize(self.luma.pixels.len(), 0);
            return;
        }
        self.bitmap.extend_from_slice(self.model.foreground());
        self.morphology.open(&mut self.bitmap, width, OPEN_RADIUS);
        self.morphology.close(&mut self.bitmap, width, CLOSE_RADIUS);
        let blobs = self.components.find(&self.bitmap, width, LEAST_PIXELS);
        for blob in blobs {
            if self.is_ghost(&blob) {
                self.absorb(&blob);
            } else {
                self.blobs.push(blob);
            }
        }
    }

    /// Blobs of the last frame, in working pixels.
    #[must_use]
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Working size: columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.luma.width, self.luma.height)
    }

    /// 1 where the last frame shows something that moves, row-major at working size.
    #[must_use]
    pub fn bitmap(&self) -> &[u8] {
        &self.bitmap
    }

    /// Whether a blob is the hole that something left behind: its outline is then an edge of the
    /// remembered background and none of the frame.
    fn is_ghost(&self, blob: &Blob) -> bool {
        let width = self.luma.width;
        let (mut frame_edges, mut background_edges) = (0.0_f32, 0.0_f32);
        blob.outline(width, |inside, outside| {
            if self.bitmap.get(outside) == Some(&0) {
                let edge = |plane: &[f32]| (plane[inside] - plane[outside]).abs();
                frame_edges += edge(&self.luma.pixels);
                background_edges += edge(self.model.background());
            }
        });
        background_edges > GHOST_RATIO * frame_edges
    }

    fn absorb(&mut self, blob: &Blob) {
        for run in &blob.runs {
            let row = run.y * self.luma.width;
            self.model
                .absorb(&self.luma.pixels, row + run.x0..row + run.x1);
            self.bitmap[row + run.x0..row + run.x1].fill(0);
        }
    }

    fn score(&self, blob: &Blob) -> f32 {
        let contrast: f32 = blob
            .runs
            .iter()
            .flat_map(|run| {
                let row = run.y * self.luma.width;
                &self.model.contrast()[row + run.x0..row + run.x1]
            })
            .sum();
        (contrast / blob.area as f32 / CERTAIN_CONTRAST).min(1.0)
    }

    fn detection(&self, blob: &Blob, image: &Image<'_>) -> Option<Detection> {
        let (width, height) = self.size();
        let scale_x = image.info.width as f32 / width as f32;
        let scale_y = image.info.height as f32 / height as f32;
        let bbox = BBox {
            x0: blob.columns.0 as f32,
            y0: blob.rows.0 as f32,
            x1: blob.columns.1 as f32,
            y1: blob.rows.1 as f32,
        };
        let runs = blob.column_runs(width, height);
        let mask = Mask::from_runs(runs, width as u32, height as u32).ok()?;
        Some(Detection {
            bbox: bbox.scale(scale_x, scale_y),
            score: self.score(blob),
            class: None,
            mask: Some(mask),
        })
    }
}

/// Motion blobs of any number of streams.
#[derive(Debug, Default)]
pub struct MotionDetector {
    streams: HashMap<StreamId, Foreground>,
}

impl Detector for MotionDetector {
    fn model(&self) -> &str {
        "motion"
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn shapes(&self) -> Shapes {
        Shapes::Blobs
    }

    fn detect(&mut self, frames: &[StreamFrame<'_>]) -> Result<Vec<Vec<Detection>>, DetectorError> {
        let objects = frames.iter().map(|frame| {
            let foreground = self.streams.entry(frame.stream.clone()).or_default();
            foreground.apply(&frame.image);
            foreground
                .blobs()
                .iter()
                .filter_map(|blob| foreground.detection(blob, &frame.image))
                .collect()
        });
        Ok(objects.collect())
    }

    fn release(&mut self, stream: &StreamId) {
        self.streams.remove(stream);
    }
}
