//! Whether pieces of a stream are missing, by the numbers that their source gives them.

/// The last number seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence(Option<u64>);

impl Sequence {
    /// Takes note of a number; what is missing before it, in words. Equal numbers are parts of one
    /// piece, and the first number may be any.
    pub(crate) fn next(&mut self, seq: u64) -> Option<String> {
        let last = self.0.replace(seq)?;
        match seq.checked_sub(last) {
            Some(0 | 1) => None,
            Some(step) => Some(format!(
                "{} chunks lost between number {last} and {seq}",
                step - 1
            )),
            None => Some(format!("the source's numbers go back from {last} to {seq}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gaps_are_told() {
        let mut sequence = Sequence::default();
        for seq in [7, 8, 8, 9] {
            assert_eq!(sequence.next(seq), None);
        }
        let told = sequence.next(12).unwrap_or_default();
        assert_eq!(told, "2 chunks lost between number 9 and 12");
        assert!(sequence.next(3).is_some());
        assert_eq!(sequence.next(4), None);
    }

    proptest! {
        #[test]
        fn any_numbers_are_survived(numbers: Vec<u64>) {
            let mut sequence = Sequence::default();
            for pair in numbers.windows(2) {
                sequence.0 = Some(pair[0]);
                let whole = pair[1] == pair[0] || pair[0].checked_add(1) == Some(pair[1]);
                prop_assert_eq!(sequence.next(pair[1]).is_none(), whole);
            }
        }
    }
}
