//! `cargo xtask services up --compose`: starts the servers of `localstack/compose.yaml` with Docker Compose.
//!
//! Never: details of a server, which are in the Compose file. `localstack/settings.env` beside it has the settings for
//! clients. Next: `services.rs`, the servers for tests.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{root, step, target};

/// Starts the servers, waits until all are healthy, and returns the settings as lines for a shell.
///
/// # Errors
/// Docker is not available, or a server does not become healthy.
pub(crate) fn up() -> Result<String, String> {
    require(&["version", "--format", "{{.Server.Version}}"], "a running Docker daemon")?;
    require(&["compose", "version"], "Docker's Compose (https://docs.docker.com/compose/install/)")?;
    let settings = root().join("localstack").join("settings.env");
    let settings =
        fs::read_to_string(&settings).map_err(|error| format!("{}: {error}", settings.display()))?;
    // The marker is written first, so that `down` also stops servers that were only partly started.
    fs::write(marker(), "").map_err(|error| format!("{}: {error}", marker().display()))?;
    step("starting the servers", compose().args(["up", "--detach", "--wait"]).stdout(Stdio::null()))?;
    eprintln!("xtask: the servers run until `cargo xtask services down`");
    Ok(settings)
}

/// Stops the servers and removes their data. Returns whether they had been started.
pub(crate) fn down() -> Result<bool, String> {
    if !marker().exists() {
        return Ok(false);
    }
    step("stopping the servers", compose().args(["down", "--volumes", "--remove-orphans"]))?;
    fs::remove_file(marker()).map_err(|error| format!("{}: {error}", marker().display()))?;
    Ok(true)
}

/// The file that exists while the servers are started. Compose itself knows which of them are running.
fn marker() -> PathBuf {
    target().join("compose.up")
}

fn compose() -> Command {
    let mut command = Command::new("docker");
    command.args(["compose", "--file"]).arg(root().join("localstack").join("compose.yaml"));
    command
}

/// Runs a command of Docker's client, which must succeed.
fn require(arguments: &[&str], what: &str) -> Result<(), String> {
    let status = Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(format!(
        "`services up --compose` needs {what}. Without Docker, `services up` starts the servers for tests as \
         programs of this machine"
    ))
}
