//! One HTTP call, blocking, with a limit on time and size, and errors in our own words.

use std::io;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::call_error::CallError;
use crate::retry::retry_after;
use crate::secret::Secret;

/// Longest answer that is read.
const LONGEST: u64 = 8 << 20;
/// Characters of an answer that are repeated in an error.
const SAID: usize = 200;

/// Calls a service; its keys are cut out of whatever is said about it.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: Agent,
    limit: Duration,
    key: Secret,
}

impl HttpClient {
    /// A client that waits for an answer no longer than `limit`, connection included.
    #[must_use]
    pub fn new(limit: Duration, key: &Secret) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            // A redirect would carry the key to whoever is named there.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tracklens/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: Agent::new_with_config(config),
            limit,
            key: key.clone(),
        }
    }

    /// POST of a JSON text; the answer as JSON.
    ///
    /// # Errors
    /// Where there is no good answer.
    pub fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Value, CallError> {
        let mut request = self
            .agent
            .post(url)
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.json(request.send(body))
    }

    /// GET; the answer as JSON.
    ///
    /// # Errors
    /// Where there is no good answer.
    pub fn get(&self, url: &str, headers: &[(String, String)]) -> Result<Value, CallError> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.json(request.call())
    }

    /// PUT of a file; what comes back is not looked at.
    ///
    /// # Errors
    /// Where it was not taken.
    pub fn put(&self, url: &str, content_type: &str, body: &[u8]) -> Result<(), CallError> {
        let request = self.agent.put(url).header("content-type", content_type);
        self.text(request.send(body)).map(drop)
    }

    fn json(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Value, CallError> {
        let text = self.text(sent)?;
        serde_json::from_slice(&text).map_err(|error| CallError::Malformed {
            expected: "JSON".into(),
            found: format!("{:?} ({error})", self.said(&text)),
        })
    }

    fn text(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, CallError> {
        let mut response = sent.map_err(|error| self.error(error))?;
        let status = response.status().as_u16();
        let wait = wait(response.headers());
        let read = response
            .body_mut()
            .with_config()
            .limit(LONGEST)
            .read_to_vec();
        let text = match (status, read) {
            // The status says enough, whatever became of the rest.
            (400.., read) => read.unwrap_or_default(),
            (_, read) => read.map_err(|error| self.error(error))?,
        };
        let said = self.said(&text);
        match status {
            200..=299 => Ok(text),
            429 => Err(CallError::RateLimited { wait, said }),
            500.. => Err(CallError::Server { status, wait, said }),
            408 | 425 => Err(CallError::Server { status, wait, said }),
            _ => Err(CallError::Refused { status, said }),
        }
    }

    fn error(&self, error: ureq::Error) -> CallError {
        match error {
            ureq::Error::Timeout(_) => CallError::Timeout { limit: self.limit },
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                CallError::Timeout { limit: self.limit }
            }
            ureq::Error::BodyExceedsLimit(limit) => CallError::Malformed {
                expected: format!("an answer of at most {limit} bytes"),
                found: "more".into(),
            },
            other => CallError::Connection {
                reason: self.key.redact(&other.to_string()),
            },
        }
    }

    /// The beginning of an answer, in one line and without the key.
    fn said(&self, text: &[u8]) -> String {
        let text = self.key.redact(&String::from_utf8_lossy(text));
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().take(SAID).collect()
    }
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?;
    Some(retry_after(value))
}
