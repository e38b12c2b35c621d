//! `tracklens config`: the effective settings and where each comes from.

use std::collections::BTreeSet;
use std::env;
use std::io::Write;

use comfy_table::{Table, presets};
use serde_json::Value as Json;
use tracklens_node::settings::{Setting, TABLE, resolve};

use crate::args::ConfigArguments;

pub(crate) fn config(arguments: &ConfigArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let names = names(arguments.node.as_deref())?;
    let resolved = resolve(&names, |name| match (name, &arguments.profile) {
        ("CONFIG_PROFILE", Some(profile)) => Some(profile.clone()),
        _ => env::var(name).ok(),
    })?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["setting", "value", "from", "read by", "accepted"]);
    for value in &resolved.values {
        table.add_row([
            value.setting.name.to_string(),
            shown(value.setting.name, &value.json),
            value.origin.to_string(),
            readers(value.setting),
            value.setting.kind.accepted(),
        ]);
    }
    writeln!(out, "profile: {}\n", resolved.profile.as_str())?;
    writeln!(out, "{}", table.trim_fmt())?;
    for warning in &resolved.warnings {
        writeln!(out, "\nwarning: {warning}")?;
    }
    Ok(true)
}

fn names(node: Option<&str>) -> eyre::Result<Vec<&'static str>> {
    let nodes: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|setting| setting.nodes)
        .copied()
        .collect();
    if let Some(node) = node.filter(|node| !nodes.contains(node)) {
        let known: Vec<&str> = nodes.into_iter().collect();
        eyre::bail!(
            "no node is called {node:?}; those with settings are {}",
            known.join(", ")
        );
    }
    Ok(TABLE
        .iter()
        .filter(|setting| {
            node.is_none_or(|node| setting.nodes.is_empty() || setting.nodes.contains(&node))
        })
        .map(|setting| setting.name)
        .collect())
}

fn readers(setting: &Setting) -> String {
    if setting.nodes.is_empty() {
        "every node".into()
    } else {
        setting.nodes.join(", ")
    }
}

/// The text with the passwords of all URLs in it hidden.
fn without_passwords(text: &str) -> String {
    let words = text.split_inclusive(|c: char| c.is_whitespace() || "'\",{}[]".contains(c));
    words.map(tracklens_video::redact).collect()
}

/// Keys and passwords stay where they are: only that they are set is told.
fn shown(name: &str, value: &Json) -> String {
    let secret = ["KEY", "TOKEN", "PASSWORD", "SECRET", "AMQP_URL"]
        .iter()
        .any(|word| name.contains(word));
    match value {
        Json::Null => "-".into(),
        _ if secret => "(set)".into(),
        Json::String(text) => without_passwords(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn printed(arguments: &ConfigArguments) -> String {
        let mut out = Vec::new();
        assert!(config(arguments, &mut out).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_profile_shows_its_own_defaults() {
        let quality = ConfigArguments {
            profile: Some("quality".into()),
            node: None,
        };
        let text = printed(&quality);
        let row = text
            .lines()
            .find(|line| line.contains("PROCESSING_RESOLUTION"))
            .unwrap();
        assert!(
            row.contains("1080") && row.contains("profile quality"),
            "{row}"
        );
        assert!(text.contains("SOURCES"));
    }

    #[test]
    fn a_node_shows_what_it_reads() {
        let buffer = ConfigArguments {
            profile: None,
            node: Some("buffer".into()),
        };
        let text = printed(&buffer);
        assert!(text.contains("VIDEO_BUFFER_SIZE") && text.contains("FLOW_MODE"));
        assert!(!text.contains("SOURCES"));
    }

    #[test]
    fn unknown_words_are_answered_with_the_known_ones() {
        let wrong = |profile: Option<&str>, node: Option<&str>| {
            let arguments = ConfigArguments {
                profile: profile.map(Into::into),
                node: node.map(Into::into),
            };
            config(&arguments, &mut Vec::new()).unwrap_err().to_string()
        };
        assert!(wrong(Some("fast"), None).contains("performance, balanced, quality"));
        assert!(wrong(None, Some("bufer")).contains("buffer, decoder"));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("LENS_API_KEY", &"abc".into()), "(set)");
        assert_eq!(shown("INGEST_AMQP_URL", &"amqp://u:p@h".into()), "(set)");
        assert_eq!(shown("LENS_API_KEY", &Json::Null), "-");
    }
}
