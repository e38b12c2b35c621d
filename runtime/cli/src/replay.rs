//! `tracklens replay`: a recording in its graph, with everything behind it made anew.

use std::fs;
use std::io::Write;
use std::path::Path;

use eyre::{OptionExt, WrapErr, ensure};
use tracklens_node::Graph;
use tracklens_recording::{End, Reader};

use crate::args::ReplayArguments;
use crate::recorded::{self, Counts, Stage};
use crate::{project, run};

pub(crate) fn replay(arguments: &ReplayArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let file = arguments.file.canonicalize();
    let file = file.wrap_err_with(|| format!("no recording {}", arguments.file.display()))?;
    let (descriptor, counts) = contents(&file)?;
    let graph = serde_yaml::from_str(&descriptor)
        .wrap_err_with(|| format!("{}: the graph is no YAML", file.display()))?;
    let replaced = match arguments.replace.is_empty() {
        true => recorded::sources(&Graph::of(&graph), &counts),
        false => recorded::asked_for(&arguments.replace, &counts)?,
    };
    ensure!(
        !replaced.is_empty(),
        "{}: no node can be played: its frames, chunks or rows are not recorded",
        file.display()
    );
    let names: Vec<&str> = replaced.iter().map(String::as_str).collect();
    writeln!(out, "playing {} from {}", names.join(", "), file.display())?;

    let player = project::node("dora-replay-node")
        .ok_or_eyre("there is no dora-replay-node: type `make build`")?;
    let variables = variables(arguments);
    let stage = Stage {
        file: &file,
        player: &player,
        replaced: &replaced,
        variables: &variables,
    };
    let yaml = recorded::stage(&descriptor, &stage, project::node)?;
    let mut launch = run::launch(&arguments.out, &file)?;
    let path = launch.folder.join("replay.yml");
    fs::write(&path, yaml).wrap_err_with(|| format!("cannot write {}", path.display()))?;
    launch.dora = ["run".into(), path.into()].into();
    let good = run::carry_out(&launch, out)?;
    for node in &replaced {
        for line in run::said_by(&launch, node) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(good)
}

/// The graph of a recording, and what is in it as far as it can be read.
fn contents(file: &Path) -> eyre::Result<(String, Counts)> {
    let mut reader = Reader::open(file)?;
    let mut counts = Counts::new();
    let fault = loop {
        match reader.next() {
            Ok(Some(record)) => {
                let outputs = counts.entry(record.node).or_default();
                *outputs.entry(record.output).or_default() += 1;
            }
            Ok(None) => break None,
            Err(fault) => break Some(fault.to_string()),
        }
    };
    if let Some(reason) = fault.or_else(|| reader.end().and_then(End::fault)) {
        eprintln!("{}: played up to the fault: {reason}", file.display());
    }
    Ok((reader.descriptor().to_string(), counts))
}

fn variables(arguments: &ReplayArguments) -> Vec<(&'static str, String)> {
    let mut variables = vec![("DORA_REPLAY_SPEED", arguments.speed.to_string())];
    if arguments.repeat {
        variables.push(("DORA_REPLAY_LOOP", "true".into()));
    }
    if let Some(from) = arguments.from {
        variables.push(("TRACKLENS_REPLAY_FROM_SECONDS", from.to_string()));
    }
    if let Some(stream) = &arguments.stream {
        variables.push(("TRACKLENS_REPLAY_STREAM", stream.clone()));
    }
    variables
}
