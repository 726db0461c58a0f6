//! Starts moto, which emulates AWS and keeps all data in memory. It is a program from PyPI in Cargo's target directory.
//!
//! Never: another version of moto, from PATH. Next: `process.rs`, which runs it.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::queues;
use crate::{Process, ServiceError, Tool, port, process::PORT_ATTEMPTS};

/// Runs a script as LocalStack does: as text, without `__file__`.
const RUN_SCRIPT: &str = "import sys; exec(open(sys.argv[1], 'rb').read(), {})";

/// Starts moto, without queues, and waits until it answers.
pub(super) async fn start() -> Result<(Process, SocketAddr), ServiceError> {
    let tool = Tool::MOTO.command()?;
    let mut attempts = 1;
    loop {
        let port = port::free().map_err(ServiceError::io("finding a free port"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let folder = TempDir::with_prefix("bespeak-moto-").map_err(ServiceError::io("creating a folder"))?;
        let mut process = Process::new(folder, Path::new("env"), &arguments(&tool, address))?;
        process.start().await?;
        // No queue exists yet, so any HTTP status means that the server is ready.
        let probe = async || queues::queue_status(address, "none").await.ok();
        let timed_out =
            |reason| ServiceError::NotAnswering { address, waited: queues::READY_TIMEOUT, reason };
        match process.wait_until_ready(queues::READY_TIMEOUT, probe, timed_out).await {
            Ok(_) => return Ok((process, address)),
            Err(ServiceError::NotStarted { log, .. })
                if attempts < PORT_ATTEMPTS && log.contains("in use") =>
            {
                attempts += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The arguments of `env`, which sets the variables of the tool's command and runs its program.
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

/// Runs the script that creates the queues, with the AWS client that is installed with moto.
pub(super) async fn create_queues(address: SocketAddr) -> Result<(), ServiceError> {
    let mut script = Command::new("python3");
    script
        .args(["-c", RUN_SCRIPT, queues::SCRIPT])
        .envs(Tool::MOTO.command()?.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("BESPEAK_QUEUES", queues::DESCRIPTION)
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_DEFAULT_REGION", queues::REGION)
        .stdin(Stdio::null());
    let output = tokio::process::Command::from(script).kill_on_drop(true).output().await;
    let output = output.map_err(ServiceError::io("running python3"))?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ServiceError::NotStarted { command: queues::SCRIPT.to_owned(), log })
}
