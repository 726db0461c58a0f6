//! Finds programs that are installed on this machine.
//!
//! Never: an installation. `cargo xtask` installs what is missing and searches the same folders (`folders.txt`).

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folders that are searched after PATH, one a line. Packages put servers there, and not every account has these
/// folders on its PATH.
const FOLDERS: &str = include_str!("../folders.txt");

/// Finds a program by name, on PATH or in one of [`FOLDERS`].
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.lines().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a program with one argument and returns its standard output; empty if it cannot be run.
pub(crate) async fn output_of(program: &Path, argument: &str) -> String {
    let output = tokio::process::Command::new(program).arg(argument).output().await;
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
