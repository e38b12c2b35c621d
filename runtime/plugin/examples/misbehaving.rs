//! A plug-in that does wrong on request, for the tests: `{"does": "panic", "times": 1}` does it for
//! that many batches with rows, `{"does": "columns"}` without `times` for all batches.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray, new_empty_array};
use serde_json::Value;
use tracklens_plugin::schemas::{BBox, Prompt, prompts};
use tracklens_plugin::{Guest, GuestError, Kind, export_plugin};

struct Misbehaving {
    does: String,
    times: Option<u64>,
}

export_plugin!(Misbehaving);

impl Guest for Misbehaving {
    const KIND: Kind = Kind::PromptStrategy;
    const NAME: &'static CStr = c"misbehaving";

    fn create(config: &str) -> Result<Self, GuestError> {
        let config: Value = serde_json::from_str(config)?;
        match config["does"].as_str().unwrap_or("good") {
            "refuse" => Err("does is set to\0refuse".into()),
            "panic-at-once" => panic!("no configuration like this"),
            does => Ok(Self {
                does: does.into(),
                times: config["times"].as_u64(),
            }),
        }
    }

    fn process(&mut self, batch: ArrayRef) -> Result<ArrayRef, GuestError> {
        match &mut self.times {
            Some(0) => return Ok(prompts::encode(&[prompt(0.5)])),
            Some(_) if batch.is_empty() => {
                return Ok(new_empty_array(&Kind::PromptStrategy.output()));
            }
            Some(times) => *times -= 1,
            None => {}
        }
        match self.does.as_str() {
            "panic" => panic!("a panic on request"),
            "error" => Err("an error on request".into()),
            "columns" => {
                let rows = prompts::encode(&[prompt(0.5)]);
                let rows = StructArray::from(rows.to_data());
                let columns = rows.fields().iter().cloned().zip(rows.columns().to_vec());
                let kept: Vec<_> = columns
                    .filter(|(field, _)| field.name() != "score")
                    .collect();
                Ok(Arc::new(StructArray::from(kept)))
            }
            "no-struct" => Ok(Arc::new(arrow::array::Int8Array::from(vec![1]))),
            "outside" => Ok(prompts::encode(&[Prompt {
                bbox: Some(BBox::new(9e8, 0.0, 9e9, 8.0)),
                ..prompt(0.5)
            }])),
            "hostile" => Ok(prompts::encode(&[prompt(f32::NAN)])),
            _ => Ok(prompts::encode(&[prompt(0.5)])),
        }
    }
}

fn prompt(score: f32) -> Prompt {
    Prompt {
        prompt_id: 0,
        points: vec![],
        labels: vec![],
        bbox: Some(BBox::new(2.0, 2.0, 8.0, 8.0)),
        mask: None,
        score,
        strategy: "misbehaving".into(),
    }
}
