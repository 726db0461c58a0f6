//! A server that emulates AWS, with the consumer's queues: the environment's, LocalStack in Docker, or moto.
//!
//! Never: a queue that `localstack/aws/` does not describe, because its script creates the queues everywhere;
//! a server that stays when its process is gone. Next: `moto.rs` and `docker.rs`, which start servers;
//! `tests/src/sqs.rs`, a client.

mod docker;
mod moto;
mod queues;

use std::{
    env,
    net::SocketAddr,
    time::{Duration, Instant},
};

use url::Url;

use crate::{
    ServiceError, container,
    origin::{Origin, Source},
};

/// The environment variable with the URL of a running server.
const VARIABLE: &str = "BESPEAK_TEST_AWS_URL";

/// A running server that emulates AWS, with the queues of `localstack/aws/queues.json`.
///
/// If this process started the server, dropping the value stops it.
#[derive(Debug)]
pub struct Aws {
    origin: Origin,
}

impl Aws {
    /// The image that is used if Docker is running.
    pub const IMAGE: &str = docker::IMAGE;
    /// The region of the queues.
    pub const REGION: &str = queues::REGION;

    /// Uses the server of `BESPEAK_TEST_AWS_URL`, else starts LocalStack in Docker, else starts moto, which
    /// `cargo xtask provide` unpacks into Cargo's target directory.
    ///
    /// # Errors
    /// [`ServiceError::ToolMissing`] says what to install. If one of the three is available and fails, the
    /// others are not tried.
    pub async fn provide() -> Result<Self, ServiceError> {
        let origin = if let Ok(url) = env::var(VARIABLE) {
            Origin::environment(lookup(&url).await?)
        } else if container::docker_runs().await {
            let container = docker::start().await?;
            Origin::docker(container.address, container)
        } else {
            let (process, address) = moto::start().await?;
            moto::create_queues(address).await?;
            Origin::binary(address, process)
        };
        wait_for_queues(origin.address()).await?;
        Ok(Self { origin })
    }

    /// The endpoint URL for AWS clients, such as `http://127.0.0.1:4566`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    /// Product and origin, for reports.
    pub fn describe(&self) -> String {
        match self.origin.source() {
            Source::Environment => format!("AWS, {VARIABLE}"),
            Source::Docker(_) => format!("LocalStack, Docker image {}", docker::IMAGE),
            Source::Binary(_) => "moto".to_owned(),
        }
    }
}

/// The address of a URL.
async fn lookup(text: &str) -> Result<SocketAddr, ServiceError> {
    let invalid = |reason: String| ServiceError::InvalidUrl { variable: VARIABLE, reason };
    let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
    let host = url.host_str().filter(|_| url.scheme() == "http");
    let host = host.ok_or_else(|| invalid("the URL must be http://HOST:PORT, without TLS".to_owned()))?;
    let port = url.port_or_known_default().unwrap_or(80);
    let found = tokio::net::lookup_host((host, port)).await;
    let mut found = found.map_err(|error| invalid(format!("{host}: {error}")))?;
    found.next().ok_or_else(|| invalid(format!("{host} has no address")))
}

/// Waits until the queues exist.
async fn wait_for_queues(address: SocketAddr) -> Result<(), ServiceError> {
    let deadline = Instant::now() + queues::READY_TIMEOUT;
    loop {
        let reason = match queues::queue_status(address, queues::LAST).await {
            Ok(200) => return Ok(()),
            Ok(status) => {
                format!("it has no queue {} (HTTP {status}); {} creates it", queues::LAST, queues::SCRIPT)
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(ServiceError::NotAnswering { address, waited: queues::READY_TIMEOUT, reason });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
