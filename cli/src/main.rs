//! `bespeak`: the server, a client of it, the flash-sale simulation, the lock lab and the audit, in one binary.
//!
//! Exit codes: 0 done; 1 refused, or something is wrong with what was looked at; 2 the command line or a setting is wrong.

mod args;
mod asyncapi;
mod client;
mod config;
mod dlq;
mod failure;
mod lab;
mod outbox;
mod output;
mod serve;
mod server_flags;
mod simulate;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
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
        Command::Lab(args) => on_all_cores(lab::run(output, args)),
        Command::LabSubject(args) => on_all_cores(lab::serve_subject(output, args)),
        Command::Simulate(args) => on_all_cores(simulate::run(output, args)),
        Command::Client(command) => on_one_thread(client::run(output, command)),
    }
}

fn on_all_cores<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
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
