//! Replaces this process by the program `bespeak-lab`, which has the flash-sale simulation and the lock lab. Neither
//! belongs in a production build of `bespeak`.
//!
//! In a checkout (`cargo bespeak simulate`), Cargo builds the lab and runs it, so that the commands of the
//! documentation work there without an installation. Elsewhere the program is looked for beside this one, then on
//! PATH.
//!
//! The process is replaced (`execve`) and not started beside this one: signals such as Ctrl-C then reach the lab
//! alone, and its exit code is the exit code of the command.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::failure::Failure;

/// The name of the program, without the suffix that some platforms add.
const PROGRAM: &str = "bespeak-lab";

/// Runs a subcommand of the lab in the place of this process. It returns only if that fails.
///
/// # Errors
/// The program cannot be found or started.
pub(crate) fn run(subcommand: &str, json: bool, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let mut command = match (in_a_checkout(subcommand, arguments), installed()) {
        (Some(command), _) => command,
        (None, Some(program)) => Command::new(program),
        (None, None) => {
            return Err(Failure::usage(format!(
                "`bespeak {subcommand}` needs the program {PROGRAM}, which is neither beside this program nor on PATH: \
                 `cargo install --path lab` in a checkout installs it"
            )));
        }
    };
    if json {
        command.arg("--json");
    }
    let error = command.arg(subcommand).args(arguments).exec();
    Err(Failure::caused(format!("{} cannot be started", command.get_program().display()), &error))
}

/// The command by which Cargo builds and runs the lab, if `cargo run` started this process in a checkout.
fn in_a_checkout(subcommand: &str, arguments: &[OsString]) -> Option<Command> {
    let cargo = env::var_os("CARGO")?;
    let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("../lab/Cargo.toml");
    if !manifest.is_file() {
        return None;
    }
    let mut command = Command::new(cargo);
    // Build scripts of some dependencies watch Cargo's variables about the package that runs. With this package's
    // values they, and everything that depends on them, would be built again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.args(["run", "--quiet", "--profile", profile(), "--bin", PROGRAM, "--no-default-features"]);
    command.args(["--features", &features(subcommand, arguments)]);
    command.arg("--manifest-path").arg(manifest).arg("--");
    Some(command)
}

/// The features of this build of `bespeak`. The lab depends on this crate; with the same features, everything that
/// they share is built once.
const FEATURES: [(bool, &str); 10] = [
    (cfg!(feature = "default"), "default"),
    (cfg!(feature = "failpoints"), "failpoints"),
    (cfg!(feature = "kafka"), "kafka"),
    (cfg!(feature = "kafka-tls"), "kafka-tls"),
    (cfg!(feature = "msk-iam"), "msk-iam"),
    (cfg!(feature = "mysql"), "mysql"),
    (cfg!(feature = "otlp"), "otlp"),
    (cfg!(feature = "redis"), "redis"),
    (cfg!(feature = "sqlite"), "sqlite"),
    (cfg!(feature = "webhooks-client"), "webhooks-client"),
];

/// The features that Cargo builds the lab with. A subcommand gets only the part of the lab that it needs: the
/// comparison needs a core with strategies that oversell, and starting servers needs a Docker client, and both take
/// minutes to build.
fn features(subcommand: &str, arguments: &[OsString]) -> String {
    let mut features: Vec<String> =
        FEATURES.iter().filter(|(on, _)| *on).map(|(_, name)| format!("bespeak-cli/{name}")).collect();
    if subcommand != "simulate" {
        features.push("comparison".to_owned());
    }
    if arguments.iter().any(|argument| argument == "--provide") {
        features.push("provide".to_owned());
    }
    features.join(",")
}

/// The profile that built this program, by the folder that has it.
fn profile() -> &'static str {
    let program = env::current_exe().ok();
    match program.as_deref().and_then(Path::parent).and_then(Path::file_name).and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some("release") => "release",
        _ => "local",
    }
}

/// The lab's program beside this one, or else on PATH.
fn installed() -> Option<PathBuf> {
    let name = format!("{PROGRAM}{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = beside.into_iter().chain(env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(&name)).filter(|program| program.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subcommand_builds_only_the_part_of_the_lab_that_it_needs() {
        let needed = |subcommand, arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            features(subcommand, &arguments)
        };
        assert!(!needed("simulate", &["--users", "5"]).contains("comparison"));
        assert!(needed("lab", &["--help"]).ends_with("comparison"));
        assert!(needed("lab", &["--json", "--provide"]).ends_with("comparison,provide"));
    }

    #[test]
    fn the_lab_is_built_with_every_feature_of_this_crate() {
        let manifest = include_str!("../Cargo.toml");
        let (_, features) = manifest.split_once("[features]").unwrap();
        let (features, _) = features.split_once("\n[").unwrap();
        let in_manifest: Vec<_> =
            features.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        assert_eq!(in_manifest.len(), FEATURES.len());
        for (_, name) in FEATURES {
            assert!(in_manifest.contains(&name), "{name} is not a feature of bespeak-cli");
        }
    }
}
