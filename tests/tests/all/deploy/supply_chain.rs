//! Checks what a release is made from: the workflows in `.github/workflows`, the base images, and `deny.toml`.
//!
//! No workflow runs here; the tests read them.

use std::collections::BTreeMap;

use bespeak_services::Tool;
use serde_json::{Value, json};

use super::{complaints, root, stack::plain, text, yaml};

const FOLDER: &str = ".github/workflows";

/// The workflows by their names.
fn workflows() -> BTreeMap<String, Value> {
    let listed = std::fs::read_dir(root().join(FOLDER)).expect("a folder");
    let names = listed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let parsed = names.map(|file| yaml::documents(&format!("{FOLDER}/{file}")).remove(0));
    parsed.map(|workflow| (plain(&workflow["name"]), workflow)).collect()
}

/// The jobs of a workflow by their ids.
fn jobs(workflow: &Value) -> BTreeMap<String, Value> {
    serde_json::from_value(workflow["jobs"].clone()).expect("jobs by id")
}

fn steps(job: &Value) -> &Vec<Value> {
    job["steps"].as_array().expect("steps")
}

/// The commands that a job runs.
fn commands(job: &Value) -> String {
    steps(job).iter().filter_map(|step| step["run"].as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_linter_of_workflows_finds_nothing() {
    assert_eq!(
        complaints(Tool::ZIZMOR, &["--offline", "--quiet", FOLDER]),
        "No findings to report. Good job!"
    );
}

#[test]
fn each_job_has_only_the_permissions_that_it_needs() {
    let mut writers = Vec::new();
    for (name, workflow) in workflows() {
        assert_eq!(workflow["permissions"], json!({}), "{name}: jobs state their own permissions");
        assert_eq!(
            workflow["defaults"]["run"]["shell"], "bash",
            "{name}: without pipefail, failures are lost"
        );
        assert!(workflow["on"].get("pull_request_target").is_none(), "{name} runs code of strangers");
        for (id, job) in jobs(&workflow) {
            assert!(job["timeout-minutes"].is_u64(), "{name}/{id} may run for six hours");
            assert!(!job.to_string().contains("continue-on-error"), "{name}/{id} may fail silently");
            for (scope, access) in job["permissions"].as_object().expect("permissions") {
                if access == "write" {
                    writers.push(format!("{name}/{id}: {scope}"));
                } else {
                    assert_eq!(access, "read", "{name}/{id}: {scope}");
                }
            }
        }
    }
    writers.sort();
    assert_eq!(
        writers,
        [
            "release/image: attestations",
            "release/image: id-token",
            "release/image: packages",
            "release/images: packages",
            "release/programs: attestations",
            "release/programs: id-token",
            "release/publish: contents",
        ]
    );
}

#[test]
fn each_action_is_pinned_by_one_commit_whose_version_is_named() {
    let mut pinned = BTreeMap::new();
    for (name, workflow) in workflows() {
        for step in jobs(&workflow).values().flat_map(steps).filter(|step| step["uses"].is_string()) {
            let uses = plain(&step["uses"]);
            let (action, commit) = uses.split_once('@').expect("an action at a version");
            let hexadecimal =
                commit.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            assert!(commit.len() == 40 && hexadecimal, "{name}: {uses} is not pinned by a commit");
            let text = text(&format!("{FOLDER}/{name}.yml"));
            assert!(text.contains(&format!("{uses} # v")), "{name}: a comment names the version of {uses}");
            let first = pinned.entry(action.to_owned()).or_insert_with(|| commit.to_owned());
            assert_eq!(first, commit, "{action} has two versions");
            if action == "actions/checkout" {
                assert_eq!(step["with"]["persist-credentials"], false, "{name}: later steps see the token");
            }
        }
    }
    assert!(pinned.contains_key("actions/checkout") && pinned.contains_key("actions/attest"), "{pinned:?}");
}

#[test]
fn changes_and_releases_pass_the_same_test_command() {
    let workflows = workflows();
    assert!(text(".ci/run").lines().any(|line| line == "exec cargo xtask test"));
    for name in ["ci", "release"] {
        assert!(
            commands(&jobs(&workflows[name])["test"]).lines().any(|line| line == "bash .ci/run"),
            "{name}"
        );
    }
    // Nothing of a release is built before the tests have passed.
    let release = jobs(&workflows["release"]);
    let needs = |id: &str| match &release[id]["needs"] {
        Value::Array(ids) => ids.iter().map(plain).collect(),
        Value::String(id) => vec![id.clone()],
        _ => Vec::new(),
    };
    for id in release.keys().filter(|id| *id != "test") {
        let mut reached = vec![id.clone()];
        while let Some(next) = reached.iter().flat_map(|id| needs(id)).find(|id| !reached.contains(id)) {
            reached.push(next);
        }
        assert!(reached.contains(&"test".to_owned()), "{id} does not wait for the tests");
    }
}

#[test]
fn advisories_are_required_for_changes_for_releases_and_each_night() {
    let workflows = workflows();
    let advisories = &workflows["advisories"];
    for trigger in ["push", "pull_request", "schedule"] {
        assert!(advisories["on"].get(trigger).is_some(), "not on {trigger}");
    }
    assert!(commands(&jobs(advisories)["dependencies"]).contains("cargo deny check advisories"));
    assert!(commands(&jobs(&workflows["release"])["test"]).contains("cargo deny check"));
    let deny = text("deny.toml");
    let (_, section) = deny.split_once("\n[advisories]\n").expect("a section on advisories");
    let section = section.split("\n[").next().unwrap_or_default();
    for line in ["yanked = \"deny\"", "unmaintained = \"workspace\"", "unsound = \"workspace\""] {
        assert!(section.lines().any(|it| it == line), "no {line}");
    }
}

#[test]
fn base_images_are_pinned_and_programs_are_built_by_the_image_s_builder() {
    let dockerfile = text("Dockerfile");
    let images: Vec<_> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(images.len(), 2);
    for image in &images {
        let (name, digest) = image.split_once("@sha256:").unwrap_or_else(|| panic!("{image} has no digest"));
        assert!(name.contains(':'), "{image}: the tag says what it is");
        let digest = digest.split(' ').next().unwrap_or_default();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{image}");
    }
    let workflows = workflows();
    let builder = plain(&jobs(&workflows["release"])["programs"]["container"]);
    assert_eq!(images[0], format!("{builder} AS build"));
    let toolchain = dockerfile.lines().find_map(|line| line.strip_prefix("ENV RUSTUP_TOOLCHAIN="));
    for (name, workflow) in workflows {
        for (id, job) in jobs(&workflow).into_iter().filter(|(_, job)| commands(job).contains("cargo")) {
            let of_job = job["env"]["RUSTUP_TOOLCHAIN"].as_str();
            let pinned = of_job.or_else(|| workflow["env"]["RUSTUP_TOOLCHAIN"].as_str());
            assert_eq!(pinned, toolchain, "{name}/{id}");
        }
    }
}
