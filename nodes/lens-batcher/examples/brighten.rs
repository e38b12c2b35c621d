//! An enhancer as a plug-in: every pixel a little brighter. Configuration: `{"by": 40}`, of 255.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use arrow::array::ArrayRef;
use serde_json::Value;
use tracklens_plugin::schemas::crops;
use tracklens_plugin::{Guest, GuestError, Kind, export_plugin};

struct Brighten {
    by: u8,
}

export_plugin!(Brighten);

impl Guest for Brighten {
    const KIND: Kind = Kind::Enhancer;
    const NAME: &'static CStr = c"brighten";

    fn create(config: &str) -> Result<Self, GuestError> {
        let config: Value = serde_json::from_str(config)?;
        match config["by"].as_u64().unwrap_or(40) {
            by @ 0..=255 => Ok(Self { by: by as u8 }),
            by => Err(format!("by should be 0 to 255, is {by}").into()),
        }
    }

    /// The same crops, of the same tracks in the same order; their size may change.
    fn process(&mut self, batch: ArrayRef) -> Result<ArrayRef, GuestError> {
        let mut rows = crops::decode(&batch)?;
        for byte in rows.iter_mut().flat_map(|crop| &mut crop.pixels) {
            *byte = byte.saturating_add(self.by);
        }
        Ok(crops::encode(&rows))
    }
}
