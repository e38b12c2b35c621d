//! What is asked of the mask decoder: points and boxes in source pixels become points of the
//! model's input.
//!
//! As in the SAM 2 video predictor (Ravi et al. 2024), a box is its two corners with the labels 2
//! and 3, before the points; one point without a place (label −1) ends the list; where nothing is
//! asked, there is one more of it.

use tracklens_schemas::{Mask, Prompt};

use crate::modules::PromptBatch;

/// A prompt that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// Nothing in it.
    #[error("prompt {id} has neither points nor a box nor a mask")]
    Empty {
        /// Its number.
        id: u32,
    },
    /// A mask that is none of this frame.
    #[error("the mask of prompt {id} does not fit the {width}x{height} frame: {reason}")]
    Mask {
        /// Its number.
        id: u32,
        /// Width of the source frame.
        width: u32,
        /// Height of the source frame.
        height: u32,
        /// What is wrong.
        reason: String,
    },
    /// Only background, or a box turned inside out.
    #[error("prompt {id} points at nothing: {reason}")]
    Nothing {
        /// Its number.
        id: u32,
        /// Why.
        reason: &'static str,
    },
    /// More points than anyone clicks.
    #[error("prompt {id} has {found} points, at most {most} are looked at")]
    TooMany {
        /// Its number.
        id: u32,
        /// Its points.
        found: usize,
        /// The limit.
        most: usize,
    },
}

/// Most points in a prompt.
const MOST_POINTS: usize = 64;

/// Strategies whose prompts somebody asked for; what other strategies propose is taken only if the
/// mask is good.
const ASKED: [&str; 5] = ["file", "user", "click", "box", "mask"];

/// What a prompt shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Points of the model's input, with labels; corners of a box first; without padding.
    Points(Vec<([f32; 2], i64)>),
    /// The object itself, of the source frame's size.
    Mask(Mask),
}

/// A prompt, ready for the decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What it shows.
    pub target: Target,
    /// Somebody asked for this object: it need not be good.
    pub asked: bool,
}

impl Question {
    /// A prompt on a `width` × `height` source frame, for an `input` (width, height) of the model.
    ///
    /// # Errors
    /// Where the prompt shows nothing.
    pub fn new(
        prompt: &Prompt,
        (width, height): (u32, u32),
        input: (usize, usize),
    ) -> Result<Self, PromptError> {
        let id = prompt.prompt_id;
        if let Some(runs) = &prompt.mask {
            let mask = Mask::decode(runs, width, height).map_err(|error| PromptError::Mask {
                id,
                width,
                height,
                reason: error.to_string(),
            })?;
            if mask.area() == 0 {
                let reason = "its mask is empty";
                return Err(PromptError::Nothing { id, reason });
            }
            return Ok(Self {
                target: Target::Mask(mask),
                asked: true,
            });
        }
        if prompt.points.len() > MOST_POINTS {
            return Err(PromptError::TooMany {
                id,
                found: prompt.points.len(),
                most: MOST_POINTS,
            });
        }
        let (x, y) = (
            input.0 as f32 / width as f32,
            input.1 as f32 / height as f32,
        );
        let mut points = Vec::with_capacity(prompt.points.len() + 2);
        if let Some(bbox) = &prompt.bbox {
            if !bbox.is_valid() || bbox.clamp(width, height).area() <= 0.0 {
                let reason = "its box is empty or outside the frame";
                return Err(PromptError::Nothing { id, reason });
            }
            points.push(([bbox.x0 * x, bbox.y0 * y], 2));
            points.push(([bbox.x1 * x, bbox.y1 * y], 3));
        }
        let labelled = prompt.points.iter().zip(&prompt.labels);
        points.extend(labelled.map(|([px, py], label)| ([px * x, py * y], i64::from(*label))));
        if points.is_empty() {
            return Err(PromptError::Empty { id });
        }
        if points.iter().all(|(_, label)| *label == 0) {
            let reason = "all its points are background";
            return Err(PromptError::Nothing { id, reason });
        }
        Ok(Self {
            target: Target::Points(points),
            asked: ASKED.contains(&prompt.strategy.as_str()),
        })
    }

    /// Points without padding: decides which candidates answer.
    #[must_use]
    pub fn points(&self) -> usize {
        match &self.target {
            Target::Points(points) => points.len(),
            Target::Mask(_) => 0,
        }
    }
}

impl PromptBatch {
    /// Empties the batch for questions of `points` points each, padding not counted.
    pub fn begin(&mut self, points: usize) {
        self.objects = 0;
        self.points = points.max(1) + 1;
        self.coords.clear();
        self.labels.clear();
        self.masks.clear();
        self.has_mask.clear();
        self.all_candidates = true;
    }

    /// Adds an object's points and their padding; `mask_len` is the number of cells of a mask
    /// prompt, which there is none of.
    pub fn push(&mut self, points: &[([f32; 2], i64)], mask_len: usize) {
        debug_assert!(points.len() < self.points);
        for (place, label) in points {
            self.coords.extend(place);
            self.labels.push(*label);
        }
        self.objects += 1;
        self.coords.resize(self.objects * self.points * 2, 0.0);
        self.labels.resize(self.objects * self.points, -1);
        self.masks.resize(self.objects * mask_len, 0.0);
        self.has_mask.push(0.0);
    }

    /// Adds an object shown by a mask of [`crate::Modules::mask_prompt`]'s size.
    pub fn push_mask(&mut self, mask: &[f32]) {
        self.objects += 1;
        self.coords.resize(self.objects * self.points * 2, 0.0);
        self.labels.resize(self.objects * self.points, -1);
        self.masks.extend_from_slice(mask);
        self.has_mask.push(1.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracklens_schemas::BBox;

    fn prompt() -> Prompt {
        Prompt {
            prompt_id: 7,
            points: vec![[100.0, 50.0], [10.0, 10.0]],
            labels: vec![1, 0],
            bbox: None,
            mask: None,
            score: 1.0,
            strategy: "grid".into(),
        }
    }

    fn question(prompt: &Prompt) -> Result<Question, PromptError> {
        Question::new(prompt, (200, 100), (400, 400))
    }

    #[test]
    fn points_and_boxes_are_scaled_to_the_models_input() {
        let mut asked = prompt();
        asked.bbox = Some(BBox::new(20.0, 10.0, 40.0, 30.0));
        asked.strategy = "file".into();
        let question = question(&asked).unwrap();
        let expected = vec![
            ([40.0, 40.0], 2),
            ([80.0, 120.0], 3),
            ([200.0, 200.0], 1),
            ([20.0, 40.0], 0),
        ];
        assert_eq!(question.target, Target::Points(expected));
        assert!(question.asked);
    }

    #[test]
    fn a_batch_is_padded_as_the_family_expects() {
        let mut batch = PromptBatch::default();
        batch.begin(1);
        batch.push(&[([5.0, 6.0], 1)], 4);
        batch.push(&[([7.0, 8.0], 0)], 4);
        assert_eq!((batch.objects, batch.points), (2, 2));
        assert_eq!(batch.coords, [5.0, 6.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0]);
        assert_eq!(batch.labels, [1, -1, 0, -1]);
        assert_eq!(batch.masks, [0.0; 8]);
        batch.begin(0);
        batch.push(&[], 1);
        assert_eq!(batch.labels, [-1, -1]);
        batch.begin(0);
        batch.push_mask(&[1.0]);
        assert_eq!((batch.labels.len(), &batch.has_mask[..]), (2, &[1.0][..]));
    }

    #[test]
    fn prompts_that_show_nothing_are_refused() {
        let mut empty = prompt();
        empty.points.clear();
        empty.labels.clear();
        assert_eq!(question(&empty), Err(PromptError::Empty { id: 7 }));
        let mut background = prompt();
        background.labels = vec![0, 0];
        assert!(question(&background).is_err());
        let mut inside_out = prompt();
        inside_out.bbox = Some(BBox::new(40.0, 0.0, 20.0, 10.0));
        assert!(question(&inside_out).is_err());
        let mut mask = prompt();
        mask.mask = Some(Mask::empty(10, 10).encode());
        let message = question(&mask).unwrap_err().to_string();
        assert!(message.contains("200x100"), "{message}");
        let mut many = prompt();
        many.points = vec![[1.0, 1.0]; 65];
        many.labels = vec![1; 65];
        assert!(question(&many).is_err());
    }

    #[test]
    fn a_mask_is_taken_whatever_the_strategy() {
        let mut bitmap = vec![0; 200 * 100];
        bitmap[500] = 1;
        let mut shown = prompt();
        shown.mask = Some(Mask::from_bitmap(&bitmap, 200, 100).encode());
        let question = question(&shown).unwrap();
        assert!(question.asked && matches!(question.target, Target::Mask(_)));
    }
}
