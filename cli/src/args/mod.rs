//! The command line: the commands, and the options of those that run or describe the server.
//!
//! Next: `operators.rs` for commands that open the database, `client.rs` for commands that send requests to a server.

mod client;
mod operators;
mod webhooks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use client::*;
pub(crate) use operators::*;
pub(crate) use webhooks::*;

use crate::server_flags::ServerFlags;

/// The version, and the commit of the build if the environment variable `BESPEAK_COMMIT` named one to the compiler.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    option_env!("BESPEAK_COMMIT").map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

/// Reservation engine: holds limited stock for a while, then commits, releases or expires it, without overselling.
#[derive(Debug, Parser)]
#[command(
    name = "bespeak",
    version = version(),
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  bespeak serve                                     Serve on 127.0.0.1:8080
  bespeak stock set -r room-101 -t 3                Define a resource
  bespeak reserve -r room-101 -q 2 --key order-17   Hold 2 of its units
  bespeak commit TOKEN                              Make the hold final
  bespeak verify                                    Audit the database

Exit codes:
  0  success
  1  a refusal, a failure, or a check that found something wrong
  2  the command line or a setting is not valid, or the database cannot be opened"
)]
pub(crate) struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine in one process: HTTP API, background tasks and event pipeline
    ///
    /// The process creates and migrates its database, serves the API, expires holds, delivers events and webhooks,
    /// and purges old rows. SIGINT and SIGTERM stop it after the requests in flight. Every flag is also an
    /// environment variable; a flag wins.
    #[command(after_help = "\
Examples:
  bespeak serve
  bespeak serve --listen 0.0.0.0:8080 --database-url sqlite:///var/lib/bespeak/bespeak.db
  bespeak serve --database-url mysql://bespeak:PASSWORD@127.0.0.1/bespeak --events-url kafka://127.0.0.1:9092")]
    Serve(ServerFlags),
    /// Print every setting with its value, the source of the value, and its meaning
    ///
    /// Passwords and secrets are not printed. The exit code is 2 if a value is not valid.
    Config(ConfigArgs),
    /// Bring the schema of the database to this version
    ///
    /// `serve` does so when it starts. Run this command first if `serve` uses an account that may not change the
    /// schema, or before an upgrade of several processes.
    #[command(after_help = "\
Example:
  bespeak migrate --create-database --database-url mysql://root:PASSWORD@127.0.0.1/bespeak")]
    Migrate(MigrateArgs),
    /// Audit a database: nothing oversold, all or nothing, one winner, an event for every change
    ///
    /// The audit reads one snapshot of the database, so it is exact even while processes write. The exit code is 1 if
    /// it finds something wrong.
    #[command(after_help = "\
Examples:
  bespeak verify
  bespeak verify --events --json
  bespeak verify --record")]
    Verify(VerifyArgs),
    /// Copy an SQLite database to a file while processes serve it, and check the copy
    ///
    /// The copy is one consistent snapshot, complete in one file, which only its owner may read. To restore, stop the
    /// server, put the copy in the place of the database, and remove the database's -wal and -shm files.
    #[command(after_help = "\
Example:
  bespeak backup --to backups/bespeak-2026-11-30.db")]
    Backup(BackupArgs),
    /// Inspect the outbox; retry, skip or republish its events
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Inspect dead letters, the events that no consumer could apply; replay or drop them
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Run a flash sale against a server and check that the books balance; needs the program `bespeak-lab`
    ///
    /// `bespeak simulate --help` lists the options. Without --server, the simulation starts its own server.
    #[command(disable_help_flag = true)]
    Simulate(LabProgramArgs),
    /// Compare the locking strategies under the same load; needs the program `bespeak-lab`
    ///
    /// `bespeak lab --help` lists the options.
    #[command(disable_help_flag = true)]
    Lab(LabProgramArgs),
    /// Print the AsyncAPI document of the published events
    #[command(after_help = "\
Examples:
  bespeak asyncapi > asyncapi.json
  bespeak asyncapi --schemas schemas/")]
    Asyncapi(AsyncapiArgs),
    /// Print the OpenAPI document of the HTTP API, with the default limits
    #[command(after_help = "\
Examples:
  bespeak openapi > openapi.json
  bespeak openapi --markdown > api.md")]
    Openapi(OpenapiArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

impl Command {
    /// Whether `--json` is among the options that a lab's subcommand passes on without parsing them.
    pub(crate) fn is_json_of_lab(&self) -> bool {
        let (Self::Simulate(args) | Self::Lab(args)) = self else { return false };
        args.arguments.iter().any(|argument| argument == "--json")
    }
}

/// The options of the program `bespeak-lab`, passed on as they are.
#[derive(Debug, Args)]
pub(crate) struct LabProgramArgs {
    /// Options of `bespeak-lab`; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Print the documentation of all settings as a Markdown page, without their values
    #[arg(long)]
    pub(crate) markdown: bool,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

#[derive(Debug, Args)]
pub(crate) struct AsyncapiArgs {
    /// Write the JSON Schema of each payload into this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) schemas: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenapiArgs {
    /// Print a Markdown page instead: operations, bodies, responses and problem types
    #[arg(long)]
    pub(crate) markdown: bool,
}
