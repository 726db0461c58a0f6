//! Prometheus, of this machine, and its tool that checks what is written for it.
//!
//! Never: a query; whoever starts it asks it over HTTP. Next: `process.rs`, which runs it.

use std::{ffi::OsString, fs, net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Process, ServiceError, installed, port};

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often another port is tried when the one that was free is not any more.
const TRIES: usize = 5;

/// A running Prometheus, with its data in a temporary folder.
///
/// Dropping it stops it, and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    #[expect(dead_code, reason = "kept until it is not needed any more")]
    process: Process,
}

impl Prometheus {
    /// Starts one with this configuration (YAML), and waits until it answers.
    ///
    /// # Errors
    /// There is none on this machine; or it ends at once, and says why.
    pub async fn start(configuration: &str) -> Result<Self, ServiceError> {
        let program = program("prometheus")?;
        let mut tried = 1;
        loop {
            let folder = TempDir::with_prefix("bespeak-prometheus-");
            let folder = folder.map_err(ServiceError::io("making a folder"))?;
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
            let late = |reason| ServiceError::NotAnswering { address, waited: PATIENCE, reason };
            match process.until_ready(PATIENCE, async || is_ready(address).await, late).await {
                Ok(()) => return Ok(Self { address, process }),
                Err(ServiceError::NotStarted { log, .. }) if tried < TRIES && log.contains("in use") => {
                    tried += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Its URL, such as `http://127.0.0.1:19090`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `promtool`, which checks configurations and rules.
    ///
    /// # Errors
    /// There is none on this machine.
    pub fn promtool() -> Result<Command, ServiceError> {
        program("promtool").map(Command::new)
    }
}

fn program(name: &'static str) -> Result<std::path::PathBuf, ServiceError> {
    installed::find(name)
        .ok_or(ServiceError::NoProgram { program: name, install: "apt-get install prometheus" })
}

async fn is_ready(address: SocketAddr) -> Option<()> {
    let mut server = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /-/ready HTTP/1.0\r\nhost: {address}\r\n\r\n");
    server.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.eq("200").then_some(())
}
