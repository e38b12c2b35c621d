//! Detector for models of the YOLOX family (Ge et al., YOLOX: exceeding YOLO series in 2021), run
//! by ONNX Runtime.
//!
//! Input: `batch × 3 × height × width` f32, blue, green, red, 0..=255. Output: `batch × cells × (5 +
//! classes)`, raw; see [`decode`] for what is in it. The sizes are read from the model.

pub mod classes;
pub mod decode;
pub mod letterbox;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::value::{TensorElementType, TensorRef, ValueType};
use tracklens_schemas::{BBox, Image, Mask, StreamId};

use crate::detector::{Detection, Detector, DetectorError, StreamFrame, box_mask};
use crate::motion::Foreground;
use classes::ClassFilter;
use decode::{Candidate, Grid};
use letterbox::Letterbox;
use tracklens_onnx::SessionSettings;

/// Frames in one inference where the model takes any number.
const MAX_BATCH: usize = 8;
/// Share of a detection's score limit down to which detections are still reported, for the
/// tracker's second pass.
const UNCERTAIN: f32 = 0.4;
/// Share of a box that must move for the mask to be what moves in it.
const MOVING_SHARE: f32 = 0.2;

/// Where things are and what is wanted of them.
#[derive(Clone, Debug)]
pub struct YoloxSettings {
    /// The ONNX Runtime library.
    pub library: PathBuf,
    /// The .onnx file.
    pub model: PathBuf,
    /// Class names to report; empty: all.
    pub classes: Vec<String>,
    /// Score (objectness times class) of a certain detection; uncertain ones are reported down to
    /// 0.4 of it.
    pub score: f32,
    /// Threads of one inference; 0: as many as ONNX Runtime likes.
    pub threads: usize,
}

/// A loaded model.
#[derive(Debug)]
pub struct YoloxDetector {
    session: Session,
    input_name: String,
    name: String,
    /// Frames per inference: 1 or [`MAX_BATCH`].
    batch: usize,
    letterbox: Letterbox,
    grid: Grid,
    classes: ClassFilter,
    least_score: f32,
    tensor: Vec<f32>,
    streams: HashMap<StreamId, Foreground>,
}

impl YoloxDetector {
    /// Loads library and model.
    ///
    /// # Errors
    /// What is missing or wrong with either, see [`DetectorError`].
    pub fn new(settings: &YoloxSettings) -> Result<Self, DetectorError> {
        let path = settings.model.display().to_string();
        let session = tracklens_onnx::open(
            &settings.model,
            &SessionSettings {
                library: settings.library.clone(),
                threads: settings.threads,
                ..SessionSettings::default()
            },
        )
        .map_err(DetectorError::from_onnx)?;
        let shape = ModelShape::read(&session, &path)?;
        let name = settings.model.file_stem().map_or_else(
            || "yolox".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        );
        Ok(Self {
            input_name: shape.input_name,
            name,
            batch: if shape.dynamic_batch { MAX_BATCH } else { 1 },
            letterbox: Letterbox::new(shape.width, shape.height),
            grid: Grid::new(shape.width, shape.height, shape.classes),
            classes: ClassFilter::new(shape.classes, &settings.classes)?,
            least_score: settings.score * UNCERTAIN,
            tensor: Vec::new(),
            streams: HashMap::new(),
            session,
        })
    }

    /// Input size, width and height.
    #[must_use]
    pub fn input_size(&self) -> (usize, usize) {
        (self.letterbox.width(), self.letterbox.height())
    }

    fn infer(&mut self, frames: &[StreamFrame<'_>]) -> Result<Vec<Vec<Candidate>>, DetectorError> {
        let failed = |reason: String| DetectorError::Inference {
            frames: frames.len(),
            reason,
        };
        let (width, height) = self.input_size();
        let plane = 3 * width * height;
        self.tensor.resize(frames.len() * plane, 0.0);
        for (frame, tensor) in frames.iter().zip(self.tensor.chunks_exact_mut(plane)) {
            self.letterbox.fill(&frame.image, tensor);
        }
        let shape = [frames.len(), 3, height, width];
        let input = TensorRef::from_array_view((shape, self.tensor.as_slice()))
            .map_err(|error| failed(error.to_string()))?;
        let outputs = self
            .session
            .run(ort::inputs![self.input_name.as_str() => input])
            .map_err(|error| failed(error.to_string()))?;
        let (shape, values) = outputs[0]
            .try_extract_tensor::<f32>()
            .map_err(|error| failed(error.to_string()))?;
        let per_frame = self.grid.len() * self.grid.columns();
        if values.len() != frames.len() * per_frame {
            return Err(failed(format!(
                "expected an output of {} × {} × {}, got {shape:?}",
                frames.len(),
                self.grid.len(),
                self.grid.columns()
            )));
        }
        let classes = &self.classes;
        Ok(values
            .chunks_exact(per_frame)
            .map(|values| {
                let candidates = self
                    .grid
                    .decode(values, self.least_score, |class| classes.wants(class));
                decode::suppress(candidates)
            })
            .collect())
    }
}

impl Detector for YoloxDetector {
    fn model(&self) -> &str {
        &self.name
    }

    fn max_batch(&self) -> usize {
        self.batch
    }

    fn detect(&mut self, frames: &[StreamFrame<'_>]) -> Result<Vec<Vec<Detection>>, DetectorError> {
        let mut all = Vec::with_capacity(frames.len());
        for part in frames.chunks(self.batch) {
            let found = self.infer(part)?;
            for (frame, candidates) in part.iter().zip(found) {
                let foreground = self.streams.entry(frame.stream.clone()).or_default();
                foreground.apply(&frame.image);
                let zoom = self
                    .letterbox
                    .zoom(frame.image.info.width, frame.image.info.height);
                all.push(
                    candidates
                        .into_iter()
                        .map(|candidate| {
                            let info = &frame.image.info;
                            let bbox = candidate
                                .bbox
                                .scale(1.0 / zoom, 1.0 / zoom)
                                .clamp(info.width, info.height);
                            Detection {
                                bbox,
                                score: candidate.score,
                                class: Some(self.classes.name(candidate.class)),
                                mask: moving_mask(foreground, &bbox, &frame.image),
                            }
                        })
                        .collect(),
                );
            }
        }
        Ok(all)
    }

    fn release(&mut self, stream: &StreamId) {
        self.streams.remove(stream);
    }
}

/// What moves in a box, if it is enough of it to be the object.
fn moving_mask(foreground: &Foreground, bbox: &BBox, image: &Image<'_>) -> Option<Mask> {
    let (width, height) = foreground.size();
    let scale_x = width as f32 / image.info.width as f32;
    let scale_y = height as f32 / image.info.height as f32;
    let window = box_mask(&bbox.scale(scale_x, scale_y), width as u32, height as u32);
    let mut bitmap = vec![0; width * height];
    let mut moving = 0;
    for (x, y0, y1) in window.spans() {
        for y in y0..y1 {
            let pixel = y as usize * width + x as usize;
            bitmap[pixel] = foreground.bitmap()[pixel];
            moving += u64::from(bitmap[pixel]);
        }
    }
    (moving as f32 > MOVING_SHARE * window.area() as f32)
        .then(|| Mask::from_bitmap(&bitmap, width as u32, height as u32))
}

/// What the shapes of a model say.
#[derive(Debug)]
struct ModelShape {
    input_name: String,
    dynamic_batch: bool,
    width: usize,
    height: usize,
    classes: usize,
}

impl ModelShape {
    fn read(session: &Session, path: impl AsRef<Path>) -> Result<Self, DetectorError> {
        let describe = |outlets: &[ort::value::Outlet]| -> String {
            outlets
                .iter()
                .map(|outlet| format!("{} {}", outlet.name(), outlet.dtype()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let shape = match (session.inputs(), session.outputs()) {
            ([input], [output]) => Self::of(input.name(), input.dtype(), output.dtype()),
            _ => None,
        };
        shape.ok_or_else(|| DetectorError::ModelShape {
            path: path.as_ref().display().to_string(),
            expected: "one f32 input N×3×H×W with H and W multiples of 32, one f32 output \
                       N×(H·W/64 + H·W/256 + H·W/1024)×(5 + classes)"
                .into(),
            found: format!(
                "inputs: {}; outputs: {}",
                describe(session.inputs()),
                describe(session.outputs())
            ),
        })
    }

    fn of(name: &str, input: &ValueType, output: &ValueType) -> Option<Self> {
        let dimensions = |value: &ValueType| match value {
            ValueType::Tensor {
                ty: TensorElementType::Float32,
                shape,
                ..
            } => Some(shape.to_vec()),
            _ => None,
        };
        let [batch, 3, height, width] = dimensions(input)?[..] else {
            return None;
        };
        let [_, cells, columns] = dimensions(output)?[..] else {
            return None;
        };
        let (height, width) = (usize::try_from(height).ok()?, usize::try_from(width).ok()?);
        let classes = usize::try_from(columns).ok()?.checked_sub(5)?;
        let usual = |side: usize| side > 0 && side.is_multiple_of(32) && side <= 4096;
        let expected = Grid::new(width, height, classes).len() as i64;
        // A dynamic batch often makes the number of cells look dynamic as well.
        let fits = cells == expected || cells == -1;
        (usual(width) && usual(height) && classes > 0 && fits && (batch == 1 || batch == -1)).then(
            || Self {
                input_name: name.into(),
                dynamic_batch: batch == -1,
                width,
                height,
                classes,
            },
        )
    }
}
