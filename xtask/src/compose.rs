//! `cargo xtask services up --compose`: the servers of `localstack/compose.yaml`, by Docker's own Compose.
//!
//! Never: knowledge of a server; the file has it, and beside it lie the settings that lead to its servers. Next:
//! `services.rs`, the servers that tests take.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{root, step, target};

/// Starts them, waits until all are well, and returns the lines that a shell needs.
///
/// # Errors
/// There is no Docker, or one of them does not become well.
pub(crate) fn up() -> Result<String, String> {
    needs(&["version", "--format", "{{.Server.Version}}"], "a running Docker daemon")?;
    needs(&["compose", "version"], "Docker's Compose (https://docs.docker.com/compose/install/)")?;
    let settings = root().join("localstack").join("settings.env");
    let settings =
        fs::read_to_string(&settings).map_err(|error| format!("{}: {error}", settings.display()))?;
    // Written before they start: what starts half must be stopped too.
    fs::write(mark(), "").map_err(|error| format!("{}: {error}", mark().display()))?;
    step("starting the servers", compose().args(["up", "--detach", "--wait"]).stdout(Stdio::null()))?;
    eprintln!("xtask: the servers run until `cargo xtask services down`");
    Ok(settings)
}

/// Stops them and removes their data; whether they had been started.
pub(crate) fn down() -> Result<bool, String> {
    if !mark().exists() {
        return Ok(false);
    }
    step("stopping the servers", compose().args(["down", "--volumes", "--remove-orphans"]))?;
    fs::remove_file(mark()).map_err(|error| format!("{}: {error}", mark().display()))?;
    Ok(true)
}

/// That they were started. Compose itself knows what of them runs.
fn mark() -> PathBuf {
    target().join("compose.up")
}

fn compose() -> Command {
    let mut command = Command::new("docker");
    command.args(["compose", "--file"]).arg(root().join("localstack").join("compose.yaml"));
    command
}

/// Whether Docker's client answers.
fn needs(arguments: &[&str], what: &str) -> Result<(), String> {
    let asked = Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(format!(
        "`services up --compose` needs {what}. Without Docker, `services up` starts what tests need as programs of this machine"
    ))
}
