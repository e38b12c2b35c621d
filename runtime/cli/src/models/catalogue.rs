//! The sizes that SAM2_MODEL_SIZE knows, and where each comes from.

/// A size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static str,
    pub(crate) licence: &'static str,
    /// The checkpoint it is made of; none where the model is part of the project.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// A file of weights, as published by those who trained it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) file: &'static str,
    /// Lower-case hexadecimal.
    pub(crate) sha256: &'static str,
    /// In bytes.
    pub(crate) size: u64,
}

/// Where Meta publishes the SAM 2.1 checkpoints.
const META: &str = "https://dl.fbaipublicfiles.com/segment_anything_2/092824";

impl Checkpoint {
    pub(crate) fn url(&self) -> String {
        format!("{META}/{}", self.file)
    }
}

const fn sam2(
    name: &'static str,
    parameters: &'static str,
    file: &'static str,
    sha256: &'static str,
    size: u64,
) -> Size {
    Size {
        name,
        parameters,
        licence: "Apache-2.0",
        checkpoint: Some(Checkpoint { file, sha256, size }),
    }
}

/// Smallest first. Meta publishes no checksums; these and the sizes are those on which the public
/// projects that check its files agree.
pub(crate) static SIZES: [Size; 5] = [
    Size {
        name: "nano",
        parameters: "1.4 M",
        licence: "Apache-2.0",
        checkpoint: None,
    },
    sam2(
        "tiny",
        "38.9 M",
        "sam2.1_hiera_tiny.pt",
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        156_008_466,
    ),
    sam2(
        "small",
        "46 M",
        "sam2.1_hiera_small.pt",
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        184_416_285,
    ),
    sam2(
        "base",
        "80.8 M",
        "sam2.1_hiera_base_plus.pt",
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        323_606_802,
    ),
    sam2(
        "large",
        "224.4 M",
        "sam2.1_hiera_large.pt",
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        898_083_611,
    ),
];

/// The size of this name.
pub(crate) fn size(name: &str) -> Option<&'static Size> {
    SIZES.iter().find(|size| size.name == name)
}

/// The checkpoint of this name, or what to do instead.
pub(crate) fn checkpoint(name: &str) -> eyre::Result<Checkpoint> {
    match size(name) {
        Some(Size {
            checkpoint: Some(checkpoint),
            ..
        }) => Ok(*checkpoint),
        Some(_) => eyre::bail!("{name} is part of the project: there is nothing to fetch"),
        None => {
            let names: Vec<&str> = SIZES.iter().map(|size| size.name).collect();
            eyre::bail!("no size is called {name:?}; there are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_size_but_our_own_has_a_checkpoint() {
        for size in &SIZES {
            match checkpoint(size.name) {
                Ok(checkpoint) => {
                    assert_eq!(checkpoint.sha256.len(), 64);
                    assert!(checkpoint.url().ends_with(".pt"));
                }
                Err(error) => assert!(error.to_string().contains("part of the project")),
            }
        }
        assert!(checkpoint("huge").unwrap_err().to_string().contains("tiny"));
    }
}
