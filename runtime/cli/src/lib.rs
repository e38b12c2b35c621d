//! The `tracklens` command: what stands around a graph while it runs, and what is done with its
//! output afterwards. The graphs themselves are dora's business: everything that `tracklens run`
//! does could be typed as `dora run` with a few variables set.

pub mod args;
mod bench;
mod config;
mod diff;
mod doctor;
mod dora;
mod eval;
mod export;
mod inspect;
mod models;
mod progress;
mod project;
mod record;
mod recorded;
mod render;
mod replay;
mod run;
mod sources;
mod streams;
mod summary;
mod tracks;
mod watch;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use args::{Arguments, Command};

/// Carries out a command. What is asked for goes to `out`, what happens meanwhile to standard
/// error. The exit code is 0 for success, 1 where the answer is no (a part is missing, a source
/// gave nothing), and 2 where the command could not be carried out at all.
pub fn carry_out(arguments: Arguments, out: &mut dyn Write) -> ExitCode {
    let result = match arguments.command {
        Command::Doctor => doctor::doctor(out),
        Command::Config(arguments) => config::config(&arguments, out),
        Command::Run(arguments) => run::run(&arguments, out),
        Command::Record(arguments) => record::record(&arguments, out),
        Command::Replay(arguments) => replay::replay(&arguments, out),
        Command::Inspect(arguments) => inspect::inspect(&arguments, out),
        Command::Export(arguments) => export::export(&arguments, out),
        Command::Diff(arguments) => diff::diff(&arguments, out),
        Command::Render(arguments) => render::render(&arguments, out),
        Command::Streams(arguments) => streams::streams(&arguments, out),
        Command::Tracks(arguments) => tracks::tracks(&arguments, out),
        Command::Models(command) => models::models(&command, out),
        Command::Eval(arguments) => eval::eval(&arguments, out),
        Command::Bench(arguments) => bench::bench(&arguments, out),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `tracklens tracks … | head` is no failure.
        Err(report) if is_broken_pipe(&report) => ExitCode::SUCCESS,
        Err(report) => {
            eprintln!("tracklens: {report:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(report: &eyre::Report) -> bool {
    report
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
