//! `file`: prompts written by hand, or by a tool that knows the objects: a JSON or YAML list of
//!
//! ```yaml
//! - {frame: 0, points: [[120, 80], [10, 10]], labels: [1, 0]}       # any stream
//! - {stream_id: door, frame: 30, box: [10, 20, 110, 220]}
//! - {stream_id: door, frame: 30, mask: {size: [480, 854], counts: "…"}}
//! ```
//!
//! Coordinates are pixels of the source frame; `frame` counts from 0 in every epoch; `counts` are
//! COCO's compressed runs. Points may stand beside a box; without labels they are all on the object.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};
use tracklens_schemas::{BBox, Mask, Prompt, StreamId};

use crate::strategy::{Frame, Strategy};
use crate::{PromptFileError, Proposal, StrategyError};

/// Name of the strategy.
pub(crate) const NAME: &str = "file";
const KEYS: [&str; 6] = ["stream_id", "frame", "points", "labels", "box", "mask"];

/// One prompt of the file.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Its place in the list, from 1.
    number: usize,
    /// The stream; `None`: any.
    stream: Option<StreamId>,
    points: Vec<[f32; 2]>,
    labels: Vec<i8>,
    bbox: Option<BBox>,
    mask: Option<Mask>,
}

/// A file of prompts, by frame.
#[derive(Clone, Debug, Default)]
pub struct PromptFile {
    frames: BTreeMap<u64, Vec<Entry>>,
}

impl PromptFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or with everything that is wrong in it.
    pub fn read(path: &Path) -> Result<Self, StrategyError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| StrategyError::Unreadable {
            path: name.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self::parse(&text).map_err(|mistakes| PromptFileError {
            path: name,
            mistakes,
        })?)
    }

    /// Reads the list itself.
    ///
    /// # Errors
    /// Every mistake in it, each with the number of its entry.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let items = match list(text)? {
            Value::Sequence(items) if !items.is_empty() => items,
            Value::Sequence(_) | Value::Null => return Err(vec!["the list is empty".into()]),
            _ => return Err(vec!["expected a list of prompts".into()]),
        };
        let mut mistakes = Vec::new();
        let mut frames: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for (number, item) in (1..).zip(items) {
            let mut reader = Reader {
                number,
                mistakes: Vec::new(),
            };
            let entry = reader.entry(item);
            if let (Some((frame, entry)), true) = (entry, reader.mistakes.is_empty()) {
                frames.entry(frame).or_default().push(entry);
            }
            mistakes.extend(reader.mistakes);
        }
        if mistakes.is_empty() {
            Ok(Self { frames })
        } else {
            Err(mistakes)
        }
    }

    /// The prompts for a frame of this size in pixels, in the order of the file; and what had to be
    /// left out, because it lies outside the frame.
    #[must_use]
    pub fn prompts(
        &self,
        stream: &StreamId,
        frame: u64,
        size: (u32, u32),
    ) -> (Vec<Prompt>, Vec<String>) {
        let mut prompts = Vec::new();
        let mut misfits = Vec::new();
        let entries = self.frames.get(&frame).into_iter().flatten();
        for entry in entries.filter(|e| e.stream.as_ref().is_none_or(|own| own == stream)) {
            match entry.prompt(prompts.len() as u32, size) {
                Ok(prompt) => prompts.push(prompt),
                Err(misfit) => misfits.push(format!("entry {}: {misfit}", entry.number)),
            }
        }
        (prompts, misfits)
    }
}

impl Entry {
    fn prompt(&self, prompt_id: u32, (width, height): (u32, u32)) -> Result<Prompt, String> {
        let inside = |[x, y]: [f32; 2]| x < width as f32 && y < height as f32;
        if let Some([x, y]) = self.points.iter().find(|point| !inside(**point)) {
            return Err(format!(
                "the point [{x}, {y}] lies outside the frame of {width}x{height} pixels"
            ));
        }
        let bbox = self.bbox.map(|bbox| bbox.clamp(width, height));
        if bbox.is_some_and(|bbox| bbox.area() <= 0.0) {
            return Err(format!(
                "the box lies outside the frame of {width}x{height} pixels"
            ));
        }
        let size = |mask: &Mask| (mask.width(), mask.height());
        if let Some((w, h)) = self.mask.as_ref().map(size)
            && (w, h) != (width, height)
        {
            return Err(format!(
                "the mask's size is [{h}, {w}], expected the frame's [{height}, {width}]"
            ));
        }
        Ok(Prompt {
            prompt_id,
            points: self.points.clone(),
            labels: self.labels.clone(),
            bbox,
            mask: self.mask.as_ref().map(Mask::encode),
            score: 1.0,
            strategy: NAME.into(),
        })
    }
}

/// The list as YAML, of which JSON is a part, except for tabs.
fn list(text: &str) -> Result<Value, Vec<String>> {
    let yaml = serde_yaml::from_str::<Value>(text);
    yaml.or_else(|error| match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text).map_err(|error| vec![format!("not JSON: {error}")]),
        false => Err(vec![format!("not YAML: {error}")]),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskText {
    size: [u32; 2],
    counts: String,
}

/// Reads one entry and collects what is wrong with it.
struct Reader {
    number: usize,
    mistakes: Vec<String>,
}

impl Reader {
    fn mistake(&mut self, what: impl std::fmt::Display) {
        self.mistakes.push(format!("entry {}: {what}", self.number));
    }

    fn field<T: DeserializeOwned>(&mut self, entry: &Mapping, key: &str, is: &str) -> Option<T> {
        let value = entry.get(key).filter(|value| !value.is_null())?;
        serde_yaml::from_value(value.clone())
            .map_err(|error| self.mistake(format!("`{key}` should be {is}: {error}")))
            .ok()
    }

    fn entry(&mut self, item: Value) -> Option<(u64, Entry)> {
        let Value::Mapping(entry) = item else {
            self.mistake("expected {frame, and points, box or mask}");
            return None;
        };
        for key in entry.keys() {
            if !key.as_str().is_some_and(|key| KEYS.contains(&key)) {
                let name = key.as_str().unwrap_or("(no text)");
                self.mistake(format!(
                    "unknown key `{name}`, expected {}",
                    KEYS.join(", ")
                ));
            }
        }
        let stream = self.field::<StreamId>(&entry, "stream_id", "the id of a stream");
        let frame = self.field::<u64>(&entry, "frame", "the number of a frame, from 0");
        let has = |key: &str| entry.get(key).is_some_and(|value| !value.is_null());
        if !has("frame") {
            self.mistake("`frame` is missing: the number of a frame, from 0");
        }
        if !(has("points") || has("box") || has("mask")) {
            self.mistake("needs points, a box or a mask");
        }
        if has("mask") && (has("points") || has("box")) {
            self.mistake("a mask stands alone: leave out points and box");
        }
        let (points, labels) = self.points(&entry);
        let bbox = self.bbox(&entry);
        let mask = self.mask(&entry);
        let entry = Entry {
            number: self.number,
            stream,
            points,
            labels,
            bbox,
            mask,
        };
        Some((frame?, entry))
    }

    fn points(&mut self, entry: &Mapping) -> (Vec<[f32; 2]>, Vec<i8>) {
        let points: Option<Vec<[f32; 2]>> =
            self.field(entry, "points", "a list of [x, y] in pixels");
        let labels: Option<Vec<i8>> =
            self.field(entry, "labels", "a list of 1 (object) and 0 (background)");
        let points = points.unwrap_or_default();
        let is_place = |number: f32| number.is_finite() && number >= 0.0;
        if let Some([x, y]) = points.iter().find(|[x, y]| !is_place(*x) || !is_place(*y)) {
            self.mistake(format!("the point [{x}, {y}] should be 0 or more in both"));
        }
        let labels = labels.unwrap_or_else(|| vec![1; points.len()]);
        if labels.iter().any(|label| !(0..=1).contains(label)) {
            self.mistake(format!("labels should be 0 or 1, are {labels:?}"));
        }
        if labels.len() != points.len() {
            self.mistake(format!(
                "has {} labels for {} points: there should be one for each",
                labels.len(),
                points.len()
            ));
        }
        let wants_object = entry.get("box").is_none() && !points.is_empty();
        if wants_object && labels.iter().all(|label| *label == 0) {
            self.mistake("no point lies on the object (label 1)");
        }
        (points, labels)
    }

    fn bbox(&mut self, entry: &Mapping) -> Option<BBox> {
        let edges: [f32; 4] = self.field(entry, "box", "[x0, y0, x1, y1] in pixels")?;
        let bbox = BBox::from(edges);
        if bbox.is_valid() && bbox.area() > 0.0 {
            return Some(bbox);
        }
        self.mistake(format!(
            "the box {edges:?} should be [x0, y0, x1, y1] with x0 < x1 and y0 < y1"
        ));
        None
    }

    fn mask(&mut self, entry: &Mapping) -> Option<Mask> {
        let is = "{size: [height, width], counts: TEXT}";
        let MaskText { size, counts } = self.field(entry, "mask", is)?;
        let [height, width] = size;
        match Mask::decode(counts.as_bytes(), width, height) {
            Ok(mask) if mask.area() > 0 => return Some(mask),
            Ok(_) => self.mistake("the mask is empty"),
            Err(error) => self.mistake(format!("the mask cannot be read: {error}")),
        }
        None
    }
}

/// The strategy: what the file has for the frame.
#[derive(Clone, Debug)]
pub(crate) struct HandMade {
    file: Arc<PromptFile>,
}

impl HandMade {
    pub(crate) fn new(file: Arc<PromptFile>) -> Self {
        Self { file }
    }
}

impl Strategy for HandMade {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        let index = frame.index.0;
        let (prompts, misfits) = self.file.prompts(frame.stream, index, frame.source_size());
        for misfit in misfits {
            tracing::error!(
                stream_id = %frame.stream, frame = index,
                "PROMPT_FILE, {misfit}; this prompt is left out"
            );
        }
        match prompts.is_empty() {
            true => Proposal::Nothing,
            false => Proposal::Given(prompts),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn stream(id: &str) -> StreamId {
        id.parse().unwrap()
    }

    #[test]
    fn entries_go_to_their_streams_and_frames() {
        let file = PromptFile::parse(
            "- {frame: 0, points: [[12, 8.5], [1, 1]], labels: [1, 0]}\n\
             - {stream_id: door, frame: 0, box: [10, 20, 500, 60]}\n\
             - {stream_id: door, frame: 3, mask: {size: [2, 2], counts: '022'}}\n",
        )
        .unwrap();
        let count = |id: &str, frame| file.prompts(&stream(id), frame, (100, 50)).0.len();
        assert_eq!(
            [count("door", 0), count("yard", 0), count("door", 1)],
            [2, 1, 0]
        );
        let (prompts, _) = file.prompts(&stream("door"), 0, (100, 50));
        assert_eq!(prompts[0].points, [[12.0, 8.5], [1.0, 1.0]]);
        assert_eq!(prompts[0].labels, [1, 0]);
        assert_eq!(prompts[1].bbox, Some(BBox::new(10.0, 20.0, 100.0, 50.0)));
        assert_eq!(prompts[1].prompt_id, 1);
        let (masks, _) = file.prompts(&stream("door"), 3, (2, 2));
        assert_eq!(masks[0].mask.as_deref(), Some(b"022".as_slice()));
    }

    #[test]
    fn json_is_read_with_and_without_tabs() {
        for text in [
            r#"[{"frame": 1, "points": [[3, 4]]}]"#,
            "[\n\t{\n\t\t\"frame\": 1,\n\t\t\"points\": [[3, 4]]\n\t}\n]",
        ] {
            let file = PromptFile::parse(text).unwrap();
            let (prompts, _) = file.prompts(&stream("any"), 1, (10, 10));
            assert_eq!(
                (prompts[0].points[0], prompts[0].labels[0]),
                ([3.0, 4.0], 1)
            );
        }
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_entries() {
        let mistakes = PromptFile::parse(
            "- {frame: 0, points: [[1, 1]]}\n\
             - {frame: -1, box: [5, 5, 1, 9], color: red}\n\
             - {points: [[1, 1], [2, 2]], labels: [1, 2, 0]}\n\
             - {stream_id: 'a/b', frame: 1}\n\
             - {frame: 2, mask: {size: [4, 4], counts: '0~'}, box: [0, 0, 2, 2]}\n\
             - {frame: 2, points: [[1, 1]], labels: [0]}\n\
             - 7\n",
        )
        .unwrap_err();
        let expected = [
            "entry 2: unknown key `color`",
            "entry 2: `frame` should be the number of a frame",
            "entry 2: the box [5.0, 5.0, 1.0, 9.0] should be",
            "entry 3: `frame` is missing",
            "entry 3: labels should be 0 or 1",
            "entry 3: has 3 labels for 2 points",
            "entry 4: `stream_id` should be the id of a stream",
            "entry 4: needs points, a box or a mask",
            "entry 5: a mask stands alone",
            "entry 5: the mask cannot be read",
            "entry 6: no point lies on the object",
            "entry 7: expected {frame",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, start) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(start), "{mistake} / {start}");
        }
    }

    #[test]
    fn what_is_no_list_is_said_in_a_sentence() {
        for (text, start) in [
            ("", "the list is empty"),
            ("[]", "the list is empty"),
            ("frame: 0", "expected a list"),
            ("[{", "not JSON"),
            ("- {", "not YAML"),
        ] {
            let mistakes = PromptFile::parse(text).unwrap_err();
            assert!(mistakes[0].starts_with(start), "{text:?}: {mistakes:?}");
        }
    }

    #[test]
    fn what_lies_outside_the_frame_is_left_out_and_named() {
        let file = PromptFile::parse(
            "- {frame: 0, points: [[200, 8]]}\n\
             - {frame: 0, box: [200, 0, 300, 10]}\n\
             - {frame: 0, mask: {size: [2, 2], counts: '022'}}\n\
             - {frame: 0, points: [[20, 8]]}\n",
        )
        .unwrap();
        let (prompts, misfits) = file.prompts(&stream("a"), 0, (100, 50));
        assert_eq!(prompts.len(), 1);
        assert!(misfits[0].starts_with("entry 1: the point [200, 8]"));
        assert!(misfits[1].starts_with("entry 2: the box"));
        assert!(
            misfits[2]
                .starts_with("entry 3: the mask's size is [2, 2], expected the frame's [50, 100]")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[-\\[\\]{}: ,a-z0-9\n\"]{0,60}") {
            let _parsed_or_not = PromptFile::parse(&text);
        }
    }
}
