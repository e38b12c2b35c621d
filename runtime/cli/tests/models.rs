//! Published models, lists and checks.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use sha2::{Digest, Sha256};
use support::{Server, Tracklens, names};

const MODULES: [&str; 4] = [
    "image_encoder",
    "memory_attention",
    "mask_decoder",
    "memory_encoder",
];

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A model's files as somebody would publish them; modules are not looked into here.
fn published(version: &str) -> Vec<(String, Vec<u8>)> {
    let page = include_str!("../../../docs/models.md");
    let (_, toml) = page.split_once("```toml\n").unwrap();
    let (toml, _) = toml.split_once("[modules.").unwrap();
    let mut toml = toml.replace("version = \"1\"", &format!("version = \"{version}\""));
    let mut files = Vec::new();
    for name in MODULES {
        let module = format!("weights of {name} {version}").into_bytes();
        toml += &format!(
            "[modules.{name}]\nfile = \"{name}.onnx\"\nsha256 = \"{}\"\n",
            sha256(&module)
        );
        files.push((format!("{name}.onnx"), module));
    }
    files.push(("model.toml".into(), toml.into_bytes()));
    with_sums(files)
}

fn with_sums(mut files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.retain(|(name, _)| name != "SHA256SUMS");
    let line = |(name, file): &(String, Vec<u8>)| format!("{}  {name}\n", sha256(file));
    let sums: String = files.iter().map(line).collect();
    files.push(("SHA256SUMS".into(), sums.into_bytes()));
    files
}

#[test]
fn a_published_model_is_fetched_listed_checked_and_replaced() {
    let tracklens = Tracklens::new();
    let server = Server::of(published("1"));
    let said = tracklens.run(&["models", "pull", "tiny", "--url", &server.url]);
    said.well(&["nano 1 (nano, Apache-2.0)", "all 4 modules as described"]);
    let folder = tracklens.models().join("tiny");
    assert_eq!(names(&folder).len(), 5);
    tracklens
        .run(&["models", "verify", "tiny"])
        .well(&["nano 1"]);
    tracklens
        .run(&["models", "verify", folder.to_str().unwrap()])
        .well(&["nano 1"]);
    let list = tracklens.run(&["models", "list"]);
    list.well(&["tracklens models export small"]);
    let row = list
        .out
        .lines()
        .find(|line| line.trim().starts_with("tiny"))
        .unwrap();
    assert!(row.contains(folder.to_str().unwrap()), "{row}");

    let newer = Server::of(published("2"));
    tracklens
        .run(&["models", "pull", "tiny", "--url", &newer.url])
        .well(&["nano 2"]);
    assert_eq!(names(&tracklens.models()), ["tiny"]);
}

#[test]
fn a_broken_publication_does_not_touch_the_installed_model() {
    let tracklens = Tracklens::new();
    let good = Server::of(published("1"));
    tracklens
        .run(&["models", "pull", "mine", "--url", &good.url])
        .well(&[]);

    let mut files = published("2");
    files.retain(|(name, _)| name != "mask_decoder.onnx");
    let incomplete = Server::of(files.clone());
    let said = tracklens.run(&["models", "pull", "mine", "--url", &incomplete.url]);
    said.refused(&["mask_decoder.onnx", "404"]);

    let unlisted = Server::of(with_sums(files));
    let said = tracklens.run(&["models", "pull", "other", "--url", &unlisted.url]);
    said.refused(&["is no model"]);
    assert!(
        said.out.contains("the module mask_decoder cannot be read"),
        "{said:?}"
    );
    assert!(!tracklens.models().join("other").exists());

    tracklens
        .run(&["models", "verify", "mine"])
        .well(&["nano 1"]);
}

#[test]
fn what_is_no_publication_is_told() {
    let tracklens = Tracklens::new();
    let pull = |server: &Server| tracklens.run(&["models", "pull", "mine", "--url", &server.url]);
    pull(&Server::of(Vec::new())).refused(&["SHA256SUMS", "sha256sum *.onnx model.toml"]);
    let page = Server::of(vec![("SHA256SUMS".into(), b"<html>".to_vec())]);
    pull(&page).refused(&["line 1 should be a sha256"]);
    let escape = format!("{}  ../../evil\n", sha256(b""));
    let escape = Server::of(vec![("SHA256SUMS".into(), escape.into_bytes())]);
    pull(&escape).refused(&["../../evil"]);
    let said = tracklens.run(&["models", "pull", "../mine", "--url", &escape.url]);
    said.refused(&["a model's name consists of letters"]);
}

#[test]
fn every_mistake_of_a_folder_is_told_at_once() {
    let tracklens = Tracklens::new();
    let folder = tracklens.home.path().join("broken");
    fs::create_dir(&folder).unwrap();
    let verify = || tracklens.run(&["models", "verify", "broken"]);
    let said = verify();
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("model.toml cannot be read"), "{said:?}");

    for (name, file) in published("1") {
        fs::write(folder.join(name), file).unwrap();
    }
    verify().well(&["all 4 modules"]);
    let toml = fs::read_to_string(folder.join("model.toml")).unwrap();
    let toml = toml
        .replace("candidates = 4", "candidates = 400")
        .replace("mean = ", "average = ");
    fs::write(folder.join("model.toml"), toml).unwrap();
    fs::write(folder.join("image_encoder.onnx"), "short").unwrap();
    fs::remove_file(folder.join("memory_encoder.onnx")).unwrap();
    let said = verify();
    assert_eq!(said.code, Some(1));
    for part in [
        "geometry.candidates is 400, expected a whole number, 1 to 16",
        "input.mean is missing, expected 3 numbers",
        "image_encoder.onnx is damaged or another file",
        "the module memory_encoder cannot be read",
        "4 things are wrong",
    ] {
        assert!(said.out.contains(part), "{part:?} in {said:?}");
    }
}

#[test]
fn sizes_without_a_download_and_unknown_ones_are_explained() {
    let tracklens = Tracklens::new();
    tracklens
        .run(&["models", "pull", "nano"])
        .refused(&["part of the project"]);
    tracklens
        .run(&["models", "pull", "huge"])
        .refused(&["nano, tiny, small, base, large"]);
    tracklens
        .run(&["models", "verify", "large"])
        .refused(&["tracklens models list"]);
}

/// A stand-in for Python: makes "environments" that hold itself, writes down how it is called, and
/// "exports" what lies in `ready`.
const PYTHON: &str = r#"#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
*venv*) for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
*export.py*) for folder; do :; done; cp -r "$READY" "$folder" ;;
esac
"#;

#[test]
fn an_export_makes_its_python_once_and_checks_what_comes_out() {
    use std::os::unix::fs::PermissionsExt;
    let home = Tracklens::new();
    let path = |name: &str| home.home.path().join(name);
    let (calls, ready) = (path("calls"), path("ready"));
    fs::write(path("python"), PYTHON).unwrap();
    fs::set_permissions(path("python"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&ready).unwrap();
    for (name, file) in published("1") {
        fs::write(ready.join(name), file).unwrap();
    }
    let tool = path("nodes/sam2-tracker/models/export");
    fs::create_dir_all(&tool).unwrap();
    fs::write(tool.join("export.py"), "").unwrap();
    fs::write(tool.join("requirements.txt"), "torch").unwrap();
    fs::write(path("x.pt"), "weights").unwrap();
    let home = home
        .env("CALLS", calls.to_str().unwrap())
        .env("READY", ready.to_str().unwrap());
    let export = || {
        let line = "models export tiny --checkpoint x.pt --python ./python";
        home.run(&line.split(' ').collect::<Vec<_>>())
    };
    export().well(&[
        "perhaps one trained on from it",
        "all 4 modules as described",
    ]);
    export().well(&["all 4 modules as described"]);
    home.run(&["models", "verify", "tiny"]).well(&["nano 1"]);
    let said = fs::read_to_string(&calls).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 4, "venv, pip, and the export twice: {said:#?}");
    assert!(said[0].starts_with("-m venv --clear ") && said[1].contains("-r "));
    let sha256 = sha256(b"weights");
    let expected = format!("export.py --size tiny --sha256 {sha256} --checkpoint /");
    assert!(said[3].starts_with(&expected), "{said:#?}");
    fs::remove_file(ready.join("mask_decoder.onnx")).unwrap();
    export().refused(&["no whole model", "mask_decoder"]);
    home.run(&["models", "verify", "tiny"]).well(&["nano 1"]);
}
