//! The tidy test: rules about sizes, imports, dependencies, documents and words that no compiler checks.
//!
//! It starts no server and reads only the files that git tracks or would track. A rule collects all its violations and
//! fails with one line for each: the place, and what would be right.
//!
//! Never: rules about behaviour. Next: `source.rs`, which splits Rust files into tokens for the others.

mod documents;
mod layers;
mod manifests;
mod paths;
mod sizes;
mod source;
mod words;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is one folder below the root")
        .to_owned()
}

/// The repository's files whose names end with `extension`, as sorted paths relative to the root.
fn files(extension: &str) -> Vec<String> {
    let listed = run(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]));
    let mut files: Vec<_> = listed
        .lines()
        .filter(|file| file.ends_with(extension) && root().join(file).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    assert!(!files.is_empty(), "git lists no file that ends with {extension:?}");
    files
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs a command in the root and returns its output.
fn run(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().expect("the command can be run");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// The violations of one rule.
#[derive(Default)]
struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, file: &str, line: usize, what: impl std::fmt::Display) {
        self.0.push(format!("{file}:{line}: {what}"));
    }

    #[track_caller]
    fn assert_none(mut self, rule: &str) {
        self.0.dedup();
        assert!(self.0.is_empty(), "{rule}: {} violations\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Each row of `tests/mutations.toml` names code and tests that exist.
#[test]
fn mutations_fit_the_code() {
    run(Command::new(env!("CARGO")).args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--",
        "mutations",
        "--check",
    ]));
}
