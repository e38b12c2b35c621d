//! How asking a service can fail, and what that means for what was asked.

use std::time::Duration;

/// A call without usable answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No whole answer in time.
    #[error("no answer within {} ms (LENS_TIMEOUT_MS)", .limit.as_millis())]
    Timeout {
        /// The time.
        limit: Duration,
    },
    /// No connection, or one that was cut.
    #[error("the connection failed: {reason}")]
    Connection {
        /// What the system says.
        reason: String,
    },
    /// The service wants to be asked less often.
    #[error("the service answers 429 (too many requests): {said}")]
    RateLimited {
        /// The wait that it asks for.
        wait: Option<Duration>,
        /// The beginning of what it says.
        said: String,
    },
    /// The service has an error of its own.
    #[error("the service answers {status}: {said}")]
    Server {
        /// The HTTP status, 500 or more.
        status: u16,
        /// The wait that it asks for.
        wait: Option<Duration>,
        /// The beginning of what it says.
        said: String,
    },
    /// The service does not take what it was sent.
    #[error("the service answers {status}, asking again will not help: {said}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of what it says.
        said: String,
    },
    /// What came is not what the service documents.
    #[error("expected {expected}, came {found}")]
    Malformed {
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// Something on our side: a picture that cannot be encoded, a plug-in that fails.
    #[error("{reason}")]
    Own {
        /// What.
        reason: String,
    },
}

impl CallError {
    /// A word for the metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Connection { .. } => "connection",
            Self::RateLimited { .. } => "rate_limited",
            Self::Server { .. } => "server_error",
            Self::Refused { .. } => "refused",
            Self::Malformed { .. } => "malformed",
            Self::Own { .. } => "own_error",
        }
    }

    /// Whether the same question may be answered another time.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Own { .. })
    }

    /// Whether it is the service that does not work, or does not want us: no question fares better.
    #[must_use]
    pub fn is_the_service(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Connection { .. }
            | Self::Server { .. }
            | Self::Malformed { .. } => true,
            Self::Refused { status, .. } => matches!(status, 401 | 403 | 404),
            Self::RateLimited { .. } | Self::Own { .. } => false,
        }
    }

    /// The wait that the service asks for.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait, .. } | Self::Server { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// Why one picture of an otherwise good call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct PictureError {
    /// What the service says of it.
    pub said: String,
    /// Whether it may be answered another time.
    pub retryable: bool,
}
