//! The `bespeak` command: server, client, operators' commands and audit.
//!
//! A library so that the lab (`bespeak-lab`) serves, prints and fails in the same way. Never: rules, SQL, HTTP routes. Exit
//! codes: 0 success; 1 refused, or a check found something wrong; 2 the command line or a setting is wrong.

mod args;
mod asyncapi;
mod client;
mod config;
mod dlq;
mod failure;
mod lab_program;
mod outbox;
mod output;
mod serve;
mod server_flags;
mod verify;

use std::process::ExitCode;

use clap::Parser;

pub use client::segment;
pub use failure::Failure;
pub use output::{Output, card, table};
pub use serve::Server;

use args::{Cli, Command};

/// Parses the process's command line, runs it, and reports a failure on standard error (with `--json` on standard output).
pub fn run_command_line() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let output = output::Output::new(cli.json);
    match cli.command {
        Command::Serve(flags) => on_all_cores(serve::serve(output, flags.values()?)),
        Command::Config(flags) => config::show(output, &flags.values()?),
        Command::Migrate(args) => {
            on_one_thread(verify::migrate(output, args.create_database, args.flags.values()?))
        }
        Command::Verify(args) => on_one_thread(verify::verify(output, args.events, args.flags.values()?)),
        Command::Outbox(command) => on_one_thread(outbox::run(output, command)),
        Command::Dlq(command) => on_one_thread(dlq::run(output, command)),
        Command::Asyncapi(args) => asyncapi::show(output, args),
        Command::Simulate(args) => lab_program::run("simulate", cli.json, &args.arguments),
        Command::Lab(args) => lab_program::run("lab", cli.json, &args.arguments),
        Command::Client(command) => on_one_thread(client::run(output, command)),
    }
}

/// Runs work on a runtime with a thread for each core.
///
/// # Errors
/// Those of the work, or the runtime cannot be started.
pub fn on_all_cores<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::runtime)?.block_on(work)
}

/// A client has one thing to do; starting threads would cost more than it.
fn on_one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?
        .block_on(work)
}
