//! The `SOURCES` setting: a YAML list of streams.
//!
//! An item is `{id: NAME, url: FILE-OR-URL}`, or just the file or URL, whose stream is then named
//! after the file.

use std::collections::BTreeSet;
use std::fmt;

use serde_yaml::{Mapping, Value};
use tracklens_schemas::StreamId;
use tracklens_video::redact;

/// One stream to decode.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The stream's name.
    pub id: StreamId,
    /// A file, or any URL that FFmpeg opens; may hold a password.
    pub url: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, redact(&self.url))
    }
}

/// Everything that is wrong with `SOURCES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesError {
    /// One line for each mistake.
    pub mistakes: Vec<String>,
}

impl fmt::Display for SourcesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SOURCES should be a YAML list like `- {{id: cam-1, url: clip.mp4}}`:"
        )?;
        self.mistakes
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for SourcesError {}

/// Reads the list.
///
/// # Errors
/// With every mistake in it, not only the first.
pub fn parse(text: &str) -> Result<Vec<Source>, SourcesError> {
    let mut mistakes = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    match serde_yaml::from_str::<Value>(text) {
        Err(error) => mistakes.push(format!("not YAML: {error}")),
        Ok(Value::Sequence(items)) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                sources.extend(source(item, &format!("item {}", index + 1), &mut mistakes));
            }
        }
        Ok(Value::Sequence(_) | Value::Null) => mistakes.push("the list is empty".into()),
        Ok(other) => mistakes.push(format!("expected a list, found {}", kind(&other))),
    }
    let mut known = BTreeSet::new();
    for source in &sources {
        if !known.insert(&source.id) {
            mistakes.push(format!(
                "the id {} is used twice; each stream needs its own",
                source.id
            ));
        }
    }
    if mistakes.is_empty() {
        Ok(sources)
    } else {
        Err(SourcesError { mistakes })
    }
}

fn source(item: &Value, place: &str, mistakes: &mut Vec<String>) -> Option<Source> {
    match item {
        Value::String(url) if !url.trim().is_empty() => {
            let id = id_of(url);
            if id.is_none() {
                mistakes.push(format!(
                    "{place}: no id can be made of {}; write {{id, url}}",
                    redact(url)
                ));
            }
            Some(Source {
                id: id?,
                url: url.clone(),
            })
        }
        Value::Mapping(mapping) => {
            let unknown = mapping
                .keys()
                .filter(|key| !matches!(key.as_str(), Some("id" | "url")));
            for key in unknown {
                let key = scalar(key).unwrap_or_else(|| kind(key).into());
                mistakes.push(format!("{place}: unknown key {key:?}, expected id and url"));
            }
            let url = text(mapping, "url", place, mistakes);
            let id = match (mapping.get("id"), &url) {
                (None, Some(url)) => {
                    let id = id_of(url);
                    if id.is_none() {
                        mistakes.push(format!("{place}: id is missing"));
                    }
                    id
                }
                (None, None) => None,
                (Some(_), _) => text(mapping, "id", place, mistakes).and_then(|id| {
                    id.parse::<StreamId>()
                        .map_err(|error| mistakes.push(format!("{place}: {error}")))
                        .ok()
                }),
            };
            Some(Source { id: id?, url: url? })
        }
        other => {
            let found = kind(other);
            mistakes.push(format!(
                "{place}: expected {{id, url}} or a file or URL, found {found}"
            ));
            None
        }
    }
}

/// The text under a key; numbers count as text (`id: 7`).
fn text(mapping: &Mapping, key: &str, place: &str, mistakes: &mut Vec<String>) -> Option<String> {
    match mapping.get(key) {
        None => {
            mistakes.push(format!("{place}: {key} is missing"));
            None
        }
        Some(value) => {
            let text = scalar(value).filter(|text| !text.trim().is_empty());
            if text.is_none() {
                mistakes.push(format!("{place}: {key} should be text, is {}", kind(value)));
            }
            text
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if text.trim().is_empty() => "empty text",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

/// A stream id from the last part of a path or URL, without extension.
fn id_of(url: &str) -> Option<StreamId> {
    let shown = redact(url);
    let (address, is_url) = match shown.split_once("://") {
        Some((_, rest)) => (rest.split(['?', '#']).next().unwrap_or_default(), true),
        None => (shown.as_str(), false),
    };
    let name = address.trim_end_matches('/').rsplit('/').next()?;
    let stem = match name.rsplit_once('.') {
        // A bare host has dots, too, but no extension.
        _ if is_url && name == address => name,
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    };
    let id: String = stem
        .chars()
        .take(128)
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '-',
        })
        .collect();
    let id = id.trim_matches('-');
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|source| (source.id.to_string(), source.url))
            .collect()
    }

    #[test]
    fn both_forms_are_read() {
        let list = "- {id: cam-1, url: a.mp4}\n- clips/b c.mkv\n- rtsp://u:p@host/live/door?x=1\n- {id: 7, url: 'http://h/x'}";
        let expected = [
            ("cam-1", "a.mp4"),
            ("b-c", "clips/b c.mkv"),
            ("door", "rtsp://u:p@host/live/door?x=1"),
            ("7", "http://h/x"),
        ];
        assert_eq!(
            pairs(list),
            expected.map(|(id, url)| (id.to_string(), url.to_string()))
        );
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(pairs(r#"[{"id": "a", "url": "b.mp4"}]"#).len(), 1);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let list = "- {id: a, url: x.mp4}\n- {id: a, url: y.mp4}\n- {id: 'b/c', url: z.mp4}\n- {id: d}\n- {id: e, url: q.mp4, fps: 3}\n- 5\n";
        let error = parse(list).unwrap_err();
        let text = error.to_string();
        for part in [
            "a is used twice",
            "b/c",
            "item 4: url is missing",
            "item 5: unknown key \"fps\"",
            "item 6: expected",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(error.mistakes.len(), 5);
    }

    #[test]
    fn no_list_is_refused() {
        for (text, part) in [
            ("", "empty"),
            ("[]", "empty"),
            ("a.mp4", "found text"),
            ("{", "not YAML"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let source = parse("[rtsp://u:secret@host/x]").unwrap();
        assert!(!format!("{source:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _either_is_fine = parse(&text);
        }

        #[test]
        fn any_url_is_named_or_refused(text in ".{0,80}") {
            let _either_is_fine = id_of(&text);
        }
    }
}
