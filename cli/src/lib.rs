//! The `bespeak` command: the server, a client for it, and the operators' commands.
//!
//! It receives a command line and returns an exit code: 0 for success; 1 for a refusal, a failure, or a check that
//! found something wrong; 2 for a command line or a setting that is not valid, or a database that cannot be opened. It
//! is a library so that the lab (`bespeak-lab`) starts servers, prints results and reports failures in the same way.
//!
//! Never: rules, SQL, HTTP routes. Next: `args/` for the commands, then the file that has a command's name.

mod args;
mod asyncapi;
mod backup;
mod client;
mod config;
mod database;
mod dlq;
mod failure;
mod lab_program;
mod openapi;
mod outbox;
mod output;
mod serve;
mod server_flags;
mod verify;

use std::process::ExitCode;

use clap::Parser;

pub use client::segment;
pub use failure::Failure;
pub use output::{Output, card, counted, table};
pub use serve::Server;

use args::{Cli, Command};

/// Parses the process's command line, runs the command, and reports a failure on standard error, or with `--json` on
/// standard output. Returns the exit code.
pub fn run_command_line() -> ExitCode {
    let cli = Cli::parse();
    // The lab's options are passed on as they are, `--json` among them.
    let json = cli.json || cli.command.is_json_of_lab();
    match run(cli, json) {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli, json: bool) -> Result<ExitCode, Failure> {
    let output = output::Output::new(json);
    match cli.command {
        Command::Serve(flags) => on_all_cores(serve::serve(output, flags.values()?)),
        Command::Config(args) if args.markdown => config::page(output),
        Command::Config(args) => config::show(output, &args.flags.values()?),
        Command::Migrate(args) => {
            on_one_thread(database::migrate(output, args.create_database, args.flags.values()?))
        }
        Command::Verify(args) => on_one_thread(verify::verify(output, &args, args.flags.values()?)),
        Command::Backup(args) => on_one_thread(backup::back_up(output, &args.to, args.flags.values()?)),
        Command::Outbox(command) => on_one_thread(outbox::run(output, command)),
        Command::Dlq(command) => on_one_thread(dlq::run(output, command)),
        Command::Asyncapi(args) => asyncapi::show(output, args),
        Command::Openapi(args) => openapi::show(output, &args),
        Command::Simulate(args) => lab_program::run("simulate", cli.json, &args.arguments),
        Command::Lab(args) => lab_program::run("lab", cli.json, &args.arguments),
        Command::Client(command) => on_one_thread(client::run(output, command)),
    }
}

/// Runs work on a runtime with one thread for each core.
///
/// # Errors
/// Those of the work, or the runtime cannot be started.
pub fn on_all_cores<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::runtime)?.block_on(work)
}

/// Runs work on the current thread: a client command is over sooner than a pool of threads would be started.
fn on_one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?
        .block_on(work)
}
