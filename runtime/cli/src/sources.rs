//! From `--source` to the decoder's `SOURCES`.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracklens_schemas::StreamId;

/// One stream: an element of `SOURCES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) id: StreamId,
    pub(crate) url: String,
}

/// Reads what was typed. A source without a name is called after its file; names that occur twice
/// get a number. Paths become absolute, since nodes run in the graph's folder.
pub(crate) fn parse(typed: &[String], folder: &Path) -> eyre::Result<Vec<Source>> {
    let mut taken = BTreeSet::new();
    let mut sources = Vec::with_capacity(typed.len());
    for text in typed {
        let (name, url) = split(text);
        eyre::ensure!(
            !url.is_empty(),
            "--source {text:?}: there is no file or URL in it"
        );
        let id = match name {
            Some(id) => {
                eyre::ensure!(
                    taken.insert(id.clone()),
                    "--source: two streams are called {id}"
                );
                id
            }
            None => unused(&name_of(url), &mut taken)?,
        };
        sources.push(Source {
            id,
            url: absolute(url, folder),
        });
    }
    Ok(sources)
}

/// The YAML (JSON, to be exact, which is YAML on one line) that the decoder reads.
pub(crate) fn to_yaml(sources: &[Source]) -> eyre::Result<String> {
    Ok(serde_json::to_string(sources)?)
}

/// The stream ids in a `SOURCES` text; none where it is not understood (the decoder will say why).
pub(crate) fn ids(yaml: &str) -> Vec<StreamId> {
    #[derive(Deserialize)]
    struct Named {
        id: StreamId,
    }
    serde_yaml::from_str::<Vec<Named>>(yaml)
        .map(|sources| sources.into_iter().map(|source| source.id).collect())
        .unwrap_or_default()
}

/// `door=a.mp4` has a name; `http://host/a?b=c` and `./x=y.mp4` have none.
fn split(text: &str) -> (Option<StreamId>, &str) {
    match text.split_once('=') {
        Some((name, url)) => match name.parse() {
            Ok(id) => (Some(id), url),
            Err(_) => (None, text),
        },
        None => (None, text),
    }
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
    })
}

fn absolute(url: &str, folder: &Path) -> String {
    if is_url(url) {
        return url.into();
    }
    folder.join(url).to_string_lossy().into_owned()
}

/// The file's name without its extension, or the last word of a URL, in the letters of a stream id.
fn name_of(url: &str) -> String {
    let path = if is_url(url) {
        url.split(['?', '#']).next().unwrap_or(url)
    } else {
        url
    };
    let last = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path);
    let stem = last
        .rsplit_once('.')
        .map_or(last, |(stem, _)| if stem.is_empty() { last } else { stem });
    let name: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(100)
        .collect();
    if name.is_empty() {
        "stream".into()
    } else {
        name
    }
}

fn unused(name: &str, taken: &mut BTreeSet<StreamId>) -> eyre::Result<StreamId> {
    let mut id: StreamId = name.parse()?;
    let mut number = 2;
    while !taken.insert(id.clone()) {
        id = format!("{name}-{number}").parse()?;
        number += 1;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(typed: &[&str]) -> Vec<(String, String)> {
        let typed: Vec<String> = typed.iter().map(ToString::to_string).collect();
        parse(&typed, Path::new("/here"))
            .unwrap()
            .into_iter()
            .map(|source| (source.id.to_string(), source.url))
            .collect()
    }

    fn pair(id: &str, url: &str) -> (String, String) {
        (id.into(), url.into())
    }

    #[test]
    fn a_file_gives_its_name_and_becomes_absolute() {
        assert_eq!(
            parsed(&["clips/a b.mp4"]),
            [pair("a_b", "/here/clips/a b.mp4")]
        );
        assert_eq!(parsed(&["/x/y.tar.mkv"]), [pair("y.tar", "/x/y.tar.mkv")]);
    }

    #[test]
    fn a_name_may_be_given() {
        assert_eq!(parsed(&["door=a.mp4"]), [pair("door", "/here/a.mp4")]);
    }

    #[test]
    fn urls_stay_as_they_are_even_with_an_equals_sign_in_them() {
        let url = "rtsp://camera.local:554/main?channel=1";
        assert_eq!(parsed(&[url]), [pair("main", url)]);
        assert_eq!(parsed(&[&format!("c={url}")]), [pair("c", url)]);
    }

    #[test]
    fn equal_names_are_numbered_and_equal_given_names_refused() {
        let ids: Vec<String> = parsed(&["a/x.mp4", "b/x.mp4", "c/x.mp4"])
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(ids, ["x", "x-2", "x-3"]);
        let twice = ["x=a.mp4".to_string(), "x=b.mp4".to_string()];
        let error = parse(&twice, Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("two streams are called x"));
    }

    #[test]
    fn the_decoders_yaml_gives_the_ids_back() {
        let typed = ["door=a: {b}.mp4".to_string(), "c.mp4".to_string()];
        let sources = parse(&typed, Path::new("/here")).unwrap();
        let yaml = to_yaml(&sources).unwrap();
        assert_eq!(serde_yaml::from_str::<Vec<Source>>(&yaml).unwrap(), sources);
        assert_eq!(ids(&yaml), [sources[0].id.clone(), sources[1].id.clone()]);
        assert!(ids("no list").is_empty());
    }
}
