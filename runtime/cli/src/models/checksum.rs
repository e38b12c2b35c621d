//! SHA-256 of files, and lists of them as `sha256sum` writes them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// The file's SHA-256, lower-case hexadecimal, and its length in bytes.
pub(crate) fn sha256(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        length += read as u64;
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _infallible = write!(text, "{byte:02x}");
    }
    Ok((text, length))
}

/// Whether the text is a SHA-256 in hexadecimal.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The name of the list.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Reads a list: (file, sha256). Names are those of files in the list's own folder.
pub(crate) fn parse_sums(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut sums: Vec<(String, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = || {
            format!(
                "line {} should be a sha256 and a file's name, is {line:?}",
                number + 1
            )
        };
        let (sum, name) = line.split_once([' ', '\t']).ok_or_else(wrong)?;
        // An asterisk marks binary mode.
        let name = name.trim_start_matches([' ', '\t', '*']).trim_end();
        let name = name.strip_prefix("./").unwrap_or(name);
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !is_sha256(sum) || !plain {
            return Err(wrong());
        }
        if sums.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} stands there twice"));
        }
        sums.push((name.to_string(), sum.to_ascii_lowercase()));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_files_checksum_is_that_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), (expected.into(), 3));
    }

    #[test]
    fn lists_are_read_and_names_that_lead_elsewhere_refused() {
        let sum = "A".repeat(64);
        let text = format!("{sum}  model.toml\n{sum} *./a b.onnx\n\n");
        let sums = parse_sums(&text).unwrap();
        let names: Vec<&str> = sums.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["model.toml", "a b.onnx"]);
        assert_eq!(sums[0].1, "a".repeat(64));
        for name in ["../x", "/etc/x", "a/b", ".x", ""] {
            assert!(parse_sums(&format!("{sum}  {name}\n")).is_err(), "{name}");
        }
        assert!(parse_sums("<html>").unwrap_err().contains("line 1"));
        let twice = format!("{sum}  a\n{sum}  a\n");
        assert!(parse_sums(&twice).unwrap_err().contains("twice"));
    }
}
