//! The binary `tracklens`; everything is in the library of the same name.

use std::process::ExitCode;

use clap::Parser;
use tracklens::args::Arguments;

fn main() -> ExitCode {
    tracklens::carry_out(Arguments::parse(), &mut std::io::stdout().lock())
}
