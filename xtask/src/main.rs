//! `cargo xtask test | bench`: everything that must hold, and how fast it is.

use std::{
    env,
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
    Test,
    /// The benchmarks, with the release profile
    Bench {
        /// Passed on; see `cargo xtask bench -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test => test(),
        Task::Bench { arguments } => bench(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), String> {
    let started = Instant::now();
    step("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "lints",
        cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    // What passing tests print (seeds of random ones) is shown as well.
    step(
        "tests",
        cargo()
            .args(["test", "--workspace", "--locked", "--", "--show-output"])
            // One at a time: a crowd of thousands must not make another test's second pass too soon.
            .env("RUST_TEST_THREADS", "1")
            // A snapshot that differs fails; it is never written here.
            .env("INSTA_UPDATE", "no"),
    )?;
    step(
        "documentation",
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    licences()?;
    eprintln!("xtask: everything holds ({} s)", started.elapsed().as_secs());
    Ok(())
}

/// Licences, bans and sources need nothing but the lock file; advisories need a data base that cannot be had everywhere.
fn licences() -> Result<(), String> {
    if Command::new("cargo-deny").arg("--version").output().is_err() {
        eprintln!(
            "xtask: left out: licences and advisories (cargo-deny is not installed: cargo install cargo-deny)"
        );
        return Ok(());
    }
    step(
        "licences, bans, sources",
        cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]),
    )?;
    let fetched = cargo().args(["deny", "fetch", "db"]).status().is_ok_and(|status| status.success());
    if fetched {
        step("advisories", cargo().args(["deny", "check", "advisories"]))
    } else {
        eprintln!("xtask: left out: advisories (their data base cannot be fetched from here)");
        Ok(())
    }
}

fn bench(arguments: &[String]) -> Result<(), String> {
    step(
        "building",
        cargo().args(["build", "--release", "--locked", "-p", "bespeak-cli", "-p", "bespeak-bench"]),
    )?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let binary = target.join("release").join("bespeak");
    let arguments = arguments.iter().filter(|argument| *argument != "--");
    step(
        "benchmarks",
        Command::new(target.join("release").join("bespeak-bench"))
            .arg("--binary")
            .arg(binary)
            .args(arguments)
            .current_dir(root()),
    )
}

fn root() -> PathBuf {
    // This crate lies one folder below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
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
