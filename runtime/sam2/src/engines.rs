//! A model run by ONNX Runtime: four sessions.
//!
//! Inputs are views of our buffers. What only travels from one module to the next (features,
//! conditioned embeddings) stays in ONNX Runtime's own tensors; what the tracker looks at is copied
//! once.

use std::borrow::Cow;
use std::path::Path;

use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};
use tracklens_onnx::SessionSettings;

use crate::model_folder::{Geometry, ModelConfig, ModelError, ModelFolder};
use crate::modules::{Decoded, InferenceError, Look, MaskBatch, MemoryBatch, Modules, PromptBatch};

/// A loaded model.
#[derive(Debug)]
pub struct Engines {
    geometry: Geometry,
    input: [usize; 2],
    mask_prompt: [usize; 2],
    image_encoder: Engine,
    memory_attention: Engine,
    mask_decoder: Engine,
    memory_encoder: Engine,
    /// An embedding repeated for each object of a batch.
    repeated: Vec<f32>,
}

/// A frame's features.
#[derive(Debug)]
pub struct Features {
    embedding: DynValue,
    without_memory: DynValue,
    high_res_0: DynValue,
    high_res_1: DynValue,
}

/// One module.
#[derive(Debug)]
struct Engine {
    name: &'static str,
    session: Session,
    inputs: Vec<String>,
}

/// A dimension of an expected tensor: a size, or anything.
type Dim = Option<usize>;

/// Name, type and shape of a tensor.
struct Expected {
    name: &'static str,
    element: TensorElementType,
    shape: Vec<Dim>,
}

fn floats(name: &'static str, shape: &[Dim]) -> Expected {
    Expected {
        name,
        element: TensorElementType::Float32,
        shape: shape.to_vec(),
    }
}

fn whole(name: &'static str, shape: &[Dim]) -> Expected {
    Expected {
        name,
        element: TensorElementType::Int64,
        shape: shape.to_vec(),
    }
}

impl Engines {
    /// Opens the four modules and compares their tensors with the description.
    ///
    /// # Errors
    /// What is missing or wrong with library, device or a module.
    pub fn open(folder: &ModelFolder, settings: &SessionSettings) -> Result<Self, ModelError> {
        let config = &folder.config;
        let [
            image_encoder,
            memory_attention,
            mask_decoder,
            memory_encoder,
        ] = folder
            .modules()
            .map(|(name, file)| (name, folder.path.join(&file.file)));
        let decoder_inputs = decoder_inputs(config);
        let open = |(name, path): &(&'static str, std::path::PathBuf),
                    inputs: &[Expected],
                    outputs: &[Expected]| {
            Engine::open(name, path, settings, inputs, outputs)
        };
        let (inputs, outputs) = encoder_tensors(config);
        let image_encoder = open(&image_encoder, &inputs, &outputs)?;
        let (inputs, outputs) = attention_tensors(config);
        let memory_attention = open(&memory_attention, &inputs, &outputs)?;
        let mask_decoder = open(&mask_decoder, &decoder_inputs, &decoder_outputs(config))?;
        let (inputs, outputs) = memory_tensors(config);
        let memory_encoder = open(&memory_encoder, &inputs, &outputs)?;
        let mask_prompt = mask_decoder
            .size_of("mask_prompt")
            .unwrap_or(config.geometry.mask);
        Ok(Self {
            geometry: config.geometry,
            input: [config.input.height, config.input.width],
            mask_prompt,
            image_encoder,
            memory_attention,
            mask_decoder,
            memory_encoder,
            repeated: Vec::new(),
        })
    }
}

impl Engines {
    /// Features made of known numbers, for comparisons: what is not given is zero.
    ///
    /// # Errors
    /// Where the numbers do not fill their shapes.
    pub fn features(
        &self,
        embedding: &[f32],
        high_res_0: Option<&[f32]>,
        high_res_1: Option<&[f32]>,
    ) -> Result<Features, InferenceError> {
        let value = |shape: [usize; 3], data: Option<&[f32]>| -> Result<DynValue, InferenceError> {
            let len = shape.iter().product();
            let data = data.map_or_else(|| vec![0.0; len], <[f32]>::to_vec);
            ort::value::Tensor::from_array(([1, shape[0], shape[1], shape[2]], data))
                .map(|tensor| tensor.into_dyn())
                .map_err(|error| failed("image_encoder", 1, error.to_string()))
        };
        let geometry = &self.geometry;
        Ok(Features {
            embedding: value(geometry.embedding, Some(embedding))?,
            without_memory: value(geometry.embedding, Some(embedding))?,
            high_res_0: value(geometry.high_res_0, high_res_0)?,
            high_res_1: value(geometry.high_res_1, high_res_1)?,
        })
    }
}

impl Features {
    /// Names and numbers.
    ///
    /// # Errors
    /// Where they are not at hand as f32.
    pub fn tensors(&self) -> Result<[(&'static str, &[f32]); 4], InferenceError> {
        Ok([
            ("embedding", numbers("image_encoder", 1, &self.embedding)?),
            (
                "embedding_no_memory",
                numbers("image_encoder", 1, &self.without_memory)?,
            ),
            ("high_res_0", numbers("image_encoder", 1, &self.high_res_0)?),
            ("high_res_1", numbers("image_encoder", 1, &self.high_res_1)?),
        ])
    }
}

impl Modules for Engines {
    type Frame = Features;
    type Conditioned = DynValue;

    fn mask_prompt(&self) -> [usize; 2] {
        self.mask_prompt
    }

    fn encode_image(&mut self, pixels: &[f32]) -> Result<Features, InferenceError> {
        let engine = &mut self.image_encoder;
        let [height, width] = self.input;
        let image = view(engine.name, 1, [1, 3, height, width], pixels)?;
        let mut outputs = engine.run(1, [("image", image)])?;
        let mut take = |name: &'static str| {
            let missing = || failed("image_encoder", 1, format!("no output {name}"));
            outputs.remove(name).ok_or_else(missing)
        };
        Ok(Features {
            embedding: take("embedding")?,
            without_memory: take("embedding_no_memory")?,
            high_res_0: take("high_res_0")?,
            high_res_1: take("high_res_1")?,
        })
    }

    fn embedding<'a>(&self, frame: &'a Features) -> Result<&'a [f32], InferenceError> {
        numbers("image_encoder", 1, &frame.embedding)
    }

    fn attend(
        &mut self,
        frame: &Features,
        batch: &MemoryBatch,
    ) -> Result<DynValue, InferenceError> {
        let engine = &mut self.memory_attention;
        let [channels, height, width] = self.geometry.embedding;
        let (objects, name) = (batch.objects, engine.name);
        let memory = [
            objects,
            batch.memories,
            self.geometry.memory_channels,
            height,
            width,
        ];
        let pointers = [objects, batch.pointers, channels];
        let times = [objects, batch.memories];
        let inputs = [
            ("embedding", (&frame.embedding).into()),
            ("memory", view(name, objects, memory, &batch.memory)?),
            (
                "memory_time",
                view(name, objects, times, &batch.memory_time)?,
            ),
            ("pointers", view(name, objects, pointers, &batch.pointer)?),
            (
                "pointer_time",
                view(
                    name,
                    objects,
                    [objects, batch.pointers],
                    &batch.pointer_time,
                )?,
            ),
        ];
        let mut outputs = engine.run(objects, inputs)?;
        outputs
            .remove("conditioned")
            .ok_or_else(|| failed(name, objects, "no output conditioned".into()))
    }

    fn decode(
        &mut self,
        frame: &Features,
        look: Look<'_, DynValue>,
        prompts: &PromptBatch,
        out: &mut Decoded,
    ) -> Result<(), InferenceError> {
        let objects = prompts.objects;
        let engine = &mut self.mask_decoder;
        let name = engine.name;
        let alike = match look {
            Look::Conditioned(_) => None,
            Look::NoMemory => Some(&frame.without_memory),
            Look::Plain => Some(&frame.embedding),
        };
        if let (Some(value), true) = (alike, objects > 1) {
            repeat(name, value, objects, &mut self.repeated)?;
        }
        let [channels, height, width] = self.geometry.embedding;
        let embedding = match (look, alike) {
            (Look::Conditioned(value), _) => value.into(),
            (_, Some(value)) if objects == 1 => value.into(),
            _ => view(
                name,
                objects,
                [objects, channels, height, width],
                &self.repeated,
            )?,
        };
        let [mask_height, mask_width] = self.mask_prompt;
        let masks = [objects, 1, mask_height, mask_width];
        let points = prompts.points;
        let inputs = [
            ("embedding", embedding),
            ("high_res_0", (&frame.high_res_0).into()),
            ("high_res_1", (&frame.high_res_1).into()),
            (
                "point_coords",
                view(name, objects, [objects, points, 2], &prompts.coords)?,
            ),
            (
                "point_labels",
                view(name, objects, [objects, points], &prompts.labels)?,
            ),
            ("mask_prompt", view(name, objects, masks, &prompts.masks)?),
            (
                "has_mask",
                view(name, objects, [objects], &prompts.has_mask)?,
            ),
        ];
        let outputs = engine.run(objects, inputs)?;
        let geometry = &self.geometry;
        let candidates = objects * geometry.candidates;
        let logits = candidates * geometry.mask_len();
        copy(
            name,
            objects,
            &outputs,
            "mask_logits",
            logits,
            &mut out.logits,
        )?;
        copy(name, objects, &outputs, "iou", candidates, &mut out.iou)?;
        let pointers = candidates * geometry.pointer_len();
        copy(
            name,
            objects,
            &outputs,
            "pointers",
            pointers,
            &mut out.pointers,
        )?;
        copy(
            name,
            objects,
            &outputs,
            "object_score",
            objects,
            &mut out.object_score,
        )
    }

    fn remember(
        &mut self,
        frame: &Features,
        masks: &MaskBatch,
        out: &mut Vec<f32>,
    ) -> Result<(), InferenceError> {
        let objects = masks.objects;
        let engine = &mut self.memory_encoder;
        let name = engine.name;
        let shape = [objects, 1, masks.size[0], masks.size[1]];
        let inputs = [
            ("embedding", (&frame.embedding).into()),
            ("mask_logits", view(name, objects, shape, &masks.logits)?),
            (
                "object_score",
                view(name, objects, [objects, 1], &masks.object_score)?,
            ),
            (
                "from_prompt",
                view(name, objects, [objects], &masks.from_prompt)?,
            ),
        ];
        let outputs = engine.run(objects, inputs)?;
        let len = objects * self.geometry.memory_len();
        copy(name, objects, &outputs, "memory", len, out)
    }
}

impl Engine {
    fn open(
        name: &'static str,
        path: &Path,
        settings: &SessionSettings,
        inputs: &[Expected],
        outputs: &[Expected],
    ) -> Result<Self, ModelError> {
        let session = tracklens_onnx::open(path, settings)?;
        let wrong = |direction, expected: String, found: String| ModelError::Shape {
            path: path.display().to_string(),
            direction,
            expected,
            found,
        };
        for input in session.inputs() {
            let expected = inputs.iter().find(|e| e.name == input.name());
            if !expected.is_some_and(|expected| expected.matches(input.dtype())) {
                let names = || inputs.iter().map(Expected::describe).collect::<Vec<_>>();
                let expected = expected.map_or_else(|| names().join(" or "), Expected::describe);
                return Err(wrong(
                    "input",
                    expected,
                    describe(input.name(), input.dtype()),
                ));
            }
        }
        for expected in outputs {
            let found = session.outputs().iter().find(|o| o.name() == expected.name);
            if !found.is_some_and(|output| expected.matches(output.dtype())) {
                let found = found.map_or_else(
                    || "no such output".to_owned(),
                    |output| describe(output.name(), output.dtype()),
                );
                return Err(wrong("output", expected.describe(), found));
            }
        }
        let inputs = session.inputs().iter().map(|i| i.name().to_owned());
        Ok(Self {
            name,
            inputs: inputs.collect(),
            session,
        })
    }

    /// Height and width that the module declares for an input.
    fn size_of(&self, input: &str) -> Option<[usize; 2]> {
        let input = self.session.inputs().iter().find(|i| i.name() == input)?;
        let ValueType::Tensor { shape, .. } = input.dtype() else {
            return None;
        };
        let [.., height, width] = shape[..] else {
            return None;
        };
        let side = |size: i64| usize::try_from(size).ok().filter(|size| *size > 0);
        Some([side(height)?, side(width)?])
    }

    /// Runs the module on those of the inputs that it declares.
    fn run<'v, const N: usize>(
        &mut self,
        objects: usize,
        inputs: [(&'static str, SessionInputValue<'v>); N],
    ) -> Result<SessionOutputs<'_>, InferenceError> {
        let wanted: Vec<(Cow<'static, str>, SessionInputValue<'v>)> = inputs
            .into_iter()
            .filter(|(name, _)| self.inputs.iter().any(|input| input == name))
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect();
        let name = self.name;
        self.session
            .run(wanted)
            .map_err(|error| failed(name, objects, error.to_string()))
    }
}

impl Expected {
    fn matches(&self, found: &ValueType) -> bool {
        let ValueType::Tensor { ty, shape, .. } = found else {
            return false;
        };
        *ty == self.element
            && shape.len() == self.shape.len()
            && shape.iter().zip(&self.shape).all(|(found, expected)| {
                *found == -1 || expected.is_none_or(|size| *found == size as i64)
            })
    }

    fn describe(&self) -> String {
        let sides = self.shape.iter();
        let sides: Vec<String> = sides
            .map(|side| side.map_or("any".to_owned(), |side| side.to_string()))
            .collect();
        format!("{} {} {}", self.name, self.element, sides.join("×"))
    }
}

fn describe(name: &str, value: &ValueType) -> String {
    match value {
        ValueType::Tensor { ty, shape, .. } => {
            let sides: Vec<String> = shape
                .iter()
                .map(|side| match side {
                    -1 => "any".to_owned(),
                    side => side.to_string(),
                })
                .collect();
            format!("{name} {ty} {}", sides.join("×"))
        }
        other => format!("{name} {other}"),
    }
}

fn encoder_tensors(config: &ModelConfig) -> (Vec<Expected>, Vec<Expected>) {
    let [height, width] = [config.input.height, config.input.width].map(Some);
    let one = Some(1);
    let [c, h, w] = config.geometry.embedding.map(Some);
    let [c0, h0, w0] = config.geometry.high_res_0.map(Some);
    let [c1, h1, w1] = config.geometry.high_res_1.map(Some);
    let inputs = vec![floats("image", &[one, Some(3), height, width])];
    let outputs = vec![
        floats("embedding", &[one, c, h, w]),
        floats("embedding_no_memory", &[one, c, h, w]),
        floats("high_res_0", &[one, c0, h0, w0]),
        floats("high_res_1", &[one, c1, h1, w1]),
    ];
    (inputs, outputs)
}

fn attention_tensors(config: &ModelConfig) -> (Vec<Expected>, Vec<Expected>) {
    let [c, h, w] = config.geometry.embedding.map(Some);
    let memory = Some(config.geometry.memory_channels);
    let inputs = vec![
        floats("embedding", &[Some(1), c, h, w]),
        floats("memory", &[None, None, memory, h, w]),
        whole("memory_time", &[None, None]),
        floats("pointers", &[None, None, c]),
        floats("pointer_time", &[None, None]),
    ];
    (inputs, vec![floats("conditioned", &[None, c, h, w])])
}

fn decoder_inputs(config: &ModelConfig) -> Vec<Expected> {
    let geometry = &config.geometry;
    let [c, h, w] = geometry.embedding.map(Some);
    let [c0, h0, w0] = geometry.high_res_0.map(Some);
    let [c1, h1, w1] = geometry.high_res_1.map(Some);
    vec![
        floats("embedding", &[None, c, h, w]),
        floats("high_res_0", &[Some(1), c0, h0, w0]),
        floats("high_res_1", &[Some(1), c1, h1, w1]),
        floats("point_coords", &[None, None, Some(2)]),
        whole("point_labels", &[None, None]),
        floats("mask_prompt", &[None, Some(1), None, None]),
        floats("has_mask", &[None]),
    ]
}

fn decoder_outputs(config: &ModelConfig) -> Vec<Expected> {
    let geometry = &config.geometry;
    let [mask_height, mask_width] = geometry.mask.map(Some);
    let (candidates, channels) = (Some(geometry.candidates), Some(geometry.pointer_len()));
    vec![
        floats("mask_logits", &[None, candidates, mask_height, mask_width]),
        floats("iou", &[None, candidates]),
        floats("pointers", &[None, candidates, channels]),
        floats("object_score", &[None, Some(1)]),
    ]
}

fn memory_tensors(config: &ModelConfig) -> (Vec<Expected>, Vec<Expected>) {
    let [c, h, w] = config.geometry.embedding.map(Some);
    let memory = Some(config.geometry.memory_channels);
    let inputs = vec![
        floats("embedding", &[Some(1), c, h, w]),
        floats("mask_logits", &[None, Some(1), None, None]),
        floats("object_score", &[None, Some(1)]),
        floats("from_prompt", &[None]),
    ];
    (inputs, vec![floats("memory", &[None, memory, h, w])])
}

fn failed(module: &'static str, objects: usize, reason: String) -> InferenceError {
    InferenceError {
        module,
        objects,
        reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// A view of a buffer as an input.
fn view<'a, T, const N: usize>(
    module: &'static str,
    objects: usize,
    shape: [usize; N],
    data: &'a [T],
) -> Result<SessionInputValue<'a>, InferenceError>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    TensorRef::from_array_view((shape, data))
        .map(Into::into)
        .map_err(|error| failed(module, objects, error.to_string()))
}

/// Copies an output of known length into a buffer.
fn copy(
    module: &'static str,
    objects: usize,
    outputs: &SessionOutputs<'_>,
    name: &str,
    len: usize,
    out: &mut Vec<f32>,
) -> Result<(), InferenceError> {
    let value = outputs
        .get(name)
        .ok_or_else(|| failed(module, objects, format!("no output {name}")))?;
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|error| failed(module, objects, error.to_string()))?;
    if data.len() != len {
        let reason = format!("expected {len} numbers in {name}, came {shape:?}");
        return Err(failed(module, objects, reason));
    }
    out.clear();
    out.extend_from_slice(data);
    Ok(())
}

fn numbers<'v>(
    module: &'static str,
    objects: usize,
    value: &'v DynValue,
) -> Result<&'v [f32], InferenceError> {
    let extracted = value.try_extract_tensor::<f32>();
    let extracted = extracted.map_err(|error| failed(module, objects, error.to_string()))?;
    Ok(extracted.1)
}

fn repeat(
    module: &'static str,
    value: &DynValue,
    objects: usize,
    out: &mut Vec<f32>,
) -> Result<(), InferenceError> {
    let data = numbers(module, objects, value)?;
    out.clear();
    for _ in 0..objects {
        out.extend_from_slice(data);
    }
    Ok(())
}
