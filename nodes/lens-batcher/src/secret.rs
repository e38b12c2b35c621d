//! Keys of services: from the environment only, and nowhere to be seen.

use std::fmt;

/// What stands in a key's place.
const HIDDEN: &str = "***";
/// Keys shorter than this are not looked for in texts: they would be found everywhere.
const SHORTEST: usize = 4;

/// A key. It prints as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A key.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key itself: for the request alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A text without the key, as it is or as it stands in an address. What services answer, and what
    /// is said of addresses, goes through here before anybody sees it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < SHORTEST {
            return text.into();
        }
        let mut clean = text.replace(&self.0, HIDDEN);
        for form in [percent_encoded(&self.0), escaped(&self.0)] {
            clean = clean.replace(&form, HIDDEN);
        }
        clean
    }
}

/// As it stands inside a JSON text.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].into()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(none)" } else { HIDDEN })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A text as a value in an address (RFC 3986: all but unreserved characters).
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_nowhere() {
        let key = Secret::new(" se/cr\"et+1 ");
        assert_eq!(format!("{key} {key:?}"), "*** ***");
        let text = format!(
            "GET /?k={} failed: se/cr\"et+1, {}",
            percent_encoded(key.reveal()),
            r#"se/cr\"et+1"#
        );
        assert_eq!(key.redact(&text), "GET /?k=*** failed: ***, ***");
        assert_eq!(Secret::default().redact("text"), "text");
        assert_eq!(format!("{:?}", Secret::default()), "(none)");
    }
}
