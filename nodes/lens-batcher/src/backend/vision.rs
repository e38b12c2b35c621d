//! Google Cloud Vision, `images:annotate` with `WEB_DETECTION`: what the web calls what is on a picture.
//!
//! One request holds up to 16 pictures and is answered in their order, each by itself: with a
//! `webDetection`, or with an `error` of its own.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Backend, HttpClient, Shot, jpegs, wrong_count};
use crate::call_error::{CallError, PictureError};
use crate::hash_cache::Answer;
use crate::question::CallResult;
use crate::secret::Secret;

/// Most pictures in a request.
pub(crate) const MOST: usize = 16;
/// Entities asked for.
const RESULTS: u32 = 10;

/// The service as set up.
#[derive(Clone, Debug)]
pub struct Vision {
    url: String,
    key: Secret,
    client: HttpClient,
}

impl Vision {
    /// At this base address (`https://vision.googleapis.com`), with this key.
    #[must_use]
    pub fn new(base: &str, key: Secret, limit: Duration) -> Self {
        Self {
            url: format!("{}/v1/images:annotate", base.trim_end_matches('/')),
            client: HttpClient::new(limit, &key),
            key,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

#[derive(Deserialize)]
struct Responses {
    responses: Vec<Response>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Response {
    web_detection: Option<WebDetection>,
    error: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: i32,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WebDetection {
    web_entities: Vec<Entity>,
    best_guess_labels: Vec<Label>,
    pages_with_matching_images: Vec<Page>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entity {
    score: f32,
    description: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Label {
    label: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Page {
    page_title: String,
}

/// A connection.
#[derive(Debug)]
pub struct VisionBackend(Vision);

impl VisionBackend {
    /// To this service.
    #[must_use]
    pub fn new(vision: Vision) -> Self {
        Self(vision)
    }

    fn send(&self, files: &[Vec<u8>]) -> CallResult {
        let request = |file: &Vec<u8>| {
            json!({
                "image": {"content": STANDARD.encode(file)},
                "features": [{"type": "WEB_DETECTION", "maxResults": RESULTS}],
            })
        };
        let requests: Vec<_> = files.iter().map(request).collect();
        let body = json!({ "requests": requests }).to_string();
        // In a header, the key is in no address that somebody might log.
        let key = [(
            "x-goog-api-key".to_string(),
            self.0.key.reveal().to_string(),
        )];
        let headers: &[_] = if self.0.key.is_empty() { &[] } else { &key };
        let answer = self.0.client.post(&self.0.url, headers, body.as_bytes())?;
        let answer: Responses =
            serde_json::from_value(answer).map_err(|error| CallError::Malformed {
                expected: "{\"responses\": [{\"webDetection\": …}, …]}".into(),
                found: error.to_string(),
            })?;
        if answer.responses.len() != files.len() {
            return Err(wrong_count(files.len(), answer.responses.len()));
        }
        Ok(answer
            .responses
            .into_iter()
            .map(|one| self.picture(one))
            .collect())
    }

    fn picture(&self, response: Response) -> Result<Answer, PictureError> {
        match (response.error, response.web_detection) {
            (Some(error), _) if error.code != 0 => Err(PictureError {
                said: self
                    .0
                    .key
                    .redact(&format!("code {}: {}", error.code, error.message)),
                retryable: is_passing(error.code),
            }),
            (_, Some(found)) => Ok(answer(&found)),
            // Nothing found is an empty object.
            (_, None) => Ok(Answer::default()),
        }
    }
}

/// Codes of google.rpc.Code that another attempt may not meet: deadline, exhausted, aborted,
/// internal, unavailable.
fn is_passing(code: i32) -> bool {
    matches!(code, 4 | 8 | 10 | 13 | 14)
}

/// The best guess is the name, the best-scored entity what kind of thing it is.
fn answer(found: &WebDetection) -> Answer {
    let best = |a: &&Entity, b: &&Entity| a.score.total_cmp(&b.score);
    let described = || {
        found
            .web_entities
            .iter()
            .filter(|entity| !entity.description.is_empty())
    };
    let entity = described().max_by(best);
    let label = found
        .best_guess_labels
        .iter()
        .find(|label| !label.label.is_empty());
    let Some(name) = label
        .map(|label| &label.label)
        .or(entity.map(|entity| &entity.description))
    else {
        return Answer::default();
    };
    Answer {
        name: name.clone(),
        category: entity
            .map(|entity| entity.description.clone())
            .unwrap_or_default(),
        description: found
            .pages_with_matching_images
            .first()
            .map(|page| page.page_title.clone())
            .unwrap_or_default(),
        // Scores are not bounded; they compare entities of one picture.
        confidence: entity.map_or(0.0, |entity| {
            if entity.score.is_finite() {
                entity.score.clamp(0.0, 1.0)
            } else {
                0.0
            }
        }),
        dimensions: None,
    }
}

impl Backend for VisionBackend {
    fn identify(&mut self, shots: &[Shot]) -> CallResult {
        self.send(&jpegs(shots)?)
    }
}
