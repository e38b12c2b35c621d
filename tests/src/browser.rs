//! The real browser of the page tests: a headless Chromium, driven by Playwright.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::root;

/// Names under which distributions have it, lightest first.
const BROWSERS: [&str; 5] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// The browser; panics where there is none.
fn browser() -> PathBuf {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = BROWSERS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    found.expect("a Chromium is installed (scripts/setup.sh --tests)")
}

/// Has tests/page/look.mjs look at a page with so many streams; its report. It leaves screenshots in
/// `out`. Panics with what it said where it is not content.
#[must_use]
pub fn look(url: &str, out: &Path, streams: usize) -> Value {
    let own = root().join(".tools/page");
    let playwright = std::env::var_os("PLAYWRIGHT").map_or(own, PathBuf::from);
    assert!(
        playwright.join("node_modules/playwright-core").is_dir(),
        "playwright-core is installed in {} (scripts/setup.sh --tests)",
        playwright.display()
    );
    let output = Command::new("node")
        .arg(root().join("tests/page/look.mjs"))
        .args([url, &out.display().to_string(), &streams.to_string()])
        .env("PLAYWRIGHT", playwright)
        .env("CHROMIUM", browser())
        .output()
        .expect("node is installed (scripts/setup.sh --tests)");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let report = std::fs::read(out.join("report.json")).expect("report.json");
    serde_json::from_slice(&report).expect("a JSON report")
}
