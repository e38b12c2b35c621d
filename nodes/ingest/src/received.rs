//! A message of a sender, on its way from the network to the dataflow, and how it is cut up.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tracklens_schemas::{ChunkInfo, Codec};

/// Longest piece that travels in one message of the dataflow. A longer message of a sender is cut:
/// the decoder takes pieces cut anywhere, and the shared memory of a few such pieces is small.
pub const PIECE: usize = 1 << 20;

/// Room in memory that a message takes until it is acknowledged.
pub type Room = Arc<OwnedSemaphorePermit>;

/// A message as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its bytes.
    pub bytes: Bytes,
    /// How they are coded.
    pub codec: Codec,
    /// The sender's own number, where it counts.
    pub seq: Option<u64>,
    /// The sender's own time, where it gives one.
    pub timestamp_ns: Option<i64>,
    /// Wall clock, nanoseconds since 1970.
    pub capture_ns: i64,
    /// Nothing comes after it.
    pub end_of_stream: bool,
    /// The room that it takes.
    pub room: Option<Room>,
}

/// What is kept of a message, or a part of one, until the decoder has taken it.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its bytes.
    pub bytes: Bytes,
    /// What it says of itself.
    pub info: ChunkInfo,
    _room: Option<Room>,
}

impl Received {
    /// The message in pieces of at most `longest` bytes, at least one. `seq` is its number where the
    /// sender does not count.
    pub fn pieces(self, longest: usize, seq: u64) -> impl Iterator<Item = Piece> {
        let count = self.bytes.len().div_ceil(longest.max(1)).max(1);
        (0..count).map(move |index| {
            let from = index * longest;
            let to = (from + longest).min(self.bytes.len());
            Piece {
                bytes: self.bytes.slice(from..to),
                info: ChunkInfo {
                    codec: self.codec,
                    seq: self.seq.unwrap_or(seq),
                    end_of_stream: self.end_of_stream && index + 1 == count,
                },
                _room: self.room.clone(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(bytes: Vec<u8>, end_of_stream: bool) -> Received {
        Received {
            bytes: bytes.into(),
            codec: Codec::Hevc,
            seq: None,
            timestamp_ns: None,
            capture_ns: 0,
            end_of_stream,
            room: None,
        }
    }

    #[test]
    fn an_empty_end_is_one_piece() {
        let pieces: Vec<Piece> = received(Vec::new(), true).pieces(PIECE, 3).collect();
        assert_eq!(pieces.len(), 1);
        assert!(pieces[0].info.end_of_stream && pieces[0].info.seq == 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES")
            .ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)))]
        #[test]
        fn pieces_are_the_message_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..200), longest in 1usize..64, end: bool,
        ) {
            let pieces: Vec<Piece> = received(bytes.clone(), end).pieces(longest, 7).collect();
            prop_assert!(!pieces.is_empty());
            prop_assert!(pieces.iter().all(|piece| piece.bytes.len() <= longest));
            prop_assert!(pieces.iter().all(|piece| piece.info.seq == 7));
            let ends: Vec<bool> = pieces.iter().map(|piece| piece.info.end_of_stream).collect();
            prop_assert_eq!(ends.iter().filter(|end| **end).count(), usize::from(end));
            prop_assert_eq!(ends.last().copied(), Some(end));
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            prop_assert_eq!(whole, bytes);
        }
    }
}
