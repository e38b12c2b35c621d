//! A prompt strategy as a plug-in: the brightest cells of the frame.
//!
//! Configuration: `{"cells": 8, "count": 3}`, cells per side and how many of them are proposed.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use arrow::array::ArrayRef;
use serde_json::Value;
use tracklens_plugin::schemas::{BBox, FrameRow, Image, PixelEncoding, Prompt};
use tracklens_plugin::schemas::{frame_rows, prompts};
use tracklens_plugin::{Guest, GuestError, Kind, export_plugin};

struct Brightest {
    cells: usize,
    count: usize,
}

export_plugin!(Brightest);

impl Guest for Brightest {
    const KIND: Kind = Kind::PromptStrategy;
    const NAME: &'static CStr = c"brightest";

    fn create(config: &str) -> Result<Self, GuestError> {
        let config: Value = serde_json::from_str(config)?;
        let number = |key: &str, default: u64| match &config[key] {
            Value::Null => Ok(default as usize),
            value => match value.as_u64() {
                Some(number @ 1..=64) => Ok(number as usize),
                _ => Err(format!("{key} should be 1 to 64, is {value}")),
            },
        };
        Ok(Self {
            cells: number("cells", 8)?,
            count: number("count", 3)?,
        })
    }

    fn process(&mut self, batch: ArrayRef) -> Result<ArrayRef, GuestError> {
        let mut found = Vec::new();
        for frame in frame_rows::decode(&batch)?.iter().filter(|row| row.look) {
            found.extend(self.look(frame));
        }
        Ok(prompts::encode(&found))
    }
}

impl Brightest {
    /// The brightest cells, in pixels of the source frame.
    fn look(&self, frame: &FrameRow<'_>) -> Vec<Prompt> {
        let info = frame.image.info;
        let mut cells: Vec<(u64, usize)> = (0..self.cells * self.cells)
            .map(|at| (self.brightness(&frame.image, at), at))
            .collect();
        cells.sort_by_key(|(brightness, at)| (u64::MAX - brightness, *at));
        let side = |at: usize, side: u32| at as f32 * side as f32 / self.cells as f32;
        (0..)
            .zip(cells.into_iter().take(self.count))
            .map(|(prompt_id, (brightness, at))| {
                let (column, row) = (at % self.cells, at / self.cells);
                let (width, height) = (info.source_width, info.source_height);
                let bbox = BBox::new(
                    side(column, width),
                    side(row, height),
                    side(column + 1, width),
                    side(row + 1, height),
                );
                let (x, y) = bbox.center();
                Prompt {
                    prompt_id,
                    points: vec![[x, y]],
                    labels: vec![1],
                    bbox: Some(bbox),
                    mask: None,
                    score: brightness as f32 / 255.0,
                    strategy: "brightest".into(),
                }
            })
            .collect()
    }

    /// Mean brightness of a cell, 0 to 255; 0 where it has no pixel.
    fn brightness(&self, image: &Image<'_>, cell: usize) -> u64 {
        let (width, height) = (image.info.width as usize, image.info.height as usize);
        // The first plane is brightness, or every pixel has three bytes.
        let bytes = match image.info.encoding {
            PixelEncoding::Yuv420p | PixelEncoding::Nv12 => 1,
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => 3,
        };
        let range = |at: usize, side: usize| at * side / self.cells..(at + 1) * side / self.cells;
        let columns = range(cell % self.cells, width);
        let rows = range(cell / self.cells, height);
        let count = (columns.len() * rows.len() * bytes) as u64;
        let sum: u64 = rows
            .flat_map(|y| {
                &image.data[bytes * (y * width + columns.start)..][..bytes * columns.len()]
            })
            .map(|&byte| u64::from(byte))
            .sum();
        sum / count.max(1)
    }
}
