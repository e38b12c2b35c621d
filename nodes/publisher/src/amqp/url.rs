//! A broker's address, whose password is never shown.

use std::fmt;

use lapin::uri::AMQPUri;

use crate::SinkError;

/// The address of a broker.
#[derive(Clone)]
pub struct BrokerUrl(String);

impl BrokerUrl {
    /// Checks an address.
    ///
    /// # Errors
    /// Where it is none. The error does not quote it.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let url = Self(text.trim().into());
        match url.0.parse::<AMQPUri>() {
            Ok(_) => Ok(url),
            Err(reason) => Err(SinkError::BrokerUrl {
                reason: url.redact(&reason),
            }),
        }
    }

    /// The address itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The address without user, password and parameters.
    #[must_use]
    pub fn shown(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("amqp", &self.0));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let host = rest.split(['?', '#']).next().unwrap_or_default();
        format!("{scheme}://{host}")
    }

    /// A library's message without what must not be shown.
    pub(crate) fn redact(&self, message: &str) -> String {
        let mut text = message.replace(&self.0, "***");
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        if let Some((user, _)) = rest.rsplit_once('@') {
            text = text.replace(user, "***");
            if let Some((_, password)) = user.split_once(':').filter(|(_, p)| !p.is_empty()) {
                text = text.replace(password, "***");
            }
        }
        text
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_never_show() {
        let url = BrokerUrl::parse("amqp://user:hunter2@broker:5672/%2f?heartbeat=5").unwrap();
        assert_eq!(url.shown(), "amqp://broker:5672/%2f");
        assert_eq!(format!("{url:?}"), url.shown());
        let quoted = format!("cannot reach {} (hunter2)", url.reveal());
        assert_eq!(url.redact(&quoted), "cannot reach *** (***)");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_quoted() {
        for text in [
            "http://user:hunter2@host",
            "hunter2",
            "amqp://u:hunter2@host:port/",
        ] {
            let error = BrokerUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected amqp://"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
