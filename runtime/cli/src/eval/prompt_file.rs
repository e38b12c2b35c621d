//! The file in which the prompts of a run stand, for `SAM2_PROMPT_STRATEGY=file`.

use std::fs;
use std::path::Path;

use eyre::WrapErr;
use serde::Serialize;
use tracklens_schemas::Mask;

use super::dataset::Sequence;
use super::distance::deepest_pixel;
use crate::args::PromptKind;

/// One prompt, in pixels of the source frame.
#[derive(Debug, Serialize)]
struct FilePrompt {
    stream_id: String,
    frame: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<[f32; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<i8>,
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    bbox: Option<[f32; 4]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<CocoMask>,
}

/// A mask as COCO writes it.
#[derive(Debug, Serialize)]
struct CocoMask {
    /// Height, width.
    size: [u32; 2],
    counts: String,
}

/// Writes a prompt for each object of each sequence's first annotated frame.
pub(crate) fn write(path: &Path, sequences: &[Sequence], kind: PromptKind) -> eyre::Result<()> {
    let mut prompts = Vec::new();
    for sequence in sequences {
        let Some((frame, annotation)) = sequence.first() else {
            continue;
        };
        for mask in annotation.objects().values() {
            prompts.push(prompt(sequence.id.as_str(), frame, mask, kind));
        }
    }
    let text = serde_json::to_string_pretty(&prompts)?;
    fs::write(path, text).wrap_err_with(|| format!("cannot write {}", path.display()))
}

fn prompt(stream: &str, frame: u64, mask: &Mask, kind: PromptKind) -> FilePrompt {
    let mut prompt = FilePrompt {
        stream_id: stream.into(),
        frame,
        points: Vec::new(),
        labels: Vec::new(),
        bbox: None,
        mask: None,
    };
    match kind {
        PromptKind::Mask => {
            let counts = mask.encode().into_iter().map(char::from).collect();
            let size = [mask.height(), mask.width()];
            prompt.mask = Some(CocoMask { size, counts });
        }
        PromptKind::Box => prompt.bbox = mask.bbox().map(|bbox| bbox.to_array()),
        PromptKind::Click => {
            if let Some((x, y)) = deepest_pixel(mask) {
                // The middle of the pixel.
                prompt.points.push([x as f32 + 0.5, y as f32 + 0.5]);
                prompt.labels.push(1);
            }
        }
    }
    prompt
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_kind_says_where_the_object_is() {
        let mut bitmap = vec![0; 12 * 8];
        for at in [2, 3, 4]
            .iter()
            .flat_map(|y| (3..8).map(move |x| y * 12 + x))
        {
            bitmap[at] = 1;
        }
        let mask = Mask::from_bitmap(&bitmap, 12, 8);
        let json = |kind| serde_json::to_value(prompt("dog", 0, &mask, kind)).unwrap();
        let by_box = json(PromptKind::Box);
        assert_eq!(by_box["box"], serde_json::json!([3.0, 2.0, 8.0, 5.0]));
        assert_eq!(
            (by_box["stream_id"].as_str(), by_box["frame"].as_u64()),
            (Some("dog"), Some(0))
        );
        let click = json(PromptKind::Click);
        assert_eq!(click["points"], serde_json::json!([[4.5, 3.5]]));
        assert_eq!(click["labels"], serde_json::json!([1]));
        let by_mask = json(PromptKind::Mask);
        assert_eq!(by_mask.as_object().unwrap().len(), 3, "a mask stands alone");
        assert_eq!(by_mask["mask"]["size"], serde_json::json!([8, 12]));
        let counts = by_mask["mask"]["counts"].as_str().unwrap();
        assert_eq!(Mask::decode(counts.as_bytes(), 12, 8).unwrap(), mask);
    }
}
