//! Any JSON service, described by a small file: what to send, and where in the answer to look.
//!
//! ```yaml
//! request:
//!   url: https://classifier.example/v2/classify
//!   headers: {authorization: "Bearer {{key}}"}
//!   most: 8                                   # pictures a call; more than 1 needs an `each`
//!   body: {images: {each: {jpeg: "{{image}}"}}}
//! answer:                                     # JSON pointers (RFC 6901)
//!   list: /results                            # one entry a picture; without it the whole answer is one
//!   name: /label
//!   confidence: /score
//!   least_confidence: 0.3                     # below it the name is not believed
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::template::{self, Filling, KEY};
use super::{Backend, HttpClient, Shot, jpegs, wrong_count};
use crate::LensError;
use crate::call_error::CallError;
use crate::hash_cache::Answer;
use crate::question::CallResult;
use crate::secret::Secret;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    request: Request,
    answer: Places,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "one")]
    most: usize,
    body: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Places {
    list: Option<String>,
    name: String,
    category: Option<String>,
    description: Option<String>,
    confidence: Option<String>,
    dimensions: Option<String>,
    #[serde(default)]
    least_confidence: f32,
}

fn one() -> usize {
    1
}

/// What keeps a description from working.
enum Problem {
    Text(String),
    NoKey,
}

/// The service as set up.
#[derive(Clone, Debug)]
pub struct HttpService {
    description: Description,
    key: Secret,
    client: HttpClient,
}

impl HttpService {
    /// Reads a description. `url`, where given, takes the place of the description's.
    ///
    /// # Errors
    /// Where the file cannot be read or describes nothing that could work.
    pub fn read(
        file: &Path,
        url: Option<&str>,
        key: Secret,
        limit: Duration,
    ) -> Result<Self, LensError> {
        let wrong = |reason: String| LensError::Description {
            path: file.into(),
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let mut description: Description =
            serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if let Some(url) = url {
            description.request.url = url.into();
        }
        Self::check(&description, &key).map_err(|problem| match problem {
            Problem::Text(text) => wrong(text),
            Problem::NoKey => LensError::Unset {
                backend: "http",
                setting: "LENS_API_KEY",
                what: "the service's key, for {{key}} in its description",
            },
        })?;
        Ok(Self {
            client: HttpClient::new(limit, &key),
            description,
            key,
        })
    }

    fn check(description: &Description, key: &Secret) -> Result<(), Problem> {
        let wrong = |text: String| Err(Problem::Text(text));
        let Description { request, answer } = description;
        if let Some(place) = template::unknown_place(&request.body) {
            return wrong(format!(
                "{place} is not known: expected {{{{image}}}}, {{{{width}}}}, {{{{height}}}}, {{{{track_id}}}} or {{{{key}}}}"
            ));
        }
        if !(1..=1000).contains(&request.most) {
            return wrong(format!("`most` should be 1 to 1000, is {}", request.most));
        }
        if request.most > 1 && !(template::has_each(&request.body) && answer.list.is_some()) {
            return wrong(
                "`most` above 1 needs an `each` in the body and a `list` in the answer".into(),
            );
        }
        let pointers = [
            &answer.list,
            &answer.category,
            &answer.description,
            &answer.confidence,
            &answer.dimensions,
        ];
        let mut pointers = pointers.into_iter().flatten().chain([&answer.name]);
        if let Some(pointer) = pointers.find(|p| !p.is_empty() && !p.starts_with('/')) {
            return wrong(format!(
                "{pointer:?} should begin with a slash, as JSON pointers do"
            ));
        }
        let uses_key = request.headers.values().any(|value| value.contains(KEY))
            || request.body.to_string().contains(KEY)
            || request.url.contains(KEY);
        match uses_key && key.is_empty() {
            true => Err(Problem::NoKey),
            false => Ok(()),
        }
    }

    pub(crate) fn most(&self) -> usize {
        self.description.request.most
    }

    pub(crate) fn fingerprint(&self) -> String {
        // The description as it was written: the key's place, not the key.
        serde_json::to_string(&self.description).unwrap_or_default()
    }
}

/// A connection.
#[derive(Debug)]
pub struct HttpServiceBackend(HttpService);

impl HttpServiceBackend {
    /// To this service.
    #[must_use]
    pub fn new(service: HttpService) -> Self {
        Self(service)
    }

    fn send(&self, shots: &[Shot], files: &[Vec<u8>]) -> CallResult {
        let Description { request, answer } = &self.0.description;
        let key = self.0.key.reveal();
        let fillings: Vec<Filling> = files
            .iter()
            .zip(shots)
            .map(|(file, shot)| Filling {
                image: STANDARD.encode(file),
                width: shot.view.picture.width,
                height: shot.view.picture.height,
                track_id: shot.track.0,
            })
            .collect();
        let body = template::fill(&request.body, &fillings, key).to_string();
        let headers: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.replace(KEY, key)))
            .collect();
        let url = request
            .url
            .replace(KEY, &crate::secret::percent_encoded(key));
        let value = self.0.client.post(&url, &headers, body.as_bytes())?;
        let list: Vec<Value> = match &answer.list {
            None => vec![value],
            Some(pointer) => match value.pointer(pointer) {
                Some(Value::Array(list)) => list.clone(),
                other => {
                    return Err(CallError::Malformed {
                        expected: format!("a list at {pointer}"),
                        found: kind(other).into(),
                    });
                }
            },
        };
        if list.len() != files.len() {
            return Err(wrong_count(files.len(), list.len()));
        }
        Ok(list.iter().map(|value| Ok(answer.read(value))).collect())
    }
}

impl Places {
    /// What is missing is empty: services leave out what they do not know.
    fn read(&self, value: &Value) -> Answer {
        let at = |pointer: &Option<String>| pointer.as_ref().and_then(|p| value.pointer(p));
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let confidence = match &self.confidence {
            Some(_) => at(&self.confidence).and_then(Value::as_f64).unwrap_or(0.0),
            None => 1.0,
        };
        let confidence = confidence.clamp(0.0, 1.0) as f32;
        if confidence < self.least_confidence {
            return Answer::default();
        }
        Answer {
            name: text(value.pointer(&self.name)),
            category: text(at(&self.category)),
            description: text(at(&self.description)),
            confidence,
            dimensions: at(&self.dimensions)
                .filter(|v| !v.is_null())
                .map(Value::to_string),
        }
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a bool",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

impl Backend for HttpServiceBackend {
    fn identify(&mut self, shots: &[Shot]) -> CallResult {
        self.send(shots, &jpegs(shots)?)
    }
}
