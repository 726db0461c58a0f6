//! The deployment files (the template for AWS, the image, the manifests for Kubernetes) agree with the code, and their
//! linters report nothing.
//!
//! Never: AWS, a cluster or a registry of images. Next: `stack.rs`, which evaluates the template as CloudFormation
//! does.

mod connections;
mod image;
mod kubernetes;
mod monitoring;
mod network;
mod stack;
mod supply_chain;
mod template;
mod workspace;
pub(crate) mod yaml;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use bespeak_services::Tool;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies one folder below the root")
        .to_owned()
}

fn text(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The output of a tool about a file; empty if the tool has no complaint.
fn complaints(tool: Tool, arguments: &[&str]) -> String {
    let mut command = tool.command().expect("the tool is there");
    said(command.current_dir(root()).args(arguments))
}

fn said(command: &mut Command) -> String {
    let output = command.output().expect("the tool runs");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        said.push_str(&output.status.to_string());
    }
    said.trim().to_owned()
}
