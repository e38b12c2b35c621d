//! The cache on disk, so that a restart does not ask for what is known.
//!
//! One line of JSON that says what the file is, then one per answer, the least recently used first.
//! The file is replaced as a whole; a checksum tells a damaged one, and a fingerprint one that was
//! made with another service, whose answers are not this one's.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hash_cache::{Answer, HashCache};
use crate::perceptual_hash::PerceptualHash;

const FORMAT: &str = "tracklens-lens-cache";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    /// The service and what about its settings changes its answers.
    service: String,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    hash: String,
    #[serde(flatten)]
    answer: Answer,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum CacheFileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "{}: cannot be written: {source}; set LENS_CACHE_DIR to a folder that can be",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged, or something else.
    #[error("{}: expected a whole {FORMAT} file of version {VERSION}, {found}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Its answers are those of another service.
    #[error("{}: holds answers of {found}, this is {expected}", path.display())]
    OtherService {
        /// The file.
        path: PathBuf,
        /// Whose answers they are.
        found: String,
        /// The service in use.
        expected: String,
    },
}

/// Replaces the file with what the cache holds.
///
/// # Errors
/// Where it cannot be written; the old file is still there.
pub fn save(path: &Path, service: &str, cache: &HashCache) -> Result<(), CacheFileError> {
    let written = content(service, cache).and_then(|bytes| replace(path, &bytes));
    written.map_err(|source| CacheFileError::Write {
        path: path.into(),
        source,
    })
}

fn content(service: &str, cache: &HashCache) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    for (hash, answer) in cache.oldest_first() {
        let line = Line {
            hash: hash.to_string(),
            answer: answer.clone(),
        };
        serde_json::to_writer(&mut body, &line)?;
        body.push(b'\n');
    }
    let head = Head {
        format: FORMAT.into(),
        version: VERSION,
        service: service.into(),
        sha256: checksum(&body),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.extend(body);
    Ok(bytes)
}

/// Writes a file beside and renames it, so that a kill at any moment leaves the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Puts what the file holds into the cache, and says how many answers that were. No file is an
/// empty one.
///
/// # Errors
/// Where the file cannot be used: then nothing of it is.
pub fn load(path: &Path, service: &str, cache: &mut HashCache) -> Result<usize, CacheFileError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => {
            return Err(CacheFileError::Read {
                path: path.into(),
                source,
            });
        }
    };
    let broken = |found: &str| CacheFileError::Broken {
        path: path.into(),
        found: found.into(),
    };
    let split = bytes.iter().position(|byte| *byte == b'\n');
    let (head, body) = bytes.split_at(split.ok_or_else(|| broken("has no first line"))?);
    let body = &body[1..];
    let head: Head =
        serde_json::from_slice(head).map_err(|_| broken("the first line is another"))?;
    if head.format != FORMAT || head.version != VERSION {
        return Err(broken(&format!("is {} {}", head.format, head.version)));
    }
    if head.sha256 != checksum(body) {
        return Err(broken("the checksum does not fit the content"));
    }
    if head.service != service {
        return Err(CacheFileError::OtherService {
            path: path.into(),
            found: head.service,
            expected: service.into(),
        });
    }
    let mut lines = Vec::new();
    for line in body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: Line = serde_json::from_slice(line).map_err(|_| broken("a line is no answer"))?;
        let hash =
            u64::from_str_radix(&line.hash, 16).map_err(|_| broken("a hash is no number"))?;
        lines.push((PerceptualHash(hash), line.answer));
    }
    let count = lines.len();
    lines
        .into_iter()
        .for_each(|(hash, answer)| cache.put(hash, answer));
    cache.take_changed();
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn filled(count: u64) -> HashCache {
        let mut cache = HashCache::new(100, 3);
        for number in 0..count {
            let answer = Answer {
                name: format!("thing {number}"),
                confidence: 0.5,
                dimensions: Some("{\"h\":1}".into()),
                ..Answer::default()
            };
            cache.put(
                PerceptualHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                answer,
            );
        }
        cache
    }

    fn listed(cache: &HashCache) -> Vec<(PerceptualHash, Answer)> {
        cache.oldest_first().map(|(h, a)| (h, a.clone())).collect()
    }

    #[test]
    fn answers_come_back_in_their_order_of_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.jsonl");
        let mut cache = filled(9);
        cache.get(PerceptualHash(0));
        save(&path, "test", &cache).unwrap();
        let mut read = HashCache::new(100, 3);
        assert_eq!(load(&path, "test", &mut read).unwrap(), 9);
        assert_eq!(listed(&read), listed(&cache));
        assert!(!read.take_changed());
    }

    #[test]
    fn another_service_and_no_file_give_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.jsonl");
        let mut read = HashCache::new(100, 3);
        assert_eq!(load(&path, "test", &mut read).unwrap(), 0);
        save(&path, "vision", &filled(2)).unwrap();
        let error = load(&path, "test", &mut read).unwrap_err().to_string();
        assert!(
            error.contains("holds answers of vision, this is test"),
            "{error}"
        );
        assert!(read.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A file that was cut or changed anywhere is refused, or says the same as before.
        #[test]
        fn damage_is_told(at: prop::sample::Index, cut: bool, flip in 1u8..=255) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cache.jsonl");
            let cache = filled(5);
            save(&path, "test", &cache).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            std::fs::write(&path, &bytes).unwrap();
            let mut read = HashCache::new(100, 3);
            match load(&path, "test", &mut read) {
                Ok(_) => prop_assert_eq!(listed(&read), listed(&cache)),
                Err(_) => prop_assert!(read.is_empty()),
            }
        }
    }
}
