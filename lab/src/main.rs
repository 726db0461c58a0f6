//! `bespeak-lab`: the program behind `bespeak simulate` and `bespeak lab`.
//!
//! Exit codes: 0 if the sale or the comparison passed; 1 if it did not pass or failed; 2 if the command line is not
//! valid; 130 if Ctrl-C stopped the lab.

mod args;
#[cfg(feature = "comparison")]
mod comparison;
mod duration;
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
        #[cfg(feature = "comparison")]
        Command::Lab(args) => on_all_cores(comparison::run(output, args)),
        #[cfg(feature = "comparison")]
        Command::LabSubject(args) => on_all_cores(comparison::serve_subject(output, args)),
    }
}
