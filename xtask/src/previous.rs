//! `cargo xtask previous`: builds the program of the previous release from the history of this repository, so that
//! tests can run it on today's schema.
//!
//! `tests/previous-release.txt` names the commit. The program is built once for each commit, outside the workspace,
//! with its own lock file and few features. Never: a test that is left out because the commit is missing.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{at_root, root, step, target};

/// What the tests run: the embedded event log, on both databases.
const FEATURES: &str = "sqlite,mysql";

/// Builds the program unless it was built before, and prints its path.
pub(crate) fn run() -> Result<(), String> {
    let program = build()?;
    writeln!(std::io::stdout(), "{}", program.display()).map_err(|error| format!("standard output: {error}"))
}

/// Builds the program unless it was built before, and returns its path.
pub(crate) fn build() -> Result<PathBuf, String> {
    let commit = pinned()?;
    let folder = target().join("previous").join(&commit);
    let program = folder.join("bespeak");
    if program.exists() {
        return Ok(program);
    }
    fetch(&commit)?;
    // Each process has a folder of its own until it is done: several tests may begin at the same time.
    let work = target().join("previous").join(format!("{commit}.{}", std::process::id()));
    let built = extract(&commit, &work.join("source")).and_then(|()| compile(&work, &folder, &program));
    // Only the program is kept: what it was built from takes a gigabyte.
    let _ = fs::remove_dir_all(&work);
    built.map(|()| program)
}

/// The commit of the previous release.
fn pinned() -> Result<String, String> {
    let file = root().join("tests/previous-release.txt");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let commit = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default().trim();
    let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit {
        return Ok(commit.to_owned());
    }
    Err(format!("{}: must name a commit by its 40 hexadecimal digits, got {commit:?}", file.display()))
}

/// Makes sure that the commit is in this clone, which a shallow one may lack.
fn fetch(commit: &str) -> Result<(), String> {
    let is_here = || {
        let object = format!("{commit}^{{commit}}");
        let found = at_root("git").args(["cat-file", "-e", &object]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    if is_here() {
        return Ok(());
    }
    // It fails if the server does not give single commits, or if there is no server.
    let _ = at_root("git").args(["fetch", "--quiet", "--depth", "1", "origin", commit]).status();
    if is_here() {
        return Ok(());
    }
    Err(format!(
        "the commit of the previous release, {commit}, is not in this clone, and cannot be fetched from origin: run \
         `git fetch --unshallow`"
    ))
}

fn extract(commit: &str, into: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the previous release cannot be extracted: {error}");
    fs::create_dir_all(into).map_err(failed)?;
    let mut archive = at_root("git")
        .args(["archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let files = archive.stdout.take().ok_or("the output of git archive is missing")?;
    let extracted = at_root("tar").arg("-x").arg("-C").arg(into).stdin(files).status().map_err(failed)?;
    let archived = archive.wait().map_err(failed)?;
    if archived.success() && extracted.success() {
        return Ok(());
    }
    Err(format!("the previous release cannot be extracted: git archive {archived}, tar {extracted}"))
}

fn compile(work: &Path, folder: &Path, program: &Path) -> Result<(), String> {
    step(
        "building the previous release",
        crate::cargo()
            .current_dir(work.join("source"))
            .args(["build", "--locked", "--package", "bespeak-cli", "--bin", "bespeak"])
            .args(["--no-default-features", "--features", FEATURES])
            .env("CARGO_TARGET_DIR", work.join("target"))
            // It is not debugged, so it has no debug information.
            .env("CARGO_PROFILE_DEV_DEBUG", "0"),
    )?;
    let failed = |error: std::io::Error| format!("the previous release cannot be kept: {error}");
    fs::create_dir_all(folder).map_err(failed)?;
    fs::rename(work.join("target/debug/bespeak"), program).map_err(failed)
}
