//! The packages and programs of the workspace, from `cargo metadata`.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use super::root;

/// The programs of each package, by the package's folder.
pub(super) fn programs() -> BTreeMap<String, Vec<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (folder(package), binaries(package))).collect()
}

fn folder(package: &Value) -> String {
    let manifest = std::path::Path::new(package["manifest_path"].as_str().expect("a path"));
    let folder = manifest.parent().expect("a folder");
    folder.strip_prefix(root()).expect("in the workspace").to_str().expect("a plain name").to_owned()
}

fn binaries(package: &Value) -> Vec<String> {
    let targets = package["targets"].as_array().expect("targets").iter();
    let programs =
        targets.filter(|target| target["kind"].as_array().is_some_and(|it| it.contains(&"bin".into())));
    programs.map(|target| target["name"].as_str().expect("a name").to_owned()).collect()
}
