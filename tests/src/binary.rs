//! The programs under test: `bespeak` and the functions, built from the same sources as the tests.

use std::{ffi::OsStr, path::PathBuf, process::Command, sync::OnceLock};

use serde_json::Value;

use crate::kafka;

/// The path of the command `bespeak`.
pub(crate) fn path() -> PathBuf {
    built("bespeak")
}

/// Names the folder in which the programs lie that were built for these tests.
const VARIABLE: &str = "BESPEAK_TEST_PROGRAMS";

/// The path of a program, built from the code under test.
///
/// The folder that the environment names has it. Without one, each process has Cargo build the programs, as `cargo
/// xtask test` does before it runs the tests.
pub(crate) fn built(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os(VARIABLE) {
            return folder.into();
        }
        let mut build = Command::new(env!("CARGO"));
        forget_this_package(&mut build);
        let built = build.args(["test-programs", "--quiet"]).status().expect("cargo can be run");
        assert!(built.success(), "the programs cannot be built");
        // This test lies in target/debug/deps.
        let test = std::env::current_exe().expect("a path");
        test.ancestors().nth(2).expect("two folders up").to_owned()
    });
    folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
}

/// Removes from a command what Cargo says of this package. It is not said of others: the build scripts of some look at
/// it, and would have their crates, and all that need these, built again each time.
pub(crate) fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
        command.env_remove(name);
    }
}

fn is_of_this_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begins| name.starts_with(begins))
}

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 if a signal ended the process.
    pub code: i32,
    /// The standard output.
    pub out: String,
    /// The standard error.
    pub err: String,
}

impl Output {
    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `bespeak`; of Bespeak's variables its environment contains only `environment`.
pub async fn bespeak(args: &[&str], environment: &[(&str, &str)]) -> Output {
    finished(clean(args), environment).await
}

/// Runs a program of this project without arguments, as [`bespeak()`] does.
pub async fn program(name: &str, environment: &[(&str, &str)]) -> Output {
    finished(clean_program(name), environment).await
}

pub(crate) async fn finished(mut command: Command, environment: &[(&str, &str)]) -> Output {
    command.envs(environment.iter().copied());
    kafka::set_group(&mut command);
    let std::process::Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("no panic")
            .expect("it can be run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Output { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// The command, in an environment without Bespeak's variables.
pub(crate) fn clean(args: &[&str]) -> Command {
    let mut command = clean_program("bespeak");
    command.args(args);
    command
}

/// A program of this project, in an environment without Bespeak's variables.
pub fn clean_program(name: &str) -> Command {
    clean_command(Command::new(built(name)))
}

pub(crate) fn clean_command(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let of_bespeak =
            name.to_string_lossy().contains("BESPEAK") || name.to_string_lossy().starts_with("OPENRESERVE");
        // By Cargo's variables `bespeak` would find itself in a checkout, and build the lab instead of running the
        // one beside it.
        if of_bespeak || is_of_this_package(&name) {
            command.env_remove(name);
        }
    }
    command
}
