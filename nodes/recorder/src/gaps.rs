//! Frames that were never delivered: dora may drop messages without a word while it changes the way on
//! which an output travels, but frames are numbered.

use std::collections::BTreeMap;

use dora_message::metadata::{get_integer_param, get_string_param};
use dora_node_api::Metadata;
use dora_node_api::dora_core::config::DataId;

/// Outputs with a message for every frame.
const NUMBERED: [&str; 3] = ["frames", "prompts", "tracks"];

/// The last frame of every stream, by topic.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<(String, String), (i64, i64)>);

impl Gaps {
    /// Takes in a message; how many frames between the one before and this one have not come.
    pub fn before(&mut self, topic: &str, output: &DataId, metadata: &Metadata) -> u64 {
        let parameters = &metadata.parameters;
        let number = |key| get_integer_param(parameters, key);
        let stream = get_string_param(parameters, "stream_id");
        match (stream, number("epoch"), number("frame")) {
            (Some(stream), Some(epoch), Some(frame)) if NUMBERED.contains(&output.as_str()) => {
                self.frame(topic, stream, (epoch, frame))
            }
            _ => 0,
        }
    }

    fn frame(&mut self, topic: &str, stream: &str, at: (i64, i64)) -> u64 {
        let key = (topic.to_string(), stream.to_string());
        let last = self.0.get(&key).copied();
        // A recording may begin in the middle of an epoch; what is sent again is no gap.
        let expected = match last {
            Some((epoch, frame)) if epoch == at.0 => frame.saturating_add(1),
            _ => at.1,
        };
        if last.is_none_or(|last| last < at) {
            self.0.insert(key, at);
        }
        u64::try_from(at.1.saturating_sub(expected)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_do_not_come_are_counted_once_by_topic_and_stream() {
        let mut gaps = Gaps::default();
        let mut come = |topic, stream, at| gaps.frame(topic, stream, at);
        assert_eq!(come("t/tracks", "a", (0, 0)), 0);
        assert_eq!(come("t/tracks", "a", (0, 4)), 3);
        assert_eq!(come("t/tracks", "a", (0, 2)), 0, "sent again");
        assert_eq!(come("t/tracks", "a", (0, 5)), 0);
        assert_eq!(come("t/tracks", "b", (0, 7)), 0, "begun in the middle");
        assert_eq!(come("b/frames", "a", (0, 1)), 0);
        assert_eq!(come("t/tracks", "a", (1, 3)), 0, "another epoch");
        assert_eq!(come("t/tracks", "a", (1, i64::MAX)), (i64::MAX - 4) as u64);
    }
}
