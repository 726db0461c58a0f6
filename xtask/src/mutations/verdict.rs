//! Runs tests with and without a mutation, and decides from their output whether it was noticed.

use std::{
    collections::BTreeSet,
    fmt, fs,
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{catalogue::Mutation, edit::Applied};
use crate::{cargo, services::Services, target};

/// Tests that take longer hang, which is a way to notice a mutation.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// What rustc's callers print when a program that the tests build themselves does not compile.
const NOT_COMPILED: &str = "error: could not compile";

/// What became of a mutation.
#[derive(Debug)]
pub(super) enum Verdict {
    /// For each name, a test failed.
    Caught,
    /// The tests did not end in time.
    Hung,
    /// For these names, all tests passed.
    Missed { by: Vec<String> },
    /// The changed code does not compile, which proves nothing.
    DoesNotCompile,
}

impl Verdict {
    /// The verdict in the table.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Hung => "caught (hung)",
            Self::Missed { .. } => "MISSED",
            Self::DoesNotCompile => "does not compile",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed { by } => write!(f, "MISSED by {}", by.join(", ")),
            _ => f.write_str(self.word()),
        }
    }
}

/// How a run of tests ended.
enum Ran {
    Passed,
    Failed { log: String },
    Hung,
}

/// Runs tests, with the servers that they need.
pub(super) struct Runner<'a> {
    services: Option<&'a Services>,
    logs: PathBuf,
}

impl<'a> Runner<'a> {
    /// A runner that writes its logs into `target/mutations`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn new(services: Option<&'a Services>) -> Result<Self, String> {
        let logs = target().join("mutations");
        fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        Ok(Self { services, logs })
    }

    /// The folder of the logs.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Runs tests of the code as it is.
    ///
    /// # Errors
    /// They cannot be built, a name belongs to no test, or a test fails.
    pub(super) fn expect_green(&self, package: &str, filters: &[&str]) -> Result<(), String> {
        eprintln!("xtask: {package}: building and running the tests that must pass without a mutation");
        let log = self.logs.join(format!("{package}.log"));
        if !self.builds(package, &log)? {
            return Err(format!("{package} does not compile: {}", log.display()));
        }
        let listed = self.tests(package).args(["--", "--list"]).args(filters).output();
        let listed = listed.map_err(|error| format!("cargo cannot be run: {error}"))?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        let unknown = |filter: &&&str| !tests.iter().any(|test| test.contains(**filter));
        if let Some(filter) = filters.iter().find(unknown) {
            return Err(format!("{package} has no test whose name contains {filter}"));
        }
        match self.run(package, filters, &log, None)? {
            Ran::Passed => Ok(()),
            Ran::Failed { log: text } => {
                let failed: Vec<String> = failures(&text).into_iter().collect();
                Err(format!(
                    "{package}: tests fail without a mutation: {} ({})",
                    failed.join(", "),
                    log.display()
                ))
            }
            Ran::Hung => Err(format!("{package}: the tests hang without a mutation ({})", log.display())),
        }
    }

    /// Runs the tests of a row, whose mutation is applied.
    ///
    /// # Errors
    /// Cargo cannot be run.
    pub(super) fn verdict(&self, row: &Mutation, applied: &mut Applied) -> Result<Verdict, String> {
        let log = self.logs.join(format!("{:03}.log", row.number));
        let mut by = Vec::new();
        let mut hung = false;
        for (package, filters) in &row.tests {
            if !self.builds(package, &log)? {
                return Ok(Verdict::DoesNotCompile);
            }
            let names: Vec<&str> = filters.iter().map(String::as_str).collect();
            match self.run(package, &names, &log, Some(applied))? {
                Ran::Passed => by.extend_from_slice(filters),
                Ran::Failed { log } if log.contains(NOT_COMPILED) => return Ok(Verdict::DoesNotCompile),
                Ran::Failed { log } => by.extend(green(filters, &failures(&log))),
                Ran::Hung => hung = true,
            }
        }
        Ok(match (by.is_empty(), hung) {
            (true, false) => Verdict::Caught,
            (true, true) => Verdict::Hung,
            (false, _) => Verdict::Missed { by },
        })
    }

    fn tests(&self, package: &str) -> Command {
        let mut command = cargo();
        // Every test binary runs, also after one of them failed.
        command.args(["test", "--locked", "--package", package, "--tests", "--no-fail-fast"]);
        // As in the test command: one test at a time, no snapshot is written, no backtrace buries the names.
        command.env("RUST_TEST_THREADS", "1").env("INSTA_UPDATE", "no").env("RUST_BACKTRACE", "0");
        if let Some(services) = self.services {
            command.envs(services.variables());
        }
        command
    }

    fn builds(&self, package: &str, log: &Path) -> Result<bool, String> {
        let mut command = self.tests(package);
        let output = command.args(["--no-run", "--quiet"]).stdout(writer(log)?).stderr(writer(log)?).status();
        output.map(|status| status.success()).map_err(|error| format!("cargo cannot be run: {error}"))
    }

    fn run(
        &self,
        package: &str,
        filters: &[&str],
        log: &Path,
        applied: Option<&mut Applied>,
    ) -> Result<Ran, String> {
        let output = writer(log)?;
        let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = self.tests(package);
        command.arg("--").args(filters).stdin(Stdio::null()).stdout(output).stderr(errors);
        if applied.is_some() {
            // Of its own, so that a test that hangs can be ended with all that it started.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| format!("cargo cannot be run: {error}"))?;
        if let Some(applied) = applied {
            applied.watch(child.id());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(Ran::Passed),
                Some(_) => {
                    let log = fs::read(log).map_err(|error| format!("{}: {error}", log.display()))?;
                    return Ok(Ran::Failed { log: String::from_utf8_lossy(&log).into_owned() });
                }
                None if Instant::now() > deadline => {
                    let group = format!("kill -TERM -{}", child.id());
                    // If they ended just now there is nothing to end.
                    let _ = Command::new("sh").args(["-c", &group]).status();
                    let _ = child.wait();
                    return Ok(Ran::Hung);
                }
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn writer(log: &Path) -> Result<File, String> {
    File::create(log).map_err(|error| format!("{}: {error}", log.display()))
}

/// The names for which no test failed. Tests whose process died left no list of failures: then all of them
/// count as failed.
fn green(filters: &[String], failed: &BTreeSet<String>) -> Vec<String> {
    let is_green = |filter: &&String| !failed.iter().any(|test| test.contains(filter.as_str()));
    if failed.is_empty() { Vec::new() } else { filters.iter().filter(is_green).cloned().collect() }
}

/// The tests that are listed as failed at the end of each binary.
fn failures(log: &str) -> BTreeSet<String> {
    let mut failed = BTreeSet::new();
    let mut listing = false;
    for line in log.lines() {
        match line.strip_prefix("    ") {
            _ if line == "failures:" => listing = true,
            Some(name) if listing && !name.is_empty() && !name.contains(' ') => {
                failed.insert(name.to_owned());
            }
            _ => listing = false,
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "
running 2 tests
test a::one ... FAILED
test b::two ... ok

failures:

---- a::one stdout ----
thread 'a::one' panicked
    at somewhere

failures:
    a::one
    c::three

test result: FAILED. 1 passed; 1 failed
error: test failed
";

    #[test]
    fn failures_are_those_of_the_list_at_the_end() {
        assert_eq!(failures(LOG), ["a::one", "c::three"].map(str::to_owned).into());
        let filters = ["one", "two"].map(str::to_owned);
        assert_eq!(green(&filters, &failures(LOG)), ["two"]);
        assert_eq!(green(&filters, &failures("signal: 6, SIGABRT")), [""; 0], "the process died");
    }
}
