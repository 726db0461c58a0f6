//! `cargo xtask bench`: builds and runs the benchmarks, with the release profile.
//!
//! Never: a server of its own; each benchmark starts those that it measures. Next: `bench/`.

use std::process::Command;

use crate::{cargo, provision, root, step, target};

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    provision::ensure()?;
    step(
        "building",
        cargo().args(["build", "--release", "--locked", "-p", "bespeak-cli", "-p", "bespeak-bench"]),
    )?;
    let functions = target().join("functions");
    if arguments.iter().all(|argument| argument != "--only")
        || arguments.iter().any(|only| only.contains("functions"))
    {
        // One by one, so that each has the back ends that it needs, and no others; beside what the server is built into.
        for package in ["bespeak-reserve", "bespeak-relay-cron", "bespeak-consumer"] {
            let build = ["build", "--release", "--locked", "-p", package, "--target-dir"];
            step(&format!("building {package}"), cargo().args(build).arg(&functions))?;
        }
    }
    let release = target().join("release");
    let arguments = arguments.iter().filter(|argument| *argument != "--");
    step(
        "benchmarks",
        Command::new(release.join("bespeak-bench"))
            .arg("--binary")
            .arg(release.join("bespeak"))
            .arg("--functions")
            .arg(functions.join("release"))
            .args(arguments)
            .current_dir(root()),
    )
}
