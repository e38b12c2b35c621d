//! The metrics in the code, in the docs and on the dashboard are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tracklens_tests::root;

/// How the names of all metrics begin.
const PREFIXES: [&str; 4] = ["video_processor_", "sam2_", "lens_", "ingest_"];
/// What Prometheus makes of one histogram.
const SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];

fn is_metric(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && word.bytes().all(plain)
}

/// The words of a text that stand between this character and the same again.
fn quoted(text: &str, quote: char) -> impl Iterator<Item = &str> {
    text.split(quote).skip(1).step_by(2)
}

fn files(folder: &Path, extension: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Names registered in the sources of the nodes: string constants `NAME: &str = "…"`, and names
/// given to the macros directly.
fn registered() -> BTreeSet<String> {
    let mut sources = Vec::new();
    for folder in ["runtime", "nodes"] {
        files(&root().join(folder), "rs", &mut sources);
    }
    let mut names = BTreeSet::new();
    for source in &sources {
        // Tests at the end of a file name whatever they like.
        let code = source.split("#[cfg(test)]").next().unwrap();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            names.extend(
                quoted(line, '"')
                    .filter(|word| is_metric(word))
                    .map(String::from),
            );
        }
    }
    names
}

/// Names in the first column of the tables of the docs, with their labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut names = BTreeMap::new();
    for page in ["docs/operations.md", "docs/nodes.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (Some(name), Some(labels)) = (cells.next(), cells.next()) else {
                continue;
            };
            if is_metric(name) {
                let labels = labels
                    .split(',')
                    .map(str::trim)
                    .filter(|label| !label.is_empty());
                let before = names.insert(name.to_string(), labels.map(String::from).collect());
                assert!(before.is_none(), "{name} is documented twice");
            }
        }
    }
    names
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let (registered, documented) = (registered(), documented());
    assert!(registered.len() > 20, "{registered:?}");
    let names: BTreeSet<String> = documented.into_keys().collect();
    let missing: Vec<_> = registered.difference(&names).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    let gone: Vec<_> = names.difference(&registered).collect();
    assert!(gone.is_empty(), "documented, but in no node: {gone:?}");
}

/// All words of the expressions on the dashboard.
fn words(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "expr" || key == "query" => {
                        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                        found.extend(text.split(|c| !plain(c)).map(String::from));
                    }
                    _ => words(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| words(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let path = root().join("docs/deploy/grafana/tracklens.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let documented = documented();
    let mut used = Vec::new();
    words(&dashboard, &mut used);
    let mut metrics = 0;
    for word in used.iter().filter(|word| is_metric(word)) {
        let plain = SERIES
            .iter()
            .find_map(|series| word.strip_suffix(series))
            .unwrap_or(word);
        let known = documented.contains_key(word.as_str()) || documented.contains_key(plain);
        assert!(known, "the dashboard asks for {word}");
        metrics += 1;
    }
    assert!(metrics > 15, "{metrics}");
}
