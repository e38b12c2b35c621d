//! What is asked, and what becomes of it.

use std::sync::Arc;

use tracklens_schemas::{Header, Outcome};

use crate::call_error::{CallError, PictureError};
use crate::candidate::{Object, View};
use crate::hash_cache::Answer;
use crate::perceptual_hash::PerceptualHash;

/// A question about an object.
#[derive(Clone, Debug)]
pub struct Question {
    /// About whom.
    pub object: Object,
    /// The frame on which it was asked.
    pub header: Header,
    /// The picture.
    pub view: Arc<View>,
    /// What the picture looks like; `None`: like nothing.
    pub hash: Option<PerceptualHash>,
}

/// Pictures to be sent together.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number, to be told back.
    pub id: u64,
    /// The pictures.
    pub questions: Vec<Question>,
}

/// How a call ended: one result a picture, in their order.
pub type CallResult = Result<Vec<Result<Answer, PictureError>>, CallError>;

/// What became of a question.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The question.
    pub question: Question,
    /// `None`: dropped because too many waited.
    pub outcome: Option<Outcome>,
    /// What the service said, where it did.
    pub answer: Answer,
    /// The answer came from the cache, or from a picture that looks alike and was asked.
    pub cached: bool,
    /// How often the service was asked.
    pub attempts: u8,
    /// Why it failed.
    pub error: Option<String>,
}
