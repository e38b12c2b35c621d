//! Parameter sets (what a decoder must know before the first picture) in a stream with start codes.

use tracklens_schemas::Codec;

/// Longest run of parameter sets that is kept.
const MAX_LEN: usize = 64 * 1024;

/// The parameter sets among the NAL units of `data`, each with a start code; empty where there are
/// none. (Types: ITU-T H.264 table 7-1: 7, 8, 13, 15; H.265 table 7-1: 32, 33, 34.)
pub(crate) fn parameter_sets(codec: Codec, data: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let starts: Vec<usize> = start_codes(data).collect();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(data.len(), |next| next - 3);
        let Some(unit) = data.get(start..end) else {
            continue;
        };
        let Some(&first) = unit.first() else { continue };
        let wanted = match codec {
            Codec::H264 => matches!(first & 0x1f, 7 | 8 | 13 | 15),
            Codec::Hevc => matches!((first >> 1) & 0x3f, 32..=34),
        };
        if wanted && found.len() + unit.len() + 4 <= MAX_LEN {
            found.extend_from_slice(&[0, 0, 0, 1]);
            found.extend_from_slice(unit);
        }
    }
    found
}

/// Where NAL units begin: behind each 00 00 01.
fn start_codes(data: &[u8]) -> impl Iterator<Item = usize> {
    data.windows(3)
        .enumerate()
        .filter(|(_, bytes)| *bytes == [0, 0, 1])
        .map(|(at, _)| at + 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sets_are_found_and_slices_are_not() {
        let data = [
            0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 9, 9,
        ];
        assert_eq!(
            parameter_sets(Codec::H264, &data),
            [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3]
        );
        let data = [0, 0, 1, 0x40, 1, 5, 0, 0, 1, 0x26, 1, 7];
        assert_eq!(parameter_sets(Codec::Hevc, &data), [0, 0, 0, 1, 0x40, 1, 5]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..300)) {
            for codec in Codec::ALL {
                prop_assert!(parameter_sets(codec, &data).len() <= 2 * data.len());
            }
        }
    }
}
