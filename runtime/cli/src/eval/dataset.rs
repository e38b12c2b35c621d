//! A dataset folder in the form of DAVIS: `JPEGImages/<sequence>/%05d.jpg` (or `<sequence>.mp4`) and
//! `Annotations/<sequence>/%05d.png`; both may have a `480p` between, as in the original download.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use eyre::WrapErr;
use tracklens_schemas::{Mask, StreamId};

use super::annotation::Annotation;

/// One video with its ground truth.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    /// Its name, and that of its stream.
    pub(crate) id: StreamId,
    /// What the decoder opens.
    pub(crate) source: String,
    /// The annotated frames.
    pub(crate) truth: BTreeMap<u64, Annotation>,
}

impl Sequence {
    /// The first annotated frame.
    pub(crate) fn first(&self) -> Option<(u64, &Annotation)> {
        self.truth
            .first_key_value()
            .map(|(&frame, annotation)| (frame, annotation))
    }

    /// The frames that count: the benchmark leaves out the first, which is given, and the last.
    pub(crate) fn scored(&self) -> impl Iterator<Item = (u64, &Annotation)> {
        let last = self.truth.keys().next_back().copied();
        self.truth
            .iter()
            .skip(1)
            .map(|(&frame, annotation)| (frame, annotation))
            .filter(move |&(frame, _)| Some(frame) != last)
    }

    /// All objects that are ever seen.
    pub(crate) fn objects(&self) -> BTreeSet<u8> {
        let annotations = self.truth.values();
        annotations
            .flat_map(|annotation| annotation.objects().keys().copied())
            .collect()
    }

    /// The object's mask on every annotated frame.
    pub(crate) fn masks(&self, object: u8) -> impl Iterator<Item = (u64, Mask)> {
        self.truth
            .iter()
            .map(move |(&frame, annotation)| (frame, annotation.mask(object)))
    }
}

/// Reads the sequences of a dataset, all or those named, with their annotations. Every mistake is
/// reported, not only the first.
pub(crate) fn read(folder: &Path, only: &[String]) -> eyre::Result<Vec<Sequence>> {
    let annotations = part(folder, "Annotations");
    let pictures = part(folder, "JPEGImages");
    let names = names(&annotations).wrap_err_with(|| {
        format!(
            "{} is no dataset: it needs Annotations/<sequence>/00000.png and \
                                   JPEGImages/<sequence>/00000.jpg",
            folder.display()
        )
    })?;
    let mut mistakes: Vec<String> = only
        .iter()
        .filter(|name| !names.contains(name))
        .map(|name| format!("no sequence {name}; there are {}", names.join(", ")))
        .collect();
    let mut sequences = Vec::new();
    for name in names
        .iter()
        .filter(|name| only.is_empty() || only.contains(name))
    {
        let source = source(folder, &pictures, name);
        match source.and_then(|source| sequence(&annotations.join(name), name, source)) {
            Ok(sequence) => sequences.push(sequence),
            Err(error) => mistakes.push(format!("sequence {name}: {error:#}")),
        }
    }
    eyre::ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    eyre::ensure!(
        !sequences.is_empty(),
        "{} has no sequences",
        annotations.display()
    );
    Ok(sequences)
}

/// A part of the dataset, or its 480p version where it has versions.
fn part(folder: &Path, name: &str) -> PathBuf {
    let version = folder.join(name).join("480p");
    if version.is_dir() {
        version
    } else {
        folder.join(name)
    }
}

fn names(annotations: &Path) -> eyre::Result<Vec<String>> {
    let failed = || format!("cannot list {}", annotations.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(annotations).wrap_err_with(failed)? {
        let entry = entry.wrap_err_with(failed)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The numbered pictures, which are what was annotated; else a video of them.
fn source(folder: &Path, pictures: &Path, name: &str) -> eyre::Result<String> {
    let pattern = pictures.join(name).join("%05d.jpg");
    let video = folder.join(format!("{name}.mp4"));
    let found = if pictures.join(name).join("00000.jpg").is_file() {
        &pattern
    } else if video.is_file() {
        &video
    } else {
        eyre::bail!(
            "there is neither {} nor {}",
            pattern.display(),
            video.display()
        );
    };
    let absolute = std::path::absolute(found)?;
    Ok(absolute.to_string_lossy().into_owned())
}

fn sequence(annotations: &Path, name: &str, source: String) -> eyre::Result<Sequence> {
    let id = name.parse()?;
    let mut truth = BTreeMap::new();
    for entry in fs::read_dir(annotations)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "png") {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let frame: u64 = stem.parse().wrap_err_with(|| {
            format!(
                "{}: expected the frame's number as its name",
                path.display()
            )
        })?;
        truth.insert(frame, Annotation::read(&path)?);
    }
    let sequence = Sequence { id, source, truth };
    let Some((_, first)) = sequence.first() else {
        eyre::bail!("no annotations in {}", annotations.display());
    };
    let size = (first.width, first.height);
    if let Some((frame, other)) = sequence
        .truth
        .iter()
        .find(|(_, other)| (other.width, other.height) != size)
    {
        eyre::bail!(
            "annotation {frame:05}.png is {}x{}, the first {}x{}",
            other.width,
            other.height,
            size.0,
            size.1
        );
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::annotation::tests::write;
    use super::*;
    use png::{BitDepth, ColorType};

    fn annotate(folder: &Path, name: &str, frame: u32, pixels: &[u8]) {
        let folder = folder.join("Annotations").join(name);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{frame:05}.png"));
        write(&path, 4, ColorType::Grayscale, BitDepth::Eight, pixels);
    }

    fn picture(folder: &Path, name: &str) {
        let folder = folder.join("JPEGImages").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("00000.jpg"), "").unwrap();
    }

    #[test]
    fn sequences_are_read_with_their_truth() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for frame in 0..4 {
            annotate(folder, "dog", frame, &[0, 255, 0, 0]);
        }
        annotate(folder, "cat", 0, &[1, 2, 0, 0]);
        picture(folder, "dog");
        fs::write(folder.join("cat.mp4"), "").unwrap();
        let sequences = read(folder, &[]).unwrap();
        assert_eq!(
            (sequences[0].id.as_str(), sequences[1].id.as_str()),
            ("cat", "dog")
        );
        assert!(sequences[0].source.ends_with("/cat.mp4"));
        assert!(sequences[1].source.ends_with("/JPEGImages/dog/%05d.jpg"));
        let scored: Vec<u64> = sequences[1].scored().map(|(frame, _)| frame).collect();
        assert_eq!(scored, [1, 2]);
        assert_eq!(sequences[0].scored().count(), 0);
        assert_eq!(sequences[0].first().unwrap().1.objects().len(), 2);
        assert_eq!(read(folder, &["dog".into()]).unwrap().len(), 1);
    }

    #[test]
    fn every_mistake_is_named_with_its_sequence_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(format!("{:#}", read(folder, &[]).unwrap_err()).contains("no dataset"));
        annotate(folder, "a", 0, &[0; 4]);
        annotate(folder, "b", 0, &[0; 4]);
        annotate(folder, "b", 1, &[0; 8]);
        picture(folder, "b");
        annotate(folder, "c", 0, &[0; 4]);
        fs::write(folder.join("Annotations/c/00001.png"), "").unwrap();
        picture(folder, "c");
        let error = read(folder, &["a".into(), "b".into(), "c".into(), "d".into()]).unwrap_err();
        let text = error.to_string();
        for part in [
            "no sequence d",
            "sequence a: there is neither",
            "sequence b: annotation 00001.png is 4x2",
            "c/00001.png",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
