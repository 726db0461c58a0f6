//! `cargo xtask coverage`: which lines of `shared/` the tests run, as a page and as a figure.
//!
//! Never: a figure of code that is itself a test (the conformance suite, `tests.rs`). Next: `test.rs`, which runs the same tests
//! to see whether they pass.

use std::{env, path::PathBuf, process::Command};

use crate::{cargo, provision, services::Services, step, target};

/// What must be reached, in per cent of lines.
const AT_LEAST: &str = "90";
const VERSION: &str = "0.37.5";
/// What tests start.
const PROGRAMS: [&str; 4] = ["bespeak", "reserve", "relay-cron", "consumer"];

/// Runs the tests that `filters` name, or all, and writes `target/coverage/tarpaulin-report.html`.
pub(crate) fn run(filters: &[String]) -> Result<(), String> {
    provision::ensure()?;
    let tarpaulin = tarpaulin()?;
    step(
        "building what starts the servers",
        cargo().args(["build", "--quiet", "--locked", "-p", "bespeak-services", "--example", "services"]),
    )?;
    let services = Services::start()?;
    let folder = target().join("coverage");
    let mut command = cargo();
    command
        .arg("tarpaulin")
        // It counts in the program (LLVM), so it needs no right to trace processes, and no component of the toolchain.
        .args(["--engine", "llvm", "--skip-clean", "--locked"])
        .args(["--packages", "bespeak", "--packages", "bespeak-tests", "--tests", "--lib"])
        .args(["--include-files", "shared/src/*"])
        .args(["--exclude-files", "shared/src/store/conformance/*", "--exclude-files", "*/conformance.rs"])
        .args(["--exclude-files", "*/tests.rs"])
        .args(["--exclude-files", "*/tests/*"])
        .args(["--timeout", "7200", "--out", "Html", "--out", "Json"])
        .arg("--output-dir")
        .arg(&folder)
        .arg("--target-dir")
        .arg(&folder)
        // The programs that tests start count too: the tests build them, with the flags that they are told, into the same folder.
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
        // Of a part of the tests the figure says nothing.
        command.args(["--fail-under", AT_LEAST]);
    } else {
        command.arg("--").args(filters);
    }
    let done = step("tests, counting lines", &mut command);
    eprintln!("xtask: {}", folder.join("tarpaulin-report.html").display());
    done
}

/// The folder with cargo-tarpaulin; installs it where it is missing, into the folder that Cargo builds into.
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

/// PATH, with a folder before all others.
fn with_first(folder: &std::path::Path) -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(env::split_paths(&path));
    // A folder with a colon in its name cannot be on PATH at all.
    env::join_paths(folders).unwrap_or(path)
}
