//! Which part of all streams one of several instances of a node takes.

use std::str::FromStr;

use serde::Deserialize;

use crate::StreamId;

/// Most parts.
const MOST: u32 = 1024;

/// One of `count` parts: a stream belongs to exactly one, by a stable hash of its id, so that every
/// instance knows its own without asking. Written `i/n`, from `0/n` to `n-1/n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Shard {
    index: u32,
    count: u32,
}

/// Why a text is no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shard is written i/n with i from 0 to n-1 and n from 1 to {MOST}, not {0:?}")]
pub struct ShardError(String);

impl Shard {
    /// Whether a stream belongs to this part.
    #[must_use]
    pub fn owns(&self, stream: &StreamId) -> bool {
        self.count == 1 || hash(stream.as_str()) % u64::from(self.count) == u64::from(self.index)
    }
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo), with its bits mixed: the lowest of FNV alone repeat.
fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            Some((index.parse::<u32>().ok()?, count.parse::<u32>().ok()?))
        });
        match numbers {
            Some((index, count)) if index < count && count <= MOST => Ok(Self { index, count }),
            _ => Err(ShardError(text.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = ShardError;

    fn try_from(text: String) -> Result<Self, ShardError> {
        text.parse()
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn shards(count: u32) -> Vec<Shard> {
        let texts = (0..count).map(|index| format!("{index}/{count}"));
        texts.map(|text| text.parse().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_stream_belongs_to_exactly_one(id in "[A-Za-z0-9._-]{1,128}", count in 1_u32..20) {
            let id: StreamId = id.parse().unwrap();
            let owners = shards(count).into_iter().filter(|shard| shard.owns(&id));
            prop_assert_eq!(owners.count(), 1);
        }
    }

    #[test]
    fn streams_with_like_names_spread() {
        for count in [2, 3, 4, 8] {
            let mut streams = vec![0; count];
            for camera in 0..1000 {
                let id: StreamId = format!("camera-{camera}").parse().unwrap();
                let owner = shards(count as u32)
                    .iter()
                    .position(|shard| shard.owns(&id));
                streams[owner.unwrap()] += 1;
            }
            let fair = 1000 / count;
            assert!(
                streams.iter().all(|n| (fair / 2..fair * 2).contains(n)),
                "{streams:?}"
            );
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "2/2", "-1/2", "0/0", "0/4096", "a/b", "0/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!("1/3".parse::<Shard>().unwrap().to_string(), "1/3");
    }
}
