//! `bespeak-lab`: what `bespeak simulate` and `bespeak lab` run.
//!
//! Exit codes: 0 passed; 1 a sale or a strategy that must not oversell did, or an error; 2 the command line is wrong; 130 the
//! lab was stopped with Ctrl-C.

mod args;
mod comparison;
mod simulate;

use std::process::ExitCode;

use bespeak_cli::{Failure, Output, on_all_cores};
use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let output = Output::new(cli.json);
    match cli.command {
        Command::Simulate(args) => on_all_cores(simulate::run(output, args)),
        Command::Lab(args) => on_all_cores(comparison::run(output, args)),
        Command::LabSubject(args) => on_all_cores(comparison::serve_subject(output, args)),
    }
}
