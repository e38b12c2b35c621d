//! `tracklens models verify`: whether a folder is the model that its model.toml describes.
//!
//! Shapes are checked by sam2-tracker, which loads the modules; here nothing is run.

use std::io::Write;
use std::path::Path;

use indicatif::HumanBytes;

use super::checksum::sha256;
use super::description::{Description, FILE};

/// What a folder is.
pub(crate) struct Verified {
    pub(crate) description: Description,
    /// Bytes of model.toml and modules.
    pub(crate) size: u64,
    /// One sentence for each mistake.
    pub(crate) mistakes: Vec<String>,
}

/// Looks at everything in the folder that the model consists of.
pub(crate) fn examine(folder: &Path) -> Verified {
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            return Verified {
                description: Description::default(),
                size: 0,
                mistakes: vec![format!("{} cannot be read: {error}", path.display())],
            };
        }
    };
    let mut description = Description::read(&text);
    let (mut size, mut mistakes) = (text.len() as u64, std::mem::take(&mut description.mistakes));
    for module in &description.modules {
        let path = folder.join(&module.file);
        match sha256(&path) {
            Err(error) => mistakes.push(format!(
                "the module {} cannot be read from {}: {error}",
                module.name,
                path.display()
            )),
            Ok((found, length)) => {
                size += length;
                if found != module.sha256 {
                    mistakes.push(format!(
                        "{} is damaged or another file: expected sha256 {}, found {found} ({length} bytes)",
                        path.display(),
                        module.sha256
                    ));
                }
            }
        }
    }
    Verified {
        description,
        size,
        mistakes,
    }
}

/// Prints what the folder is; true where nothing is wrong with it.
pub(crate) fn verify(folder: &Path, out: &mut dyn Write) -> eyre::Result<bool> {
    let verified = examine(folder);
    for mistake in &verified.mistakes {
        writeln!(out, "{mistake}")?;
    }
    let good = verified.mistakes.is_empty();
    if good {
        writeln!(
            out,
            "{}: {}, {}, all {} modules as described",
            folder.display(),
            verified.description.about,
            HumanBytes(verified.size),
            verified.description.modules.len()
        )?;
    } else {
        writeln!(
            out,
            "{}: {} wrong; get the model again (`tracklens models list`)",
            folder.display(),
            match verified.mistakes.len() {
                1 => "1 thing is".to_string(),
                count => format!("{count} things are"),
            }
        )?;
    }
    Ok(good)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::description::tests::example;
    use super::*;

    /// SHA-256 of "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn every_module_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(examine(folder).mistakes[0].contains("cannot be read"));
        std::fs::write(folder.join(FILE), example(ABC)).unwrap();
        for name in [
            "image_encoder",
            "memory_attention",
            "mask_decoder",
            "memory_encoder",
        ] {
            std::fs::write(folder.join(format!("{name}.onnx")), "abc").unwrap();
        }
        let mut out = Vec::new();
        assert!(verify(folder, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("nano 1 (nano, Apache-2.0)"), "{text}");
        std::fs::remove_file(folder.join("mask_decoder.onnx")).unwrap();
        std::fs::write(folder.join("image_encoder.onnx"), "ab").unwrap();
        let mistakes = examine(folder).mistakes;
        assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
        assert!(mistakes[0].contains("damaged") && mistakes[1].contains("mask_decoder"));
    }
}
