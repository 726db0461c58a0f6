//! `cargo xtask bench`: builds the benchmarks with the release profile and runs them.
//!
//! Never: a server; each benchmark starts the servers that it needs. Next: `testing/bench/`.

use std::process::Command;

use crate::{cargo, lambda, provision, root, step, target};

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    provision::ensure()?;
    step(
        "building the benchmarks",
        cargo().args(["build", "--release", "--locked", "-p", "bespeak-cli", "-p", "bespeak-bench"]),
    )?;
    // The cases of the functions measure the programs that are deployed.
    let functions = if arguments.iter().any(|only| only.contains("functions"))
        || arguments.iter().all(|argument| argument != "--only")
    {
        lambda::build_for_this_machine()?
    } else {
        target().join("release")
    };
    let release = target().join("release");
    let arguments = arguments.iter().filter(|argument| *argument != "--");
    step(
        "benchmarks",
        Command::new(release.join("bespeak-bench"))
            .arg("--binary")
            .arg(release.join("bespeak"))
            .arg("--functions")
            .arg(functions)
            .args(arguments)
            .current_dir(root()),
    )
}
