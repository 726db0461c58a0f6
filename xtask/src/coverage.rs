//! `cargo xtask coverage`: measures the lines of `shared/` that the tests run, and writes a page and a figure.
//!
//! Never: a figure that includes test code (the conformance suite, `tests.rs`). Next: `test/`, which runs
//! the same tests to check that they pass.

use std::{env, path::PathBuf, process::Command};

use crate::{cargo, provision, services::Services, step, target};

/// The share of lines that the tests must run, in per cent.
const AT_LEAST: &str = "90";
const VERSION: &str = "0.37.5";
/// The programs that tests start.
const PROGRAMS: [&str; 4] = ["bespeak", "reserve", "relay-cron", "consumer"];

/// Runs the tests whose names contain one of `filters`, or all tests, and writes
/// `target/coverage/tarpaulin-report.html`.
pub(crate) fn run(filters: &[String]) -> Result<(), String> {
    provision::ensure()?;
    let tarpaulin = tarpaulin()?;
    step(
        "building the program that starts the servers",
        cargo().args(["build", "--quiet", "--locked", "-p", "bespeak-services", "--example", "services"]),
    )?;
    let services = Services::start()?;
    let folder = target().join("coverage");
    let mut command = cargo();
    command
        .arg("tarpaulin")
        // With LLVM's instrumentation, tarpaulin needs neither the right to trace processes nor a toolchain component.
        .args(["--engine", "llvm", "--skip-clean", "--locked"])
        .args(["--packages", "bespeak-engine", "--packages", "bespeak", "--packages", "bespeak-http"])
        .args(["--packages", "bespeak-tests", "--tests", "--lib"])
        .args(["--include-files", "shared/*/src/*"])
        .args([
            "--exclude-files",
            "shared/core/src/store/conformance/*",
            "--exclude-files",
            "*/conformance.rs",
        ])
        .args(["--exclude-files", "*/tests.rs"])
        .args(["--exclude-files", "*/tests/*"])
        .args(["--timeout", "7200", "--out", "Html", "--out", "Json"])
        .arg("--output-dir")
        .arg(&folder)
        .arg("--target-dir")
        .arg(&folder)
        // The programs that tests start are measured too: the tests build them with the same flags into the
        // same folder.
        .env("CARGO_TARGET_DIR", &folder)
        .env("PATH", with_first(&tarpaulin))
        .env("RUST_TEST_THREADS", "1")
        .env("INSTA_UPDATE", "no")
        .env("RUST_BACKTRACE", "0")
        .envs(services.variables());
    for program in PROGRAMS {
        command.arg("--objects").arg(folder.join("debug").join(program));
    }
    if filters.is_empty() {
        // The figure of a part of the tests has no meaning.
        command.args(["--fail-under", AT_LEAST]);
    } else {
        command.arg("--").args(filters);
    }
    let result = step("tests with line counts", &mut command);
    eprintln!("xtask: the report is {}", folder.join("tarpaulin-report.html").display());
    result
}

/// The folder with cargo-tarpaulin, which is installed into Cargo's target directory if it is missing.
fn tarpaulin() -> Result<PathBuf, String> {
    let tools = target().join("tools");
    let folder = tools.join("bin");
    let found = Command::new(folder.join("cargo-tarpaulin")).arg("--version").output();
    if found.is_ok_and(|found| String::from_utf8_lossy(&found.stdout).contains(VERSION)) {
        return Ok(folder);
    }
    step(
        "cargo install cargo-tarpaulin",
        cargo()
            .args(["install", "--quiet", "--locked", "cargo-tarpaulin", "--version", VERSION, "--root"])
            .arg(tools),
    )?;
    Ok(folder)
}

/// The value of PATH with a folder in front.
fn with_first(folder: &std::path::Path) -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(env::split_paths(&path));
    // It fails only for a folder with a colon in its name, which cannot be on PATH.
    env::join_paths(folders).unwrap_or(path)
}
