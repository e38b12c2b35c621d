//! Secrets: compared without telling how much of them was right, and never shown.

use std::fmt;

/// A secret text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A secret; none where the text is empty.
    #[must_use]
    pub fn new(text: Option<String>) -> Option<Self> {
        text.filter(|text| !text.trim().is_empty()).map(Self)
    }

    /// Whether this is it. Takes the same time wherever the first difference is.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), text.as_bytes());
        let differences = own.iter().enumerate().fold(0_u8, |sum, (at, byte)| {
            sum | (byte ^ other.get(at).copied().unwrap_or(!byte))
        });
        differences == 0 && own.len() == other.len()
    }

    /// The text itself, for those who must have it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A text without what stands before the last `@`, and without what this URL's user part holds: for
/// the error messages of libraries that may quote the URL.
#[must_use]
pub fn without_password(message: &str, url: &str) -> String {
    let Some((_, rest)) = url.split_once("://") else {
        return message.replace(url, "***");
    };
    let mut text = message.replace(url, "***");
    if let Some((user, _)) = rest.rsplit_once('@') {
        text = text.replace(user, "***");
        if let Some((_, password)) = user.split_once(':').filter(|(_, word)| !word.is_empty()) {
            text = text.replace(password, "***");
        }
    }
    text
}

/// Host and path of a URL: all that may be shown of it.
#[must_use]
pub fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.rsplit_once('@')
        .map_or(rest, |(_, host)| host)
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new(Some("hunter2".into())).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert!(Secret::new(Some(" ".into())).is_none());
        let url = "amqp://user:hunter2@broker:5672/%2f";
        assert_eq!(host(url), "broker:5672/%2f");
        for message in [
            format!("cannot connect to {url}"),
            "user:hunter2 refused".into(),
        ] {
            assert!(!without_password(&message, url).contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn only_the_secret_is_the_secret(own in "[a-c]{1,4}", other in "[a-c]{0,5}") {
            let secret = Secret::new(Some(own.clone())).unwrap();
            prop_assert_eq!(secret.is(&other), own == other);
        }
    }
}
