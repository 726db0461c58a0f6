//! The program of the previous release, built from the history of this repository.

use std::{path::PathBuf, process::Command};

use crate::binary::{self, Output};

/// The path of `bespeak` as the previous release had it; `cargo xtask previous` builds it unless it was built before.
///
/// # Panics
/// It cannot be built; the message says what to do, for example in a shallow clone.
pub(crate) fn path() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    binary::forget_this_package(&mut build);
    let built = build.args(["xtask", "previous"]).output().expect("cargo can be run");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "the previous release cannot be built: {said}");
    PathBuf::from(String::from_utf8(built.stdout).expect("a path").trim())
}

/// Runs `bespeak` of the previous release, as [`crate::bespeak`] runs today's.
pub async fn previous_bespeak(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let program = tokio::task::spawn_blocking(path).await.expect("it can be built");
    let mut command = binary::clean_command(Command::new(program));
    command.args(args);
    binary::finished(command, environment).await
}
