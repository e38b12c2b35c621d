//! `tracklens record`: a run that is kept, by `dora record`.

use std::env;
use std::ffi::OsString;
use std::io::Write;

use eyre::{OptionExt, WrapErr, ensure};

use crate::args::RecordArguments;
use crate::{project, recorded, run};

pub(crate) fn record(arguments: &RecordArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let graph = &arguments.run.graph;
    let (text, mut launch) = run::prepare(&arguments.run)?;
    let yaml = serde_yaml::from_str(&text)
        .wrap_err_with(|| format!("the graph {} is no YAML", graph.display()))?;
    let topics = match arguments.topics.is_empty() {
        true => recorded::topics(&yaml, arguments.all),
        false => arguments.topics.clone(),
    };
    ensure!(!topics.is_empty(), "{} has no outputs", graph.display());
    let file = match &arguments.output {
        Some(file) => file.clone(),
        None => launch.folder.join("recording.drec"),
    };
    launch.dora = [
        "record".into(),
        graph.into(),
        "--output".into(),
        file.clone().into(),
    ]
    .into();
    launch
        .dora
        .extend(["--topics".into(), topics.join(",").into()]);
    launch
        .variables
        .push(("PATH", path_with("dora-record-node")?));
    let good = run::carry_out(&launch, out)?;
    for line in run::said_by(&launch, "__dora_record__") {
        writeln!(out, "{line}")?;
    }
    let size = file.metadata().map_or(0, |found| found.len());
    writeln!(
        out,
        "{:.1} MB in {}; `tracklens inspect` tells what is in it, `tracklens replay` plays it",
        size as f64 / 1e6,
        file.display()
    )?;
    Ok(good && size > 0)
}

/// The PATH, with the folder of one of our nodes before it: dora's CLI looks for it there.
fn path_with(node: &str) -> eyre::Result<String> {
    let node = project::node(node).ok_or_eyre(format!("there is no {node}: type `make build`"))?;
    let before = env::var_os("PATH").unwrap_or_default();
    let folder = node.parent().map(std::path::Path::to_path_buf);
    let folders = folder.into_iter().chain(env::split_paths(&before));
    let path: OsString = env::join_paths(folders)?;
    path.into_string()
        .map_err(|_| eyre::eyre!("the PATH is not UTF-8"))
}
