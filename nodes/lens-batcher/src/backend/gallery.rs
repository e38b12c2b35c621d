//! The embedded backend: a folder of pictures, and the nearest of them.
//!
//! `LENS_GALLERY/NAME/*.jpg` (or png): pictures of the thing called NAME. A crop has the name of the
//! picture that is most alike, if it is enough so: half by perceptual hash, half by where which colours
//! are. This finds *the same thing* in much the same view; it knows nothing of kinds of things.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Backend, Shot, unknown};
use crate::colour_layout::ColourLayout;
use crate::hash_cache::Answer;
use crate::perceptual_hash::{Hasher, PerceptualHash};
use crate::question::CallResult;
use crate::{LensError, Picture};

/// What a picture looks like.
#[derive(Clone, Debug)]
struct Look {
    hash: PerceptualHash,
    colours: ColourLayout,
}

impl Look {
    /// `None` where nothing is to be seen.
    fn of(picture: &Picture, hasher: &Hasher) -> Option<Self> {
        Some(Self {
            hash: hasher.hash(picture)?,
            colours: ColourLayout::of(picture),
        })
    }

    fn similarity(&self, other: &Self) -> f32 {
        (self.hash.similarity(other.hash) + self.colours.similarity(&other.colours)) / 2.0
    }
}

/// Named pictures, as they look.
#[derive(Debug)]
pub struct Gallery {
    entries: Vec<(Look, Arc<str>)>,
    names: usize,
    threshold: f32,
    hasher: Hasher,
    fingerprint: String,
}

impl Gallery {
    /// Reads a folder. `threshold`: the similarity (0 to 1) from which a picture is the same thing.
    ///
    /// # Errors
    /// Where the folder cannot be read, or a picture in it is damaged.
    pub fn read(folder: &Path, threshold: f64) -> Result<Self, LensError> {
        let wrong = |path: &Path, reason: String| LensError::Gallery {
            path: path.into(),
            reason,
        };
        let hasher = Hasher::default();
        let mut digest = Sha256::new();
        let (mut entries, mut names) = (Vec::new(), 0);
        for place in list(folder).map_err(|error| wrong(folder, error.to_string()))? {
            let Some(name) = place.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !place.is_dir() || name.starts_with('.') {
                continue;
            }
            let name: Arc<str> = name.into();
            names += 1;
            for file in list(&place).map_err(|error| wrong(&place, error.to_string()))? {
                if !is_picture(&file) {
                    continue;
                }
                let bytes =
                    std::fs::read(&file).map_err(|error| wrong(&file, error.to_string()))?;
                let picture = Picture::read(&bytes)
                    .map_err(|error| wrong(&file, format!("is no picture: {error}")))?;
                digest.update(name.as_bytes());
                digest.update(&bytes);
                match Look::of(&picture, &hasher) {
                    Some(look) => entries.push((look, name.clone())),
                    None => tracing::warn!(file = %file.display(), "shows nothing, left out"),
                }
            }
        }
        if entries.is_empty() {
            tracing::warn!(gallery = %folder.display(), "no pictures in the gallery: every object will be unknown");
        }
        let mut fingerprint = format!("by hash and colours {threshold} ");
        for byte in digest.finalize().iter().take(12) {
            let _infallible = write!(fingerprint, "{byte:02x}");
        }
        Ok(Self {
            entries,
            names,
            threshold: threshold as f32,
            hasher,
            fingerprint,
        })
    }

    /// How many pictures it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many names it has.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What this picture shows. Of several pictures equally alike the first by name and file counts.
    #[must_use]
    pub fn name(&self, picture: &Picture) -> Answer {
        let Some(look) = Look::of(picture, &self.hasher) else {
            return unknown();
        };
        let mut best: Option<(f32, &Arc<str>)> = None;
        for (other, name) in &self.entries {
            let similarity = other.similarity(&look);
            if similarity >= self.threshold && best.is_none_or(|(best, _)| similarity > best) {
                best = Some((similarity, name));
            }
        }
        best.map_or_else(unknown, |(confidence, name)| Answer {
            name: name.to_string(),
            category: "gallery".into(),
            confidence,
            ..Answer::default()
        })
    }
}

/// What is in a folder, by name: the same everywhere.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries: Result<Vec<PathBuf>, _> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect();
    entries.map(|mut list| {
        list.sort();
        list
    })
}

fn is_picture(file: &Path) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        ["jpg", "jpeg", "png"].contains(&ending.to_ascii_lowercase().as_str())
    })
}

/// Looks pictures up in a gallery.
#[derive(Debug)]
pub struct GalleryBackend(Arc<Gallery>);

impl GalleryBackend {
    /// On this gallery.
    #[must_use]
    pub fn new(gallery: Arc<Gallery>) -> Self {
        Self(gallery)
    }
}

impl Backend for GalleryBackend {
    /// The gallery's pictures are as they were cut, too.
    fn wants_enhanced(&self) -> bool {
        false
    }

    fn identify(&mut self, shots: &[Shot]) -> CallResult {
        Ok(shots
            .iter()
            .map(|shot| Ok(self.0.name(&shot.view.picture)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::picture::tests::scene;

    fn gallery(folder: &Path) -> Result<Gallery, LensError> {
        Gallery::read(folder, 0.75)
    }

    #[test]
    fn a_changed_picture_has_its_name_and_another_none() {
        let folder = tempfile::tempdir().unwrap();
        for (name, seed) in [("red cup", 1), ("dog", 2), ("dog", 3)] {
            let place = folder.path().join(name);
            std::fs::create_dir_all(&place).unwrap();
            let jpeg = scene(seed, 90, 70).to_jpeg().unwrap();
            std::fs::write(place.join(format!("{seed}.JPG")), jpeg).unwrap();
        }
        std::fs::write(folder.path().join("notes.txt"), "not a name").unwrap();
        let gallery = gallery(folder.path()).unwrap();
        assert_eq!((gallery.len(), gallery.names()), (3, 2));
        let name = |seed| gallery.name(&scene(seed, 60, 47));
        assert_eq!(
            (name(1).name.as_str(), name(3).name.as_str()),
            ("red cup", "dog")
        );
        assert!(name(1).confidence > 0.9);
        assert!(!name(77).is_known());
    }

    #[test]
    fn what_is_wrong_with_a_gallery_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let says = |path: &Path| gallery(path).unwrap_err().to_string();
        assert!(says(&folder.path().join("none")).contains("NAME/*.jpg"));
        assert!(gallery(folder.path()).unwrap().is_empty());
        std::fs::create_dir(folder.path().join("cup")).unwrap();
        std::fs::write(folder.path().join("cup/a.png"), "no png").unwrap();
        assert!(says(folder.path()).contains("a.png: is no picture"));
    }
}
