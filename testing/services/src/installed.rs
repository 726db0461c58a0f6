//! Where a program of this machine lies.
//!
//! Never: an installation; `cargo xtask` does that, and looks in the same places.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Beside PATH: where packages put servers, which is not on every account's PATH.
const FOLDERS: [&str; 6] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/libexec",
    "/usr/local/mysql/bin",
    "/opt/homebrew/bin",
];

/// The program of that name, on PATH or where servers are.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What a program says of itself; nothing, if it cannot be run.
pub(crate) async fn said_by(program: &Path, argument: &str) -> String {
    let output = tokio::process::Command::new(program).arg(argument).output().await;
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
