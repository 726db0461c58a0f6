//! moto, which answers as AWS does and keeps everything in memory: a program of PyPI's, in the folder that Cargo builds into.
//!
//! Never: another version of it, from PATH. Next: `process.rs`, which runs it.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{Aws, PATIENCE, QUEUES, SCRIPT, protocol};
use crate::{Process, ServiceError, Tool, port};

/// How often another port is tried when the one that was free is not any more.
const TRIES: usize = 5;
/// As LocalStack runs its scripts: as text, which knows of no file that it comes from.
const RUN_SCRIPT: &str = "import sys; exec(open(sys.argv[1], 'rb').read(), {})";

/// Starts it and waits until it answers. It has no queues.
pub(super) async fn start() -> Result<(Process, SocketAddr), ServiceError> {
    let tool = Tool::MOTO.command()?;
    let mut tried = 1;
    loop {
        let port = port::free().map_err(ServiceError::io("finding a free port"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let folder = TempDir::with_prefix("bespeak-moto-").map_err(ServiceError::io("making a folder"))?;
        let mut process = Process::new(folder, Path::new("env"), &arguments(&tool, address))?;
        process.start().await?;
        // There is no such queue yet; whatever it says, it answers.
        let probe = async || protocol::queue_url(address, "none").await.ok();
        let late = |reason| ServiceError::NotAnswering { address, waited: PATIENCE, reason };
        match process.until_ready(PATIENCE, probe, late).await {
            Ok(_) => return Ok((process, address)),
            Err(ServiceError::NotStarted { log, .. }) if tried < TRIES && log.contains("in use") => {
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Of `env`, which gives the program the variables that it needs.
fn arguments(tool: &Command, address: SocketAddr) -> Vec<OsString> {
    let variables = tool.get_envs().filter_map(|(name, value)| {
        let mut variable = name.to_owned();
        variable.push("=");
        variable.push(value?);
        Some(variable)
    });
    let options = ["-H".to_owned(), address.ip().to_string(), "-p".to_owned(), address.port().to_string()];
    variables.chain([tool.get_program().to_owned()]).chain(options.map(Into::into)).collect()
}

/// Runs the script that makes the queues, with the client for AWS that moto brings.
pub(super) async fn make_queues(address: SocketAddr) -> Result<(), ServiceError> {
    let mut script = Command::new("python3");
    script
        .args(["-c", RUN_SCRIPT, SCRIPT])
        .envs(Tool::MOTO.command()?.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("BESPEAK_QUEUES", QUEUES)
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_DEFAULT_REGION", Aws::REGION)
        .stdin(Stdio::null());
    let output = tokio::process::Command::from(script).kill_on_drop(true).output().await;
    let output = output.map_err(ServiceError::io("running python3"))?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ServiceError::NotStarted { command: SCRIPT.to_owned(), log })
}
