//! Google Lens through a service that sells its results, SerpApi or one like it: one picture a call,
//! given as an address from which the service fetches it.

use std::time::Duration;

use serde::Deserialize;

use super::{Backend, HttpClient, PicturePlace, Shot, jpegs};
use crate::call_error::CallError;
use crate::hash_cache::Answer;
use crate::question::CallResult;
use crate::secret::{Secret, percent_encoded};

/// The service as set up.
#[derive(Clone, Debug)]
pub struct SerpApi {
    url: String,
    key: Secret,
    client: HttpClient,
    place: PicturePlace,
}

impl SerpApi {
    /// At this address (`https://serpapi.com/search.json`), with this key; pictures are put where the
    /// service can fetch them.
    #[must_use]
    pub fn new(url: &str, key: Secret, limit: Duration, place: PicturePlace) -> Self {
        Self {
            url: url.into(),
            client: HttpClient::new(limit, &key),
            key,
            place,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    visual_matches: Vec<Match>,
    knowledge_graph: Vec<Knowledge>,
    error: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Match {
    title: String,
    source: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Knowledge {
    title: String,
    subtitle: String,
}

/// A connection.
#[derive(Debug)]
pub struct SerpApiBackend(SerpApi);

impl SerpApiBackend {
    /// To this service.
    #[must_use]
    pub fn new(serpapi: SerpApi) -> Self {
        Self(serpapi)
    }

    fn send(&self, file: &[u8]) -> CallResult {
        let shown = self.0.place.show(file)?;
        let url = format!(
            "{}{}engine=google_lens&type=visual_matches&url={}&api_key={}",
            self.0.url,
            if self.0.url.contains('?') { '&' } else { '?' },
            percent_encoded(shown.url()),
            percent_encoded(self.0.key.reveal()),
        );
        let answer = self.0.client.get(&url, &[])?;
        let found: Found =
            serde_json::from_value(answer).map_err(|error| CallError::Malformed {
                expected: "{\"visual_matches\": [{\"title\": …}, …]}".into(),
                found: error.to_string(),
            })?;
        if let Some(said) = &found.error {
            // "Google hasn't returned any results": the service works, the picture is unknown.
            if said.contains("any results") {
                return Ok(vec![Ok(Answer::default())]);
            }
            return Err(CallError::Server {
                status: 200,
                wait: None,
                said: self.0.key.redact(said).chars().take(200).collect(),
            });
        }
        Ok(vec![Ok(answer_of(&found))])
    }
}

/// What the service is sure of is the name; else the title of the first match. Confidence is the share
/// of the first matches whose titles have a word with it in common: the service gives none.
fn answer_of(found: &Found) -> Answer {
    let matches = || {
        found
            .visual_matches
            .iter()
            .filter(|one| !one.title.is_empty())
    };
    let known = found
        .knowledge_graph
        .iter()
        .find(|one| !one.title.is_empty());
    let first = matches().next();
    let Some(name) = known.map(|one| &one.title).or(first.map(|one| &one.title)) else {
        return Answer::default();
    };
    let words = |title: &str| -> Vec<String> {
        let split = title.split(|c: char| !c.is_alphanumeric());
        split
            .filter(|word| word.chars().count() > 3)
            .map(str::to_lowercase)
            .collect()
    };
    let own = words(name);
    let top: Vec<_> = matches().take(10).collect();
    let alike = top
        .iter()
        .filter(|one| words(&one.title).iter().any(|word| own.contains(word)));
    Answer {
        name: name.clone(),
        category: known.map(|one| one.subtitle.clone()).unwrap_or_default(),
        description: first.map(|one| one.source.clone()).unwrap_or_default(),
        confidence: match known {
            Some(_) => 1.0,
            None => alike.count() as f32 / top.len().max(1) as f32,
        },
        dimensions: None,
    }
}

impl Backend for SerpApiBackend {
    fn identify(&mut self, shots: &[Shot]) -> CallResult {
        let mut results = Vec::with_capacity(shots.len());
        for file in jpegs(shots)? {
            results.extend(self.send(&file)?);
        }
        Ok(results)
    }
}
