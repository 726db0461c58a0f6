//! The server under load, in a separate process: `bespeak serve`, the hand-written transaction, or a route
//! that only echoes.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use bespeak::config::{Config, Values};
use bespeak_lab::load::Target;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// A server process. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// The folder with the SQLite database.
    pub(crate) folder: TempDir,
}

impl Server {
    /// Starts `bespeak serve` on a free port, with a database in `folder`.
    pub(crate) async fn bespeak(
        binary: &Path,
        folder: TempDir,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let port = free_port().await?;
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .env("BESPEAK_LISTEN", format!("127.0.0.1:{port}"))
            .env("BESPEAK_DATABASE_URL", format!("sqlite://{}", folder.path().join("bench.db").display()))
            .env("BESPEAK_LOG", "warn");
        for (name, value) in settings {
            command.env(name, value);
        }
        Self::start(command, port, folder).await
    }

    /// Starts the echo route on a free port.
    pub(crate) async fn echo() -> Result<Self, Error> {
        let port = free_port().await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--echo").env("BENCH_ECHO_PORT", port.to_string());
        Self::start(command, port, TempDir::new()?).await
    }

    /// Starts the hand-written transaction on a free port.
    pub(crate) async fn handwritten(url: &str) -> Result<Self, Error> {
        let port = free_port().await?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--handwritten")
            .env("BENCH_LISTEN", format!("127.0.0.1:{port}"))
            .env("BENCH_DATABASE_URL", url);
        Self::start(command, port, TempDir::new()?).await
    }

    async fn start(mut command: Command, port: u16, folder: TempDir) -> Result<Self, Error> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let server = Self { child, url: format!("http://127.0.0.1:{port}"), folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.target()?.connect().await.is_err() {
            if Instant::now() > deadline {
                return Err("the server did not start in 20 s".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(server)
    }

    pub(crate) fn target(&self) -> Result<Target, Error> {
        Ok(Target::new(&self.url)?)
    }

    /// Resident memory in MiB (`VmRSS`).
    pub(crate) fn resident_mib(&self) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
            .ok_or("/proc/PID/status has no VmRSS")?;
        Ok(kib / 1024.0)
    }

    /// The number of bytes that the process has written to disk so far.
    pub(crate) fn written_bytes(&self) -> Result<u64, Error> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        io.lines()
            .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
            .ok_or_else(|| "/proc/PID/io has no write_bytes".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// Serves a route that only echoes, with the same listener as the API, at `BENCH_ECHO_PORT`.
pub(crate) async fn echo() -> Result<(), Error> {
    let port: u16 = std::env::var("BENCH_ECHO_PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let router = Router::new()
        .route("/api/v1/reserve", post(|Json(body): Json<serde_json::Value>| async { Json(body) }));
    let http = Config::parse(&Values::from_environment())?.http;
    bespeak_http::serve(listener, router, &http, CancellationToken::new()).await;
    Ok(())
}
