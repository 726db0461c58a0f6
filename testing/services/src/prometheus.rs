//! Starts the Prometheus of this machine, and finds `promtool`, which checks configurations and rules.
//!
//! Never: a query; callers send queries over HTTP. Next: `process.rs`, which runs it.

use std::{ffi::OsString, fs, net::SocketAddr, process::Command};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Process, ServiceError, installed, port,
    process::{PORT_ATTEMPTS, START_TIMEOUT},
};

/// A running Prometheus, with its data in a temporary folder.
///
/// Dropping the value stops it and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    #[expect(dead_code, reason = "its drop stops the server")]
    process: Process,
}

impl Prometheus {
    /// Starts a server with a configuration in YAML, and waits until it answers.
    ///
    /// # Errors
    /// Prometheus is not installed, or it does not start; the error contains its log.
    pub async fn start(configuration: &str) -> Result<Self, ServiceError> {
        let program = program("prometheus")?;
        let mut attempts = 1;
        loop {
            let folder = TempDir::with_prefix("bespeak-prometheus-");
            let folder = folder.map_err(ServiceError::io("creating a folder"))?;
            let file = folder.path().join("prometheus.yaml");
            fs::write(&file, configuration).map_err(ServiceError::io("writing a configuration"))?;
            let port = port::free().map_err(ServiceError::io("finding a free port"))?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let arguments: [OsString; 3] = [
                format!("--config.file={}", file.display()).into(),
                format!("--storage.tsdb.path={}", folder.path().join("data").display()).into(),
                format!("--web.listen-address={address}").into(),
            ];
            let mut process = Process::new(folder, &program, &arguments)?;
            process.start().await?;
            let timed_out = |reason| ServiceError::NotAnswering { address, waited: START_TIMEOUT, reason };
            let probe = async || is_ready(address).await;
            match process.wait_until_ready(START_TIMEOUT, probe, timed_out).await {
                Ok(()) => return Ok(Self { address, process }),
                Err(ServiceError::NotStarted { log, .. })
                    if attempts < PORT_ATTEMPTS && log.contains("in use") =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The server's URL, such as `http://127.0.0.1:19090`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The command `promtool`, which checks configurations and rules.
    ///
    /// # Errors
    /// Prometheus is not installed.
    pub fn promtool() -> Result<Command, ServiceError> {
        program("promtool").map(Command::new)
    }
}

fn program(name: &'static str) -> Result<std::path::PathBuf, ServiceError> {
    installed::find(name)
        .ok_or(ServiceError::ProgramMissing { program: name, install: "apt-get install prometheus" })
}

async fn is_ready(address: SocketAddr) -> Option<()> {
    let mut server = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /-/ready HTTP/1.0\r\nhost: {address}\r\n\r\n");
    server.write_all(request.as_bytes()).await.ok()?;
    let mut response = String::new();
    server.read_to_string(&mut response).await.ok()?;
    response.split(' ').nth(1)?.eq("200").then_some(())
}
