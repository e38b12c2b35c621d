//! A model run by ONNX Runtime.
//!
//! Small models gain little from threads inside an inference: their operations are over before a
//! second thread has woken up. So each of their sessions has one thread, there are as many sessions of
//! a module as threads, and each takes a part of the objects of a batch. Frames that are known to
//! come are encoded by a thread of its own meanwhile.
//!
//! Inputs are views of our buffers. What only travels from one module to the next (features,
//! conditioned embeddings) stays in ONNX Runtime's own tensors; what the tracker looks at is copied
//! once.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};
use tracklens_onnx::SessionSettings;

use crate::model_folder::{Geometry, ModelConfig, ModelError, ModelFolder};
use crate::modules::{
    Ahead, Decoded, Encoded, InferenceError, Look, MaskBatch, MemoryBatch, Modules, PromptBatch,
};

/// Files of a model whose sessions have one thread each, in bytes, all together at most.
const SMALL: u64 = 64 << 20;

/// A loaded model.
#[derive(Debug)]
pub struct Engines {
    geometry: Geometry,
    mask_prompt: [usize; 2],
    image_encoder: EncoderThread,
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

/// A frame as the memory attention shows it to a batch of objects: part by part.
#[derive(Debug)]
pub struct Conditioned(Vec<(Range<usize>, DynValue)>);

/// One module: a session for each part of a batch that is worked on at the same time.
#[derive(Debug)]
struct Engine {
    name: &'static str,
    sessions: Vec<Session>,
    inputs: Vec<String>,
}

/// The image encoder, and a thread that runs it.
#[derive(Debug)]
struct EncoderThread {
    encoder: Arc<Mutex<ImageEncoder>>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct ImageEncoder {
    engine: Engine,
    /// Height and width.
    input: [usize; 2],
}

/// A frame's tensor, and who wants the features.
type Job = (Vec<f32>, mpsc::Sender<Encoded<Features>>);

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
        let (lanes, sessions) = lanes(folder, settings)?;
        let open = |(name, path): &(&'static str, std::path::PathBuf),
                    lanes: usize,
                    inputs: &[Expected],
                    outputs: &[Expected]| {
            Engine::open(name, path, (lanes, &sessions), inputs, outputs)
        };
        let (inputs, outputs) = encoder_tensors(config);
        let image_encoder = EncoderThread::start(ImageEncoder {
            engine: open(&image_encoder, 1, &inputs, &outputs)?,
            input: [config.input.height, config.input.width],
        })?;
        let (inputs, outputs) = attention_tensors(config);
        let memory_attention = open(&memory_attention, lanes, &inputs, &outputs)?;
        let mask_decoder = open(
            &mask_decoder,
            lanes,
            &decoder_inputs,
            &decoder_outputs(config),
        )?;
        let (inputs, outputs) = memory_tensors(config);
        let memory_encoder = open(&memory_encoder, lanes, &inputs, &outputs)?;
        let mask_prompt = mask_decoder
            .size_of("mask_prompt")
            .unwrap_or(config.geometry.mask);
        Ok(Self {
            geometry: config.geometry,
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

impl Conditioned {
    /// One tensor of so many objects, for comparisons.
    #[must_use]
    pub fn whole(objects: usize, value: DynValue) -> Self {
        Self(vec![(0..objects, value)])
    }

    /// The numbers of all objects.
    ///
    /// # Errors
    /// Where they are not at hand as f32.
    pub fn numbers(&self) -> Result<Vec<f32>, InferenceError> {
        let mut all = Vec::new();
        for (part, value) in &self.0 {
            all.extend_from_slice(numbers("memory_attention", part.len(), value)?);
        }
        Ok(all)
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

impl ImageEncoder {
    fn encode(&mut self, pixels: &[f32]) -> Result<Features, InferenceError> {
        let engine = &mut self.engine;
        let (name, [height, width]) = (engine.name, self.input);
        let mut session = engine.first()?;
        let image = view(name, 1, [1, 3, height, width], pixels)?;
        let mut outputs = session.run(1, [("image", image)])?;
        let mut take = |output: &'static str| {
            let missing = || failed(name, 1, format!("no output {output}"));
            outputs.remove(output).ok_or_else(missing)
        };
        Ok(Features {
            embedding: take("embedding")?,
            without_memory: take("embedding_no_memory")?,
            high_res_0: take("high_res_0")?,
            high_res_1: take("high_res_1")?,
        })
    }
}

impl EncoderThread {
    fn start(encoder: ImageEncoder) -> Result<Self, ModelError> {
        let encoder = Arc::new(Mutex::new(encoder));
        let (jobs, incoming) = mpsc::channel::<Job>();
        let own = encoder.clone();
        let thread = std::thread::Builder::new()
            .name("image-encoder".into())
            .spawn(move || {
                for (pixels, wanted) in incoming {
                    let start = Instant::now();
                    let frame = lock(&own).encode(&pixels);
                    // Nobody may want it any more.
                    let _sent = wanted.send(Encoded {
                        pixels,
                        frame,
                        time: start.elapsed(),
                    });
                }
            })
            .map_err(|error| ModelError::Thread(error.to_string()))?;
        Ok(Self {
            encoder,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }
}

impl Drop for EncoderThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many sessions of a module work side by side, and how each is made.
fn lanes(
    folder: &ModelFolder,
    settings: &SessionSettings,
) -> Result<(usize, SessionSettings), ModelError> {
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let bytes = folder.modules().map(|(_, file)| {
        let file = std::fs::metadata(folder.path.join(&file.file));
        file.map_or(0, |file| file.len())
    });
    let small = bytes.iter().sum::<u64>() <= SMALL;
    if small && tracklens_onnx::on_cpu(settings)? {
        let single = SessionSettings {
            threads: 1,
            ..settings.clone()
        };
        Ok((threads, single))
    } else {
        Ok((1, settings.clone()))
    }
}

impl Modules for Engines {
    type Frame = Features;
    type Conditioned = Conditioned;

    fn mask_prompt(&self) -> [usize; 2] {
        self.mask_prompt
    }

    fn encode_image(&mut self, pixels: &[f32]) -> Result<Features, InferenceError> {
        lock(&self.image_encoder.encoder).encode(pixels)
    }

    fn encode_ahead(&mut self, pixels: Vec<f32>) -> Ahead<Features> {
        let (wanted, encoded) = mpsc::channel();
        if let Some(jobs) = &self.image_encoder.jobs {
            // A thread that is gone drops the sender, which the receiver finds out.
            let _sent = jobs.send((pixels, wanted));
        }
        Ahead::Coming(encoded)
    }

    fn embedding<'a>(&self, frame: &'a Features) -> Result<&'a [f32], InferenceError> {
        numbers("image_encoder", 1, &frame.embedding)
    }

    fn attend(
        &mut self,
        frame: &Features,
        batch: &MemoryBatch,
    ) -> Result<Conditioned, InferenceError> {
        let engine = &mut self.memory_attention;
        let name = engine.name;
        let [channels, height, width] = self.geometry.embedding;
        let memory_channels = self.geometry.memory_channels;
        let parts = parts(batch.objects, engine.sessions.len());
        let work = parts.into_iter().zip(engine.lanes());
        let work = work.map(|(part, mut session)| {
            move || {
                let objects = part.len();
                let slots = part.start * batch.memories..part.end * batch.memories;
                let points = part.start * batch.pointers..part.end * batch.pointers;
                let memory_len = memory_channels * height * width;
                let memory = &batch.memory[slots.start * memory_len..slots.end * memory_len];
                let pointers = &batch.pointer[points.start * channels..points.end * channels];
                let shape = [objects, batch.memories, memory_channels, height, width];
                let times = [objects, batch.memories];
                let ages = [objects, batch.pointers];
                let same = batch.same_frames(part.clone());
                let (frames, newest) = ([same.frames.len()], [same.newest.len()]);
                let inputs = [
                    ("embedding", (&frame.embedding).into()),
                    ("memory", view(name, objects, shape, memory)?),
                    (
                        "memory_time",
                        view(name, objects, times, &batch.memory_time[slots])?,
                    ),
                    ("frames", view(name, objects, frames, &same.frames)?),
                    (
                        "memory_frame",
                        view(name, objects, times, &same.memory_frame)?,
                    ),
                    ("newest", view(name, objects, newest, &same.newest)?),
                    (
                        "newest_frame",
                        view(name, objects, [objects], &same.newest_frame)?,
                    ),
                    (
                        "pointers",
                        view(name, objects, [objects, batch.pointers, channels], pointers)?,
                    ),
                    (
                        "pointer_time",
                        view(name, objects, ages, &batch.pointer_time[points])?,
                    ),
                ];
                let mut outputs = session.run(objects, inputs)?;
                let conditioned = outputs.remove("conditioned");
                let missing = || failed(name, objects, "no output conditioned".into());
                Ok((part, conditioned.ok_or_else(missing)?))
            }
        });
        side_by_side(work).map(Conditioned)
    }

    fn decode(
        &mut self,
        frame: &Features,
        look: Look<'_, Conditioned>,
        prompts: &PromptBatch,
        out: &mut Decoded,
    ) -> Result<(), InferenceError> {
        let engine = &mut self.mask_decoder;
        let name = engine.name;
        let alike = match look {
            Look::Conditioned(_) => None,
            Look::NoMemory => Some(&frame.without_memory),
            Look::Plain => Some(&frame.embedding),
        };
        let conditioned = match look {
            Look::Conditioned(Conditioned(parts)) => Some(parts),
            _ => None,
        };
        let parts = match conditioned {
            Some(parts) => parts.iter().map(|(part, _)| part.clone()).collect(),
            None => parts(prompts.objects, engine.sessions.len()),
        };
        if let Some(value) = alike {
            let most = parts.iter().map(Range::len).max().unwrap_or(0);
            repeat(name, value, most, &mut self.repeated)?;
        }
        let (repeated, geometry) = (&self.repeated, self.geometry);
        let [channels, height, width] = geometry.embedding;
        let [mask_height, mask_width] = self.mask_prompt;
        let points = prompts.points;
        let mut places = out.places(prompts.objects, &geometry);
        let outs: Vec<[&mut [f32]; 4]> = parts
            .iter()
            .map(|part| {
                places
                    .each_mut()
                    .map(|(len, rest)| cut(rest, part.len() * *len))
            })
            .collect();
        let work = parts.into_iter().zip(engine.lanes()).zip(outs);
        let work = work.enumerate().map(|(at, ((part, mut session), out))| {
            move || {
                let objects = part.len();
                let embedding = match conditioned {
                    Some(parts) => (&parts[at].1).into(),
                    None => {
                        let len = objects * channels * height * width;
                        let shape = [objects, channels, height, width];
                        view(name, objects, shape, &repeated[..len])?
                    }
                };
                let each = |len: usize| part.start * len..part.end * len;
                let masks = [objects, 1, mask_height, mask_width];
                let inputs = [
                    ("embedding", embedding),
                    ("high_res_0", (&frame.high_res_0).into()),
                    ("high_res_1", (&frame.high_res_1).into()),
                    (
                        "point_coords",
                        view(
                            name,
                            objects,
                            [objects, points, 2],
                            &prompts.coords[each(2 * points)],
                        )?,
                    ),
                    (
                        "point_labels",
                        view(
                            name,
                            objects,
                            [objects, points],
                            &prompts.labels[each(points)],
                        )?,
                    ),
                    (
                        "mask_prompt",
                        view(
                            name,
                            objects,
                            masks,
                            &prompts.masks[each(mask_height * mask_width)],
                        )?,
                    ),
                    (
                        "has_mask",
                        view(name, objects, [objects], &prompts.has_mask[each(1)])?,
                    ),
                ];
                let outputs = session.run(objects, inputs)?;
                let names = ["mask_logits", "iou", "pointers", "object_score"];
                names
                    .into_iter()
                    .zip(out)
                    .try_for_each(|(output, out)| copy(name, objects, &outputs, output, out))
            }
        });
        side_by_side(work).map(|_| ())
    }

    fn remember(
        &mut self,
        frame: &Features,
        masks: &MaskBatch,
        out: &mut Vec<f32>,
    ) -> Result<(), InferenceError> {
        let engine = &mut self.memory_encoder;
        let name = engine.name;
        let [height, width] = masks.size;
        let memory_len = self.geometry.memory_len();
        out.resize(masks.objects * memory_len, 0.0);
        let parts = parts(masks.objects, engine.sessions.len());
        let mut rest = out.as_mut_slice();
        let outs: Vec<&mut [f32]> = parts
            .iter()
            .map(|part| cut(&mut rest, part.len() * memory_len))
            .collect();
        let work = parts.into_iter().zip(engine.lanes()).zip(outs);
        let work = work.map(|((part, mut session), out)| {
            move || {
                let objects = part.len();
                let shape = [objects, 1, height, width];
                let logits = &masks.logits[part.start * height * width..part.end * height * width];
                let inputs = [
                    ("embedding", (&frame.embedding).into()),
                    ("mask_logits", view(name, objects, shape, logits)?),
                    (
                        "object_score",
                        view(
                            name,
                            objects,
                            [objects, 1],
                            &masks.object_score[part.clone()],
                        )?,
                    ),
                    (
                        "from_prompt",
                        view(name, objects, [objects], &masks.from_prompt[part])?,
                    ),
                ];
                let outputs = session.run(objects, inputs)?;
                copy(name, objects, &outputs, "memory", out)
            }
        });
        side_by_side(work).map(|_| ())
    }
}

/// A batch in at most `lanes` parts of nearly equal size.
fn parts(objects: usize, lanes: usize) -> Vec<Range<usize>> {
    let lanes = lanes.clamp(1, objects.max(1));
    let border = |lane: usize| objects * lane / lanes;
    (0..lanes)
        .map(|lane| border(lane)..border(lane + 1))
        .collect()
}

/// Takes the first numbers off a slice.
fn cut<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (first, others) = std::mem::take(rest).split_at_mut(len);
    *rest = others;
    first
}

/// Does all of it at the same time, the first on this thread.
fn side_by_side<T: Send>(
    work: impl Iterator<Item = impl FnOnce() -> Result<T, InferenceError> + Send>,
) -> Result<Vec<T>, InferenceError> {
    std::thread::scope(|scope| {
        let mut work = work;
        let Some(own) = work.next() else {
            return Ok(Vec::new());
        };
        let others: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        let mut all = vec![own()];
        all.extend(others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        all.into_iter().collect()
    })
}

impl Engine {
    fn open(
        name: &'static str,
        path: &Path,
        (lanes, settings): (usize, &SessionSettings),
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
        let inputs = inputs.collect();
        let mut sessions = vec![session];
        for _ in 1..lanes {
            sessions.push(tracklens_onnx::open(path, settings)?);
        }
        Ok(Self {
            name,
            inputs,
            sessions,
        })
    }

    /// Height and width that the module declares for an input.
    fn size_of(&self, input: &str) -> Option<[usize; 2]> {
        let session = self.sessions.first()?;
        let input = session.inputs().iter().find(|i| i.name() == input)?;
        let ValueType::Tensor { shape, .. } = input.dtype() else {
            return None;
        };
        let [.., height, width] = shape[..] else {
            return None;
        };
        let side = |size: i64| usize::try_from(size).ok().filter(|size| *size > 0);
        Some([side(height)?, side(width)?])
    }

    /// The sessions, ready to run beside each other.
    fn lanes(&mut self) -> impl Iterator<Item = Lane<'_>> {
        let (name, inputs) = (self.name, &self.inputs);
        self.sessions.iter_mut().map(move |session| Lane {
            name,
            session,
            inputs,
        })
    }

    fn first(&mut self) -> Result<Lane<'_>, InferenceError> {
        let none = failed(self.name, 1, "no session".into());
        self.lanes().next().ok_or(none)
    }
}

/// One session of a module.
struct Lane<'e> {
    name: &'static str,
    session: &'e mut Session,
    inputs: &'e [String],
}

impl Lane<'_> {
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
        whole("frames", &[None]),
        whole("memory_frame", &[None, None]),
        whole("newest", &[None]),
        whole("newest_frame", &[None]),
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

/// Copies an output into a buffer of its length.
fn copy(
    module: &'static str,
    objects: usize,
    outputs: &SessionOutputs<'_>,
    name: &str,
    out: &mut [f32],
) -> Result<(), InferenceError> {
    let value = outputs
        .get(name)
        .ok_or_else(|| failed(module, objects, format!("no output {name}")))?;
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|error| failed(module, objects, error.to_string()))?;
    if data.len() != out.len() {
        let reason = format!("expected {} numbers in {name}, came {shape:?}", out.len());
        return Err(failed(module, objects, reason));
    }
    out.copy_from_slice(data);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_cover_a_batch_and_differ_by_one_at_most(objects in 0usize..70, lanes in 1usize..9) {
            let parts = parts(objects, lanes);
            let ends: Vec<usize> = parts.iter().map(|part| part.end).collect();
            let starts: Vec<usize> = parts.iter().map(|part| part.start).collect();
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(&starts[1..], &ends[..ends.len() - 1]);
            prop_assert_eq!(ends[ends.len() - 1], objects);
            let sizes = parts.iter().map(Range::len);
            let (least, most) = (sizes.clone().min(), sizes.max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
            prop_assert!(parts.len() <= lanes);
        }
    }
}
