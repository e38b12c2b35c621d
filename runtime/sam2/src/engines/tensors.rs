//! Names, types and shapes of the tensors that the four modules must have (docs/models.md).

use ort::value::{TensorElementType, ValueType};

use crate::model_folder::ModelConfig;

/// A dimension of an expected tensor: a size, or anything.
type Dim = Option<usize>;

/// Name, type and shape of a tensor.
pub(super) struct Expected {
    pub(super) name: &'static str,
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

impl Expected {
    pub(super) fn matches(&self, found: &ValueType) -> bool {
        let ValueType::Tensor { ty, shape, .. } = found else {
            return false;
        };
        *ty == self.element
            && shape.len() == self.shape.len()
            && shape.iter().zip(&self.shape).all(|(found, expected)| {
                *found == -1 || expected.is_none_or(|size| *found == size as i64)
            })
    }

    pub(super) fn describe(&self) -> String {
        let sides = self.shape.iter();
        let sides: Vec<String> = sides
            .map(|side| side.map_or("any".to_owned(), |side| side.to_string()))
            .collect();
        format!("{} {} {}", self.name, self.element, sides.join("×"))
    }
}

pub(super) fn describe(name: &str, value: &ValueType) -> String {
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

pub(super) fn encoder_tensors(config: &ModelConfig) -> (Vec<Expected>, Vec<Expected>) {
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

pub(super) fn attention_tensors(config: &ModelConfig) -> (Vec<Expected>, Vec<Expected>) {
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

pub(super) fn decoder_inputs(config: &ModelConfig) -> Vec<Expected> {
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
        whole("all_candidates", &[Some(1)]),
    ]
}

pub(super) fn decoder_outputs(config: &ModelConfig) -> Vec<Expected> {
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

pub(super) fn memory_tensors(config: &ModelConfig) -> (Vec<Expected>, Vec<Expected>) {
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
