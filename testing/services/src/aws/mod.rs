//! What answers as AWS does, with the consumer's queues in it: the environment's, LocalStack in Docker, or moto.
//!
//! Never: a queue that `localstack/aws/` does not describe; its script makes them, wherever they are. A server that stays
//! when its process is gone. Next: `moto.rs` and `docker.rs` for where it comes from, `tests/src/sqs.rs` for its client.

mod docker;
mod moto;
mod protocol;

use std::{
    env,
    net::SocketAddr,
    time::{Duration, Instant},
};

use url::Url;

use crate::{
    Process, ServiceError,
    container::{self, Container},
};

/// Names a running one.
const VARIABLE: &str = "BESPEAK_TEST_AWS_URL";
/// How long a server may take until it answers and its queues are made.
const PATIENCE: Duration = Duration::from_secs(120);
/// What makes the queues, and what they are.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../localstack/aws/queues.py");
const QUEUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../localstack/aws/queues.json");
/// The queue that the script makes last.
const LAST_QUEUE: &str = "bespeak-consumer";

/// A running server that answers as AWS does, with the queues of `localstack/aws/queues.json`.
///
/// Dropping it stops a server that was started for it.
#[derive(Debug)]
pub struct Aws {
    address: SocketAddr,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Environment,
    Docker(#[expect(dead_code, reason = "kept until the server is not needed any more")] Box<Container>),
    Moto(#[expect(dead_code, reason = "kept until the server is not needed any more")] Process),
}

impl Aws {
    /// The image that is taken where Docker runs.
    pub const IMAGE: &str = docker::IMAGE;
    /// The region of the queues.
    pub const REGION: &str = "eu-central-1";

    /// Takes the server of `BESPEAK_TEST_AWS_URL`, else starts LocalStack in Docker, else moto, which `cargo xtask` has put into
    /// the folder that Cargo builds into.
    ///
    /// # Errors
    /// [`ServiceError::NoTool`] says what to do. Never falls back from a way that is there and fails.
    pub async fn provide() -> Result<Self, ServiceError> {
        if let Ok(url) = env::var(VARIABLE) {
            return Self::of_environment(&url).await;
        }
        if container::is_there().await {
            let container = docker::start().await?;
            let address = container.address;
            has_queues(address).await?;
            return Ok(Self { address, origin: Origin::Docker(Box::new(container)) });
        }
        let (process, address) = moto::start().await?;
        moto::make_queues(address).await?;
        has_queues(address).await?;
        Ok(Self { address, origin: Origin::Moto(process) })
    }

    async fn of_environment(text: &str) -> Result<Self, ServiceError> {
        let wrong = |reason: String| ServiceError::Url { variable: VARIABLE, reason };
        let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        let host = url.host_str().filter(|_| url.scheme() == "http");
        let host = host.ok_or_else(|| wrong("a URL is http://HOST:PORT, without TLS".to_owned()))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let found = tokio::net::lookup_host((host, port)).await;
        let mut found = found.map_err(|error| wrong(format!("{host}: {error}")))?;
        let address = found.next().ok_or_else(|| wrong(format!("{host} has no address")))?;
        has_queues(address).await?;
        Ok(Self { address, origin: Origin::Environment })
    }

    /// What AWS's clients call the endpoint, such as `http://127.0.0.1:4566`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it is and where it came from, for reports.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Environment => format!("AWS, {VARIABLE}"),
            Origin::Docker(_) => format!("LocalStack, Docker image {}", docker::IMAGE),
            Origin::Moto(_) => "moto".to_owned(),
        }
    }
}

/// Waits until the queues are there.
async fn has_queues(address: SocketAddr) -> Result<(), ServiceError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reason = match protocol::queue_url(address, LAST_QUEUE).await {
            Ok(200) => return Ok(()),
            Ok(status) => format!("it has no queue {LAST_QUEUE} (HTTP {status}); {SCRIPT} makes it"),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(ServiceError::NotAnswering { address, waited: PATIENCE, reason });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
