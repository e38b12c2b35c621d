//! An identifier as a plug-in: what is mostly red, green or blue is called so.
//!
//! Configuration: `{"least": 20}`, how much the strongest colour must be above the mean, of 255.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use arrow::array::ArrayRef;
use serde_json::Value;
use tracklens_plugin::schemas::{Crop, Identification, Outcome, crops, identifications};
use tracklens_plugin::{Guest, GuestError, Kind, export_plugin};

struct ByColour {
    least: f32,
}

export_plugin!(ByColour);

impl Guest for ByColour {
    const KIND: Kind = Kind::Identifier;
    const NAME: &'static CStr = c"by-colour";

    fn create(config: &str) -> Result<Self, GuestError> {
        let config: Value = serde_json::from_str(config)?;
        let least = config["least"].as_f64().unwrap_or(20.0) as f32;
        Ok(Self { least })
    }

    /// One row per crop, in the same order.
    fn process(&mut self, batch: ArrayRef) -> Result<ArrayRef, GuestError> {
        let rows: Vec<Identification> = crops::decode(&batch)?
            .iter()
            .map(|crop| self.identify(crop))
            .collect();
        Ok(identifications::encode(&rows))
    }
}

impl ByColour {
    fn identify(&self, crop: &Crop) -> Identification {
        let pixels = crop.pixels.len().max(3) as f32 / 3.0;
        let mean = |channel: usize| {
            let bytes = crop.pixels.iter().skip(channel).step_by(3);
            bytes.map(|byte| f32::from(*byte)).sum::<f32>() / pixels
        };
        let means = [mean(0), mean(1), mean(2)];
        let grey = means.iter().sum::<f32>() / 3.0;
        let names = ["red thing", "green thing", "blue thing"];
        let strongest = means.iter().zip(names).max_by(|a, b| a.0.total_cmp(b.0));
        let found = strongest.filter(|(mean, _)| *mean - grey >= self.least);
        Identification {
            track_id: crop.track_id,
            name: found.map_or("", |(_, name)| name).into(),
            category: "colour".into(),
            description: String::new(),
            confidence: found.map_or(0.0, |(mean, _)| (mean - grey) / 255.0),
            dimensions: None,
            // The host writes its own words here.
            backend: String::new(),
            cached: false,
            attempts: 1,
            outcome: if found.is_some() {
                Outcome::Identified
            } else {
                Outcome::Unknown
            },
            error: None,
        }
    }
}
