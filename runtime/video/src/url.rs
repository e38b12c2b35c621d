//! Addresses of video: which are files, and how they look in messages.

/// The address without user name and password, for messages and logs.
///
/// A password may hold unescaped `/` and `@`; rather a part of the path is hidden than a part of a
/// password shown.
#[must_use]
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_string();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..authority_end];
    let secret_end = match authority.rfind('@') {
        Some(at) => Some(at),
        // `user:pass/word@host`: what follows the colon is not a port.
        None => match authority.rsplit_once(':') {
            Some((_, port))
                if !port.ends_with(']') && !port.bytes().all(|b| b.is_ascii_digit()) =>
            {
                rest.rfind('@')
            }
            _ => None,
        },
    };
    match secret_end {
        Some(at) => format!("{scheme}://***@{}", &rest[at + 1..]),
        None => url.to_string(),
    }
}

/// Whether the address is that of a local file, which can be played again.
#[must_use]
pub fn is_file(url: &str) -> bool {
    local_path(url).is_some()
}

/// The path of a local file, if the address is one.
pub(crate) fn local_path(url: &str) -> Option<&str> {
    if let Some(path) = url.strip_prefix("file://") {
        return Some(path);
    }
    if let Some(path) = url.strip_prefix("file:") {
        return Some(path);
    }
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    let is_scheme = |text: &str| {
        text.len() > 1
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    match scheme {
        Some(scheme) if is_scheme(scheme) && !std::path::Path::new(url).exists() => None,
        _ => Some(url),
    }
}

/// Numbers at which FFmpeg looks for the first picture of a sequence.
const FIRST_NUMBERS: std::ops::Range<u32> = 0..5;

/// The first picture of a numbered sequence, where the path is a pattern like `folder/%05d.jpg` (or
/// `%d`) that FFmpeg will find pictures for.
pub(crate) fn first_picture(pattern: &str) -> Option<std::path::PathBuf> {
    let (before, rest) = pattern.rsplit_once('%')?;
    let (width, after) = rest.split_once('d')?;
    let digits: usize = match width.strip_prefix('0') {
        Some(digits) => digits.parse().ok().filter(|&digits| digits < 20)?,
        None if width.is_empty() => 0,
        None => return None,
    };
    FIRST_NUMBERS
        .map(|number| format!("{before}{number:0digits$}{after}").into())
        .find(|path: &std::path::PathBuf| path.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_never_show() {
        for (url, shown) in [
            (
                "rtsp://admin:secret@10.0.0.7:554/live",
                "rtsp://***@10.0.0.7:554/live",
            ),
            ("rtsp://admin@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
            ("rtsp://a:p@ss@host/x", "rtsp://***@host/x"),
            ("rtsp://a:pa/ss@host/x", "rtsp://***@host/x"),
            ("http://host:8080/a@2x.mp4", "http://host:8080/a@2x.mp4"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("clips/a@b.mp4", "clips/a@b.mp4"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn files_and_urls_are_told_apart() {
        assert_eq!(local_path("a/b.mp4"), Some("a/b.mp4"));
        assert_eq!(local_path("file:///a/b.mp4"), Some("/a/b.mp4"));
        assert_eq!(
            local_path("/clips/at 12:30.mp4"),
            Some("/clips/at 12:30.mp4")
        );
        assert_eq!(local_path("rtsp://host/x"), None);
    }

    #[test]
    fn numbered_pictures_are_found_by_their_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        std::fs::write(path("00003.jpg"), "x").unwrap();
        let found = first_picture(&path("%05d.jpg")).unwrap();
        assert!(found.ends_with("00003.jpg"));
        for pattern in [
            "%04d.jpg",
            "%d.jpg",
            "%5d.jpg",
            "%s.jpg",
            "%099d.jpg",
            "x.jpg",
        ] {
            assert_eq!(first_picture(&path(pattern)), None, "{pattern}");
        }
    }
}
