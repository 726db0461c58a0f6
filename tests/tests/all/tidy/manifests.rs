//! Crates depend downward, the engine stays pure, and each dependency has its row in the documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use super::{Violations, run, text};

/// Our crates, and the crates of ours that each may depend on besides what those depend on.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("bespeak-engine", &[]),
    ("bespeak", &["bespeak-engine"]),
    ("bespeak-http", &["bespeak"]),
    ("bespeak-reserve", &["bespeak", "bespeak-http"]),
    ("bespeak-relay-cron", &["bespeak"]),
    ("bespeak-consumer", &["bespeak"]),
    ("bespeak-cli", &["bespeak", "bespeak-http"]),
    ("bespeak-services", &[]),
    ("bespeak-lab", &["bespeak", "bespeak-cli", "bespeak-http", "bespeak-services"]),
    ("bespeak-event-source", &["bespeak", "bespeak-lab"]),
    ("bespeak-bench", &["bespeak", "bespeak-engine", "bespeak-http", "bespeak-lab", "bespeak-services"]),
    (
        "bespeak-tests",
        &[
            "bespeak",
            "bespeak-engine",
            "bespeak-http",
            "bespeak-lab",
            "bespeak-services",
            "bespeak-event-source",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that the engine must not have in its tree: they would let a rule wait, store, or draw a random number.
const IMPURE: [&str; 4] = ["tokio", "sqlx", "rand", "fastrand"];

#[test]
fn crates_depend_downward() {
    let metadata = run(Command::new(env!("CARGO")).args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]));
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into();
    let mut violations = Violations::default();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let manifest = package["manifest_path"].as_str().expect("a path");
        let Some(may_use) = allowed.get(name) else {
            violations.add(manifest, 1, format!("{name} is not in MAY_USE; add what it may depend on"));
            continue;
        };
        let normal = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|it| it["kind"].is_null());
        for dependency in normal.filter_map(|it| it["name"].as_str()).filter(|it| allowed.contains_key(it)) {
            if !may_use.contains(&dependency) {
                violations.add(
                    manifest,
                    1,
                    format!("{name} must not depend on {dependency}, only on {may_use:?}"),
                );
            }
        }
    }
    violations.assert_none("crates depend downward");
}

#[test]
fn the_engine_is_pure() {
    let tree = run(Command::new(env!("CARGO")).args([
        "tree",
        "--offline",
        "--package",
        "bespeak-engine",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]));
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("blake3"), "{tree}");
    let mut violations = Violations::default();
    for name in IMPURE.into_iter().filter(|name| crates.contains(name)) {
        violations.add(
            "shared/engine/Cargo.toml",
            1,
            format!("{name} is in the tree; see `cargo tree -i {name}`"),
        );
    }
    violations.assert_none("the engine has no runtime, no database and no randomness");
}

#[test]
fn every_dependency_is_explained() {
    let (_, rest) = text("Cargo.toml")
        .split_once("[workspace.dependencies]\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("the table");
    let table = rest.split("\n[").next().expect("a table");
    let named: BTreeSet<&str> = table
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let page = text("docs/dependencies.md");
    let rows: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let mut violations = Violations::default();
    for name in named.difference(&rows) {
        violations.add(
            "docs/dependencies.md",
            1,
            format!("there is no row for {name}; say why it was chosen"),
        );
    }
    for name in rows.difference(&named) {
        violations.add(
            "docs/dependencies.md",
            1,
            format!("{name} is not in [workspace.dependencies]; remove its row"),
        );
    }
    violations.assert_none("every dependency is explained");
}
