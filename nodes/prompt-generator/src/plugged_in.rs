//! A plug-in as a strategy: every frame goes in, prompts come out.
//!
//! A plug-in is not told what is tracked. On a look in a lossless graph that is not known yet when the
//! frame comes, and its pixels are not kept until it is; what tracks cover is left out afterwards, as
//! with every other strategy.

use tracklens_plugin::{Plugin, PluginError};
use tracklens_schemas::arrow::buffer::Buffer;
use tracklens_schemas::{FrameRow, Mask, Prompt, frame_rows, prompts};

use crate::proposal::Ready;
use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Found, Proposal};

/// The `input` of [`tracklens_node::metrics::BAD_MESSAGES`].
const INPUT: &str = "prompt-plugin";

/// The strategy of one stream.
pub(crate) struct PluggedIn {
    /// An instance of its own, or why there is none.
    plugin: Result<Plugin, PluginError>,
    /// Memory for pixels, used again for every frame.
    pixels: Vec<u8>,
    failing: bool,
}

/// What is wrong with an answer: a word for the metric, and the sentence.
type Trouble = (&'static str, String);

impl PluggedIn {
    pub(crate) fn new(plugin: Result<Plugin, PluginError>) -> Self {
        Self {
            plugin,
            pixels: Vec::new(),
            failing: false,
        }
    }

    /// The plug-in's prompts for a frame, as they came.
    fn ask(&mut self, frame: &Frame<'_>) -> Result<Vec<Prompt>, Trouble> {
        let failed = |error: &PluginError| (error.word(), error.to_string());
        let plugin = self.plugin.as_mut().map_err(|error| failed(error))?;
        // A plug-in may keep its batch, hence a copy. Where it does not, the memory comes back.
        let mut pixels = std::mem::take(&mut self.pixels);
        pixels.clear();
        pixels.extend_from_slice(frame.image.data);
        let pixels = Buffer::from_vec(pixels);
        let row = FrameRow {
            stream: frame.stream.clone(),
            frame: frame.index,
            fresh: frame.fresh,
            look: frame.look,
            image: frame.image,
        };
        let answer = plugin.process(&frame_rows::encode(&row, pixels.clone()));
        self.pixels = pixels.into_vec().unwrap_or_default();
        let answer = answer.map_err(|error| failed(&error))?;
        let broken = |error| format!("plug-in {:?} returned bad prompts: {error}", plugin.name());
        prompts::decode(&answer).map_err(|error| ("values", broken(error)))
    }

    /// Those of the prompts that can be used, and the first trouble with the others.
    fn fitting(&self, prompts: Vec<Prompt>, size: (u32, u32)) -> (Vec<Ready>, Option<Trouble>) {
        let name = self.plugin.as_ref().map_or("", Plugin::name);
        let mut trouble = None;
        let ready = prompts.into_iter().filter_map(|mut prompt| {
            // The name is the host's to give: it becomes a metric's label.
            prompt.strategy = name.into();
            let number = prompt.prompt_id;
            fit(prompt, size)
                .map_err(|what| {
                    let text = format!("plug-in {name:?}, prompt {number}: {what}");
                    trouble.get_or_insert(("place", text));
                })
                .ok()
        });
        (ready.collect(), trouble)
    }

    /// Counts trouble, and logs where it begins and ends.
    fn note(&mut self, frame: &Frame<'_>, trouble: Option<Trouble>) {
        let (stream_id, index) = (frame.stream.as_str(), frame.index.0);
        match &trouble {
            Some((word, text)) => {
                let metric = tracklens_node::metrics::BAD_MESSAGES;
                metrics::counter!(metric, "input" => INPUT, "reason" => *word).increment(1);
                if !self.failing {
                    tracing::error!(stream_id, frame = index, "no prompts: {text}");
                }
            }
            None if self.failing => {
                tracing::info!(stream_id, frame = index, "the plug-in works again");
            }
            None => {}
        }
        self.failing = trouble.is_some();
    }
}

impl Strategy for PluggedIn {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        let (ready, trouble) = match self.ask(frame) {
            Ok(prompts) if frame.look => self.fitting(prompts, frame.source_size()),
            Ok(_) => (Vec::new(), None),
            Err(trouble) => (Vec::new(), Some(trouble)),
        };
        self.note(frame, trouble);
        match ready.is_empty() {
            true => Proposal::Nothing,
            false => Proposal::Found(Found {
                ready,
                ..Found::default()
            }),
        }
    }
}

/// The prompt, if it can be used on a frame of this size, with the place that it points at.
fn fit(mut prompt: Prompt, (width, height): (u32, u32)) -> Result<Ready, String> {
    let inside = |&[x, y]: &[f32; 2]| x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
    if !prompt.points.iter().all(inside) {
        return Err(format!("a point lies outside {width}x{height} pixels"));
    }
    if !(0.0..=1.0).contains(&prompt.score) {
        return Err(format!("the score should be 0 to 1, is {}", prompt.score));
    }
    prompt.bbox = prompt.bbox.map(|bbox| bbox.clamp(width, height));
    if prompt.bbox.is_some_and(|bbox| bbox.area() <= 0.0) {
        return Err(format!("the box is empty within {width}x{height} pixels"));
    }
    let covered = match &prompt.mask {
        None => prompt.bbox,
        Some(_) if prompt.bbox.is_some() || !prompt.points.is_empty() => {
            return Err("a mask stands alone, without points and box".into());
        }
        Some(counts) => {
            let mask = Mask::decode(counts, width, height);
            let mask = mask.map_err(|error| format!("the mask cannot be read: {error}"))?;
            Some(mask.bbox().ok_or("the mask is empty")?)
        }
    };
    let object = prompt.labels.iter().position(|label| *label == 1);
    let place = Candidate {
        point: match (object, covered) {
            (Some(at), _) => prompt.points[at],
            (None, Some(bbox)) => bbox.center().into(),
            (None, None) => return Err("no point with label 1, no box and no mask".into()),
        },
        bbox: covered,
        score: prompt.score,
        strategy: "plugin",
    };
    Ok(Ready { place, prompt })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Coverage;
    use tracklens_schemas::BBox;

    const SIZE: (u32, u32) = (100, 50);

    fn prompt() -> Prompt {
        Prompt {
            prompt_id: 9,
            points: vec![[1.0, 1.0], [30.0, 20.0]],
            labels: vec![0, 1],
            bbox: Some(BBox::new(20.0, 10.0, 140.0, 40.0)),
            mask: None,
            score: 0.5,
            strategy: "any".into(),
        }
    }

    #[test]
    fn whole_prompts_keep_all_they_have() {
        let ready = fit(prompt(), SIZE).unwrap();
        assert_eq!(ready.place.point, [30.0, 20.0]);
        assert_eq!(ready.prompt.labels, [0, 1]);
        assert_eq!(ready.prompt.bbox, Some(BBox::new(20.0, 10.0, 100.0, 40.0)));
        let bitmap: Vec<u8> = (0..5000).map(|at| u8::from(at == 1205)).collect();
        let mask = Prompt {
            points: vec![],
            labels: vec![],
            bbox: None,
            mask: Some(Mask::from_bitmap(&bitmap, 100, 50).encode()),
            ..prompt()
        };
        assert_eq!(fit(mask, SIZE).unwrap().place.point, [5.5, 12.5]);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let says = |spoil: &dyn Fn(&mut Prompt)| {
            let mut spoiled = prompt();
            spoil(&mut spoiled);
            fit(spoiled, SIZE).unwrap_err()
        };
        assert!(says(&|p| p.points[0][0] = -1.0).contains("outside 100x50"));
        assert!(says(&|p| p.score = 1.5).contains("0 to 1, is 1.5"));
        assert!(says(&|p| p.bbox = Some(BBox::new(100.0, 0.0, 120.0, 9.0))).contains("empty"));
        assert!(says(&|p| p.mask = Some(b"022".to_vec())).contains("stands alone"));
        assert!(says(&|p| (p.bbox, p.labels[1]) = (None, 0)).contains("no point with label 1"));
        let bare = |counts: &'static [u8]| {
            says(&move |p| {
                *p = Prompt {
                    points: vec![],
                    labels: vec![],
                    bbox: None,
                    mask: Some(counts.to_vec()),
                    ..prompt()
                }
            })
        };
        assert!(bare(b"~~").contains("cannot be read"));
    }

    #[test]
    fn what_tracks_cover_is_left_out_and_the_best_are_numbered() {
        let at = |x: f32, score: f32| {
            let made = Prompt {
                points: vec![[x, 5.0]],
                labels: vec![1],
                bbox: None,
                score,
                ..prompt()
            };
            fit(made, SIZE).unwrap()
        };
        let found = Found {
            ready: vec![at(10.0, 0.9), at(60.0, 0.2), at(70.0, 0.4), at(80.0, 0.1)],
            ..Found::default()
        };
        let bitmap: Vec<u8> = (0..5000).map(|at| u8::from(at % 100 < 50)).collect();
        let coverage = Coverage::of(&[Mask::from_bitmap(&bitmap, 100, 50)], SIZE);
        let prompts = found.select(&coverage, SIZE, 2);
        let kept: Vec<(u32, f32)> = prompts
            .iter()
            .map(|p| (p.prompt_id, p.points[0][0]))
            .collect();
        assert_eq!(kept, [(0, 70.0), (1, 60.0)]);
    }
}
