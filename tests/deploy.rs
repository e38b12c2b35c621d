//! What docs/deploy says agrees with the code, without any of the tools that it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_yaml::Value;
use tracklens_node::metrics::{FRAMES, port};
use tracklens_node::settings::{Default, TABLE, find};
use tracklens_tests::root;

/// Variables that a container of ours gets and that are no settings.
const OTHERS: [&str; 6] = [
    "LD_LIBRARY_PATH",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "ORT_DYLIB_PATH",
    "RUST_LOG",
    "TRACKLENS_GRAPH",
];
const COMPOSE: [&str; 2] = ["compose.yaml", "compose.cuda.yaml"];

fn deploy() -> PathBuf {
    root().join("docs/deploy")
}

fn text(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&text(&format!("docs/deploy/{name}"))).unwrap()
}

fn services(name: &str) -> Vec<(String, Value)> {
    let compose = yaml(name);
    let services = compose["services"].as_mapping().unwrap();
    let name = |key: &Value| key.as_str().unwrap().to_owned();
    services
        .iter()
        .map(|(key, value)| (name(key), value.clone()))
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_sequence().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn variables(service: &Value) -> Vec<(String, String)> {
    let map = service["environment"].as_mapping();
    map.into_iter()
        .flatten()
        .map(|(name, value)| {
            (
                name.as_str().unwrap().into(),
                value.as_str().unwrap().into(),
            )
        })
        .collect()
}

fn default_of(setting: &str) -> &'static str {
    match find(setting).unwrap().default {
        Default::All(text) => text,
        other => panic!("{setting}: {other:?}"),
    }
}

/// A tag with a version in it, so that the same file gives the same images next year.
fn is_pinned(image: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    tag.matches('.').count() >= 1 && tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v')
}

#[test]
fn images_are_pinned() {
    let mut stages = BTreeSet::new();
    for line in text("docs/deploy/Dockerfile").lines() {
        let Some(rest) = line.strip_prefix("FROM ") else {
            continue;
        };
        let image = rest.split(' ').next().unwrap();
        assert!(is_pinned(image) || stages.contains(image), "{image}");
        stages.extend(rest.rsplit_once(" AS ").map(|(_, stage)| stage.to_owned()));
    }
    for target in ["cpu", "cuda"] {
        assert!(stages.contains(target), "no target {target}");
    }
    for file in COMPOSE {
        for (name, service) in services(file) {
            let image = service["image"].as_str().unwrap();
            assert!(is_pinned(image), "{file}, {name}: {image}");
            if let Some(target) = service["build"]["target"].as_str() {
                assert!(stages.contains(target), "{file}: no target {target}");
            }
        }
    }
}

#[test]
fn the_image_has_what_setup_installs() {
    let (dockerfile, setup) = (text("docs/deploy/Dockerfile"), text("scripts/setup.sh"));
    for name in ["DORA_VERSION", "ONNXRUNTIME_VERSION"] {
        let line = setup
            .lines()
            .find(|line| line.starts_with(&format!("{name}=")))
            .unwrap();
        assert!(dockerfile.contains(&format!("\nARG {line}\n")), "{line}");
    }
    let rust = text("Cargo.toml");
    let rust = rust
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    let image = format!("\nFROM rust:{}.", rust.trim_matches('"'));
    assert!(dockerfile.contains(&image), "{image}");
    let user = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("USER "))
        .unwrap();
    assert!(!["root", "0"].contains(&user), "{user}");
    for copied in dockerfile
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from"))
    {
        for source in copied
            .split(' ')
            .skip(1)
            .filter(|source| !source.contains('*'))
        {
            assert!(root().join(source).exists(), "{copied}");
        }
    }
}

#[test]
fn what_compose_mounts_is_there() {
    let mut mounts = 0;
    for file in COMPOSE {
        let compose = yaml(file);
        for (name, service) in services(file) {
            for volume in texts(&service["volumes"]) {
                let source = volume.split(':').next().unwrap();
                let there = match source.strip_prefix("./") {
                    Some(path) => deploy().join(path).exists(),
                    None => compose["volumes"].get(source).is_some(),
                };
                assert!(there, "{file}, {name}: {volume}");
                mounts += 1;
            }
            let context = &service["build"]["context"];
            if let Some(context) = context.as_str() {
                let dockerfile = service["build"]["dockerfile"].as_str().unwrap();
                assert!(deploy().join(context).join(dockerfile).is_file(), "{file}");
            }
        }
    }
    assert!(mounts > 5, "{mounts}");
}

#[test]
fn settings_and_ports_are_those_of_the_nodes() {
    for file in COMPOSE {
        for (name, service) in services(file)
            .into_iter()
            .filter(|(name, _)| name == "tracklens")
        {
            for (variable, _) in variables(&service) {
                let known = find(&variable).is_some()
                    || variable == "CONFIG_PROFILE"
                    || OTHERS.contains(&variable.as_str());
                assert!(known, "{file}, {name}: {variable} is no setting");
            }
        }
    }
    let dockerfile = text("docs/deploy/Dockerfile");
    let mut lines = dockerfile.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("ENV ") else {
            continue;
        };
        let mut assignment = first;
        loop {
            let name = assignment.trim().split('=').next().unwrap();
            assert!(find(name).is_some() || OTHERS.contains(&name), "ENV {name}");
            if !assignment.ends_with('\\') {
                break;
            }
            assignment = lines.next().unwrap();
        }
    }
    let page = default_of("LIVE_PAGE_BIND").rsplit(':').next().unwrap();
    let expose = format!("\nEXPOSE {} {page}\n", default_of("INGEST_PORT"));
    assert!(dockerfile.contains(&expose), "{expose}");
    let (_, tracklens) = services("compose.yaml").remove(0);
    let inside = |mapping: &String| mapping.rsplit(':').next().unwrap().to_owned();
    let ports: Vec<String> = texts(&tracklens["ports"]).iter().map(inside).collect();
    assert!(
        ports.contains(&default_of("INGEST_PORT").to_owned()),
        "{ports:?}"
    );
    // Prometheus listens in the same network, above the nodes' own ports.
    let prometheus = text("docs/deploy/compose.yaml");
    assert!(prometheus.contains("--web.listen-address=:9190") && ports.contains(&"9190".into()));
    let source = yaml("grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["url"], "http://tracklens:9190");
    let graph = tracklens["command"][1].as_str().unwrap();
    let graph = graph.replace("${TRACKLENS_GRAPH:-", "").replace('}', "");
    assert!(root().join(graph).is_file());
}

#[test]
fn secrets_come_from_the_environment() {
    for file in COMPOSE {
        for (name, service) in services(file) {
            for (variable, value) in variables(&service) {
                let secret = ["PASS", "TOKEN", "KEY", "AMQP_URL"]
                    .iter()
                    .any(|word| variable.contains(word));
                assert!(
                    !secret || value.contains(":?"),
                    "{file}, {name}: {variable}={value}"
                );
            }
        }
    }
}

#[test]
fn prometheus_asks_every_node() {
    let config = yaml("prometheus.yml");
    let targets = texts(&config["scrape_configs"][0]["static_configs"][0]["targets"]);
    let first: u16 = default_of("METRICS_PORT").parse().unwrap();
    let nodes: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|setting| setting.nodes)
        .copied()
        .collect();
    assert!(nodes.len() > 5, "{nodes:?}");
    for node in nodes {
        let target = format!("127.0.0.1:{}", port(first, node));
        assert!(targets.contains(&target), "{node}: {target}");
    }
    // The second of two trackers.
    let scaled = text("graphs/scaled.yml");
    let second = scaled
        .split("${METRICS_PORT_B:-")
        .nth(1)
        .and_then(|rest| rest.split('}').next());
    let second = port(second.unwrap().parse().unwrap(), "iou-tracker");
    assert!(targets.contains(&format!("127.0.0.1:{second}")), "{second}");
    for rules in texts(&config["rule_files"]) {
        assert!(deploy().join(&rules).is_file(), "{rules}");
        assert!(text("docs/deploy/compose.yaml").contains(&format!("/etc/prometheus/{rules}:ro")));
    }
}

#[test]
fn every_alarm_is_explained_and_asks_for_metrics_that_there_are() {
    let operations = text("docs/operations.md");
    let rules = yaml("alerts.yml");
    let mut alarms = BTreeSet::new();
    for group in rules["groups"].as_sequence().unwrap() {
        for rule in group["rules"].as_sequence().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(alarms.insert(name.to_owned()), "{name} comes twice");
            let expression = rule["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = |word: &&str| {
                ["video_processor_", "sam2_", "lens_"]
                    .iter()
                    .any(|p| word.starts_with(p))
            };
            for word in words.filter(ours) {
                let plain = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(
                    operations.contains(&format!("\n| {plain} |")),
                    "{name}: {word}"
                );
            }
        }
    }
    assert!(operations.contains(&format!("\n| {FRAMES} |")));
    let explained: BTreeSet<String> = operations
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| **")?
                .split("** |")
                .next()
                .map(String::from)
        })
        .collect();
    assert_eq!(alarms, explained);
}
