//! `cargo xtask test`: everything that must hold before a change is merged.
//!
//! Never: a step that is left out silently. Next: `services.rs` for the servers that the tests share.

use std::{process::Command, time::Instant};

use crate::{cargo, provision, services::Services, step};

pub(crate) fn run() -> Result<(), String> {
    let started = Instant::now();
    // First, so that nobody waits for lints to hear that something must be installed.
    provision::ensure()?;
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
    tests()?;
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

fn tests() -> Result<(), String> {
    // With what starts the servers among it, of the same dependencies.
    step("building tests", cargo().args(["test", "--workspace", "--locked", "--no-run"]))?;
    let services = Services::start()?;
    // What passing tests print (seeds of random ones) is shown as well.
    step(
        "tests",
        cargo()
            .args(["test", "--workspace", "--locked", "--", "--show-output"])
            // One at a time: a crowd of thousands must not make another test's second pass too soon.
            .env("RUST_TEST_THREADS", "1")
            // A snapshot that differs fails; it is never written here.
            .env("INSTA_UPDATE", "no")
            // Many tests panic on purpose: their backtraces would bury what a failed one says.
            .env("RUST_BACKTRACE", "0")
            .envs(services.variables()),
    )
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
