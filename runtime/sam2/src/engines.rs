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

mod encoder_thread;
mod lanes;
mod tensors;

use std::ops::Range;
use std::sync::Arc;

use ort::value::DynValue;
use rayon::ThreadPool;
use tracklens_onnx::SessionSettings;

use encoder_thread::{EncoderThread, ImageEncoder};
use lanes::{
    Engine, attention_parts, copy, cut, failed, lanes, numbers, output, parts, pool, repeat,
    side_by_side, view,
};
use tensors::{
    Expected, attention_tensors, decoder_inputs, decoder_outputs, encoder_tensors, memory_tensors,
};

use crate::model_folder::{Geometry, ModelError, ModelFolder};
use crate::modules::{
    Ahead, Decoded, InferenceError, Look, MaskBatch, MemoryBatch, Modules, PromptBatch,
};

/// A loaded model.
#[derive(Debug)]
pub struct Engines {
    geometry: Geometry,
    mask_prompt: [usize; 2],
    image_encoder: EncoderThread,
    memory_attention: Engine,
    mask_decoder: Engine,
    memory_encoder: Engine,
    /// Where parts of a batch are worked on beside the first.
    pool: ThreadPool,
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

/// A part of the objects of a tensor.
struct Share<'v> {
    value: &'v DynValue,
    /// Objects that it holds.
    of: usize,
    /// Those that are meant.
    part: Range<usize>,
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
            pool: pool(lanes)?,
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

    /// All objects in about `lanes` parts, and where each lies.
    fn shares(&self, lanes: usize) -> Vec<(Range<usize>, Option<Share<'_>>)> {
        let lanes = lanes / self.0.len().max(1);
        let shares = self.0.iter().flat_map(|(all, value)| {
            let parts = parts(all.len(), lanes).into_iter();
            parts.map(move |part| {
                let of = all.len();
                let place = all.start + part.start..all.start + part.end;
                (place, Some(Share { value, of, part }))
            })
        });
        shares.collect()
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

impl Modules for Engines {
    type Frame = Features;
    type Conditioned = Conditioned;

    fn mask_prompt(&self) -> [usize; 2] {
        self.mask_prompt
    }

    fn encode_image(&mut self, pixels: &[f32]) -> Result<Features, InferenceError> {
        self.image_encoder.encode(pixels)
    }

    fn encode_ahead(&mut self, pixels: Vec<f32>) -> Ahead<Features> {
        self.image_encoder.encode_ahead(pixels)
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
        let busy = self.image_encoder.is_busy();
        let parts = attention_parts(batch.objects, engine.sessions.len(), busy);
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
        side_by_side(&self.pool, work).map(Conditioned)
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
        let lanes = engine.sessions.len();
        let parts: Vec<(Range<usize>, Option<Share<'_>>)> = match look {
            Look::Conditioned(conditioned) => conditioned.shares(lanes),
            _ => parts(prompts.objects, lanes)
                .into_iter()
                .map(|part| (part, None))
                .collect(),
        };
        if let Some(value) = alike {
            let most = parts.iter().map(|(part, _)| part.len()).max().unwrap_or(0);
            repeat(name, value, most, &mut self.repeated)?;
        }
        let (repeated, geometry) = (&self.repeated, self.geometry);
        let [channels, height, width] = geometry.embedding;
        let [mask_height, mask_width] = self.mask_prompt;
        let points = prompts.points;
        let all_candidates = [i64::from(prompts.all_candidates)];
        let mut places = out.places(prompts.objects, &geometry);
        let outs: Vec<[&mut [f32]; 4]> = parts
            .iter()
            .map(|(part, _)| {
                places
                    .each_mut()
                    .map(|(len, rest)| cut(rest, part.len() * *len))
            })
            .collect();
        let work = parts.into_iter().zip(engine.lanes()).zip(outs);
        let work = work.map(|(((part, share), mut session), out)| {
            move || {
                let objects = part.len();
                let shape = [objects, channels, height, width];
                let len = channels * height * width;
                let embedding = match share {
                    Some(Share { value, of, part }) if part == (0..of) => value.into(),
                    Some(Share { value, of, part }) => {
                        let all = numbers(name, of, value)?;
                        let own = all.get(part.start * len..part.end * len);
                        let short = || failed(name, of, "too few numbers in conditioned".into());
                        view(name, objects, shape, own.ok_or_else(short)?)?
                    }
                    None => view(name, objects, shape, &repeated[..objects * len])?,
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
                    ("all_candidates", view(name, objects, [1], &all_candidates)?),
                ];
                let outputs = session.run(objects, inputs)?;
                let names = ["mask_logits", "iou", "pointers", "object_score"];
                names
                    .into_iter()
                    .zip(out)
                    .try_for_each(|(output, out)| copy(name, objects, &outputs, output, out))
            }
        });
        side_by_side(&self.pool, work).map(|_| ())
    }

    fn remember(
        &mut self,
        frame: &Features,
        masks: &MaskBatch,
    ) -> Result<Vec<Arc<[f32]>>, InferenceError> {
        let engine = &mut self.memory_encoder;
        let name = engine.name;
        let [height, width] = masks.size;
        let memory_len = self.geometry.memory_len();
        let parts = parts(masks.objects, engine.sessions.len());
        let work = parts.into_iter().zip(engine.lanes());
        let work = work.map(|(part, mut session)| {
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
                let memories = output(name, objects, &outputs, "memory", objects * memory_len)?;
                Ok(memories.chunks_exact(memory_len).map(Arc::from).collect())
            }
        });
        side_by_side(&self.pool, work)
            .map(|parts: Vec<Vec<_>>| parts.into_iter().flatten().collect())
    }
}
