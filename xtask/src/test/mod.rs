//! `cargo xtask test`: everything that must hold before a change is merged.
//!
//! Never: a step that is left out silently. Next: `.config/nextest.toml` for which tests run beside others,
//! `services.rs` for the servers that the tests share.

mod slowest;

use std::{process::Command, thread, time::Instant};

use crate::{at_root, cargo, previous, provision, services::Services, step, target};

pub(crate) fn run() -> Result<(), String> {
    let started = Instant::now();
    // First, so that a machine on which something must be installed by hand says so before anything is built.
    let missing = provision::missing()?;
    step("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    licences()?;
    // Installing takes the network and the disk more than the processors, so the code compiles meanwhile.
    let (installed, built) = thread::scope(|scope| {
        let installing = scope.spawn(|| missing.install());
        let built = lints().and_then(|()| documentation()).and_then(|()| build());
        (installing.join(), built)
    });
    built?;
    installed.map_err(|_| "the installation panicked")??;
    tests()?;
    eprintln!("xtask: everything holds ({} s)", started.elapsed().as_secs());
    Ok(())
}

/// With all features: those that no test needs are compiled nowhere else.
fn lints() -> Result<(), String> {
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
    )
}

fn documentation() -> Result<(), String> {
    step(
        "documentation",
        cargo()
            // With the features of the lints, so that both read the same metadata of dependencies.
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--all-features",
                "--locked",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Builds the tests, with what starts the servers among them, the programs that they start, and runs the examples of
/// the documentation. All with the same features, so that everything is compiled once.
fn build() -> Result<(), String> {
    step("building tests", cargo().args(["test", "--workspace", "--locked", "--no-run"]))?;
    step("building programs", cargo().args(["test-programs", "--locked"]))?;
    previous::build()?;
    step("examples in the documentation", cargo().args(["test", "--workspace", "--locked", "--doc"]))
}

fn tests() -> Result<(), String> {
    let services = Services::start()?;
    let done = step(
        "tests",
        // Not as a subcommand of Cargo, which would look for it on PATH, where another version may be.
        at_root(provision::nextest())
            .args(["nextest", "run", "--workspace", "--locked"])
            .env("BESPEAK_TEST_PROGRAMS", target().join("debug"))
            // A snapshot that differs fails; it is never written here.
            .env("INSTA_UPDATE", "no")
            // Many tests panic on purpose: their backtraces would bury what a failed one says.
            .env("RUST_BACKTRACE", "0")
            .envs(services.variables()),
    );
    slowest::print();
    done
}

/// Licences, bans and sources need nothing but the lock file; advisories need a data base that cannot be had
/// everywhere.
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
