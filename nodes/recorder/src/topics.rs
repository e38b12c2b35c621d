//! Which outputs are recorded, by the names of the recorder's inputs.

use std::collections::BTreeMap;

use dora_message::id::{DataId, NodeId};

use crate::RecordError;

/// An output of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The node.
    pub node: NodeId,
    /// Its output.
    pub output: DataId,
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.node, self.output)
    }
}

/// The outputs that are recorded. Credit is not: it is of the moment, and a node that had sent nothing
/// else would be replaced by a replay of nothing.
#[derive(Clone, Debug)]
pub struct Topics(BTreeMap<String, Topic>);

impl Topics {
    /// Reads `{"input": "node/output"}`.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn parse(json: &str) -> Result<Self, RecordError> {
        let map: BTreeMap<String, String> =
            serde_json::from_str(json).map_err(|_| RecordError::Topics { found: json.into() })?;
        let topics = map.into_iter().map(|(input, found)| {
            let topic = found.split_once('/').and_then(|(node, output)| {
                let (node, output) = (node.parse().ok()?, output.parse().ok()?);
                Some(Topic { node, output })
            });
            match topic {
                Some(topic) => Ok((input, topic)),
                None => Err(RecordError::Topic { input, found }),
            }
        });
        let mut topics: BTreeMap<String, Topic> = topics.collect::<Result<_, _>>()?;
        topics.retain(|_, topic| !topic.output.as_str().starts_with("credit_"));
        Ok(Self(topics))
    }

    /// All of them, by input.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.0.iter().map(|(input, topic)| (input.as_str(), topic))
    }

    /// What comes in by this input.
    #[must_use]
    pub fn get(&self, input: &str) -> Option<&Topic> {
        self.0.get(input)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_dora_record_passes_is_read_and_all_else_refused() {
        let topics = Topics::parse(r#"{"tracker___tracks": "tracker/tracks"}"#).unwrap();
        let topic = topics.get("tracker___tracks").unwrap();
        assert_eq!(topic.to_string(), "tracker/tracks");
        assert!(topics.get("tracks").is_none());
        let credit = r#"{"a": "buffer/frames", "b": "buffer/credit_frames"}"#;
        assert_eq!(Topics::parse(credit).unwrap().iter().count(), 1);
        for wrong in ["", "[]", r#"{"a": 1}"#] {
            let error = Topics::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("DORA_RECORD_TOPICS="), "{error}");
        }
        for wrong in ["tracks", "/tracks", "a b/tracks", "tracker/"] {
            let error = Topics::parse(&format!("{{\"in\": \"{wrong}\"}}")).unwrap_err();
            assert!(
                error.to_string().contains("expected node/output"),
                "{error}"
            );
        }
    }
}
