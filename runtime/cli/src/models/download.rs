//! One file over HTTP: resumed where it was cut off, checked, and under its name only once whole.
//!
//! What has come lies beside the target as `<name>.part`. It stays there when the connection breaks
//! or the disk is full, and the next attempt asks for the rest (RFC 9110, section 14).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};

use super::checksum;

/// Attempts in a row that bring nothing before a download is given up.
const ATTEMPTS: u32 = 4;
/// Waiting time before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a server may take to be reached, and to say something.
const CONNECT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes read at once.
const PIECE: usize = 1 << 16;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("{url}: the server answers {status}; check the address")]
    Refused { url: String, status: StatusCode },
    #[error("{url}: {reason} ({come} of {expected} are kept: type the same again to go on)")]
    Broken {
        url: String,
        reason: String,
        come: HumanBytes,
        expected: String,
    },
    #[error(
        "{url}: expected sha256 {expected}, the file that came has {found}; it was thrown away: \
         try again, and if it happens again, the address serves another file"
    )]
    Checksum {
        url: String,
        expected: String,
        found: String,
    },
    #[error("{} has {free} free, {needed} more are needed: make room, or give --dir", folder.display())]
    NoRoom {
        folder: PathBuf,
        free: HumanBytes,
        needed: HumanBytes,
    },
    #[error("the disk is full: {} could not be written further; make room and type the same again to go on", path.display())]
    DiskFull { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is fetched, and what is known of it beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    pub(crate) target: &'a Path,
    /// In lower-case hexadecimal, where it is known.
    pub(crate) sha256: Option<&'a str>,
}

/// A client that follows redirections, takes its proxy from the environment (HTTPS_PROXY, NO_PROXY …)
/// and trusts whom this machine trusts.
pub(crate) fn client() -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("tracklens/", env!("CARGO_PKG_VERSION")));
    config.build().new_agent()
}

/// Fetches a file, unless it is already there, and gives its sha256.
pub(crate) fn fetch(client: &Agent, wanted: &Wanted) -> Result<String, DownloadError> {
    let target = wanted.target;
    if let (Some(expected), Ok((found, _))) = (wanted.sha256, checksum::sha256(target))
        && found == expected
    {
        return Ok(found);
    }
    let part = part_of(target);
    let failed = |source| DownloadError::File {
        path: part.clone(),
        source,
    };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    loop {
        let resumed = length(&part) > 0;
        fill(client, wanted, &part)?;
        let (found, _) = checksum::sha256(&part).map_err(failed)?;
        let expected = wanted.sha256.unwrap_or(&found);
        if found == expected {
            fs::rename(&part, target).map_err(failed)?;
            return Ok(found);
        }
        fs::remove_file(&part).map_err(failed)?;
        // The start may have been that of an older file.
        if !resumed {
            return Err(DownloadError::Checksum {
                url: wanted.url.into(),
                expected: expected.into(),
                found,
            });
        }
    }
}

/// A small text, for example a list of checksums.
pub(crate) fn text(client: &Agent, url: &str, limit: u64) -> Result<String, DownloadError> {
    let broken = |error: ureq::Error| DownloadError::Broken {
        url: url.into(),
        reason: error.to_string(),
        come: HumanBytes(0),
        expected: "the list".into(),
    };
    let mut response = client.get(url).call().map_err(broken)?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        return Err(DownloadError::Refused {
            url: url.into(),
            status,
        });
    }
    let body = response.body_mut().with_config().limit(limit);
    body.read_to_string().map_err(broken)
}

fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// How one request ended.
enum Round {
    Whole,
    /// Why not, and the whole length where it is known.
    Cut(String, Option<u64>),
}

/// Fills the part until it is whole.
fn fill(client: &Agent, wanted: &Wanted, part: &Path) -> Result<(), DownloadError> {
    let (mut attempt, mut pause) = (1, PAUSE);
    let bar = ProgressBar::no_length();
    loop {
        let before = length(part);
        let (reason, whole) = match round(client, wanted, part, before, &bar)? {
            Round::Whole => {
                bar.finish_and_clear();
                return Ok(());
            }
            Round::Cut(reason, whole) => (reason, whole),
        };
        if length(part) > before {
            (attempt, pause) = (1, PAUSE);
        } else {
            attempt += 1;
        }
        if attempt > ATTEMPTS {
            bar.finish_and_clear();
            return Err(DownloadError::Broken {
                url: wanted.url.into(),
                reason,
                come: HumanBytes(length(part)),
                expected: whole.map_or("an unknown size".into(), |whole| {
                    HumanBytes(whole).to_string()
                }),
            });
        }
        bar.set_message(format!("{reason}; trying again"));
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// One request for what is missing.
fn round(
    client: &Agent,
    wanted: &Wanted,
    part: &Path,
    have: u64,
    bar: &ProgressBar,
) -> Result<Round, DownloadError> {
    let mut request = client.get(wanted.url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return Ok(Round::Cut(error.to_string(), None)),
    };
    let (start, whole) = match place(&response, have) {
        Place::At(start, whole) => (start, whole),
        Place::AlreadyWhole => return Ok(Round::Whole),
        Place::Elsewhere => {
            // Ours is no beginning of theirs.
            fs::remove_file(part).map_err(|source| DownloadError::File {
                path: part.into(),
                source,
            })?;
            return Ok(Round::Cut("the server has no such part".into(), None));
        }
        Place::Busy(status) => return Ok(Round::Cut(format!("the server answers {status}"), None)),
        Place::Refused(status) => {
            return Err(DownloadError::Refused {
                url: wanted.url.into(),
                status,
            });
        }
    };
    if let Some(whole) = whole {
        require_room(part, whole.saturating_sub(start))?;
        show(bar, wanted.target, whole);
    }
    bar.set_position(start);
    let file = open(part, start)?;
    let body = response.into_body().into_reader();
    let cut = copy(body, file, bar, part)?;
    let come = bar.position();
    Ok(match (cut, whole) {
        (Some(reason), _) => Round::Cut(reason, whole),
        (None, Some(whole)) if come < whole => {
            Round::Cut("the connection was cut".into(), Some(whole))
        }
        (None, _) => Round::Whole,
    })
}

/// Where the body of an answer belongs.
enum Place {
    /// From this byte on, of so many.
    At(u64, Option<u64>),
    AlreadyWhole,
    Elsewhere,
    Busy(StatusCode),
    Refused(StatusCode),
}

fn place<B>(response: &Response<B>, have: u64) -> Place {
    let headers = response.headers();
    let range = text_of(headers, "content-range").and_then(parse_range);
    match response.status() {
        // The whole file, from a server that knows no ranges, too.
        StatusCode::OK => Place::At(
            0,
            text_of(headers, "content-length").and_then(|text| text.parse().ok()),
        ),
        StatusCode::PARTIAL_CONTENT => match range {
            Some((Some(start), whole)) if start == have => Place::At(start, whole),
            _ => Place::Elsewhere,
        },
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => match range {
            Some((_, Some(whole))) if whole == have => Place::AlreadyWhole,
            _ => Place::Elsewhere,
        },
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Place::Busy(status)
        }
        status => Place::Refused(status),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`: the first byte and the whole length.
fn parse_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = range
        .split_once('-')
        .and_then(|(start, _)| start.parse().ok());
    Some((start, whole.parse().ok()))
}

fn require_room(part: &Path, needed: u64) -> Result<(), DownloadError> {
    let folder = part.parent().unwrap_or(Path::new("."));
    // Where the file system does not tell, writing will.
    let Ok(system) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(DownloadError::NoRoom {
        folder: folder.into(),
        free: HumanBytes(free),
        needed: HumanBytes(needed),
    })
}

fn show(bar: &ProgressBar, target: &Path, whole: u64) {
    let style = "{prefix} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    bar.set_prefix(name.into_owned());
    bar.set_length(whole);
    bar.set_message("");
}

/// The part, to be written from this byte on.
fn open(part: &Path, start: u64) -> Result<File, DownloadError> {
    let failed = |source| DownloadError::File {
        path: part.into(),
        source,
    };
    let mut options = OpenOptions::new();
    match start {
        0 => options.write(true).create(true).truncate(true),
        _ => options.append(true),
    };
    options.open(part).map_err(failed)
}

/// Copies the body; gives the reason where it ends early. What has come is on the disk then.
fn copy(
    mut body: impl Read,
    mut file: impl Write,
    bar: &ProgressBar,
    part: &Path,
) -> Result<Option<String>, DownloadError> {
    let full = |source: io::Error| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            DownloadError::DiskFull { path: part.into() }
        }
        _ => DownloadError::File {
            path: part.into(),
            source,
        },
    };
    let mut piece = vec![0; PIECE];
    loop {
        match body.read(&mut piece) {
            Ok(0) => {
                file.flush().map_err(full)?;
                return Ok(None);
            }
            Ok(read) => {
                file.write_all(&piece[..read]).map_err(full)?;
                bar.inc(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_understood() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(parse_range("bytes */10"), Some((None, Some(10))));
        assert_eq!(parse_range("5-9/10"), None);
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        struct Full(i32);
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(self.0))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bar = ProgressBar::hidden();
        let tried =
            |number| copy(&b"abc"[..], Full(number), &bar, Path::new("x.part")).unwrap_err();
        // ENOSPC, EDQUOT, EIO.
        assert!(matches!(tried(28), DownloadError::DiskFull { .. }));
        assert!(matches!(tried(122), DownloadError::DiskFull { .. }));
        assert!(matches!(tried(5), DownloadError::File { .. }));
    }

    #[test]
    fn more_than_the_disk_has_is_refused_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("x.part");
        assert!(require_room(&part, 1).is_ok());
        let error = require_room(&part, u64::MAX).unwrap_err();
        assert!(error.to_string().contains("--dir"), "{error}");
    }
}
