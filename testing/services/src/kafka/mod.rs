//! A broker that speaks Kafka's protocol: the environment's, one in Docker, or a binary that is started.
//!
//! Never: a client of it; no record is sent or read here. A broker that stays when its process is gone.
//! Next: `binary.rs` and `docker.rs` for where it comes from, `process.rs` for how it ends.

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

use self::binary::Program;
use crate::{
    Process, ServiceError, Switch,
    container::{self, Container},
    port,
};

/// Names a running broker.
const VARIABLE: &str = "BESPEAK_TEST_KAFKA_URL";
/// How long a broker may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often another port is tried when the one that was free is not any more.
const TRIES: usize = 5;

/// A running broker: Kafka, or Tansu, which speaks its protocol. It has no topics; whoever uses it creates them.
///
/// Dropping it stops a broker that was started for it, and removes its data.
#[derive(Debug)]
pub struct Kafka {
    /// What clients are given, such as `127.0.0.1:9092,127.0.0.1:9093`.
    bootstrap: String,
    /// Where it listens itself, even if its clients go through a gate.
    listens: SocketAddr,
    frozen: bool,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Environment,
    Docker(Box<Container>),
    Binary { process: Process, version: String },
}

/// Where a broker listens, and where it tells its clients to go.
#[derive(Clone, Copy)]
struct Place {
    listens: SocketAddr,
    advertised: SocketAddr,
}

impl Kafka {
    /// The image that is taken where Docker runs.
    pub const IMAGE: &str = docker::IMAGE;

    /// Takes the broker of `BESPEAK_TEST_KAFKA_URL`, else starts Kafka in Docker, else the program Tansu: one of this machine,
    /// or the one that `cargo xtask` has put into the folder that Cargo builds into.
    ///
    /// # Errors
    /// [`ServiceError::Missing`] says what to install or set. Never falls back from a way that is there and fails.
    pub async fn provide() -> Result<Self, ServiceError> {
        match env::var(VARIABLE) {
            Ok(url) => Self::of_environment(&url).await,
            Err(_) => Self::start_own().await,
        }
    }

    /// Starts a broker that nobody else uses, never that of the environment; for whoever kills or freezes it.
    ///
    /// # Errors
    /// As of [`Kafka::provide`].
    pub async fn start_own() -> Result<Self, ServiceError> {
        let (broker, _itself) = Self::start(Ok, |address| *address).await?;
        Ok(broker)
    }

    /// Starts a broker that nobody else uses and that tells its clients to come through the gate, which is what its URL
    /// names: [`Switch::close`] makes it unreachable, [`Switch::open`] brings it back with all that it knew.
    ///
    /// # Errors
    /// As of [`Kafka::provide`].
    pub async fn start_own_behind_gate() -> Result<(Self, Switch), ServiceError> {
        Self::start(Switch::start, Switch::address).await
    }

    /// Starts one behind what `front` puts before it, since a broker must know what to tell its clients.
    async fn start<F>(
        front: impl Fn(SocketAddr) -> io::Result<F>,
        address_of: impl Fn(&F) -> SocketAddr,
    ) -> Result<(Self, F), ServiceError> {
        let program = if container::is_there().await { None } else { Some(Program::find().await?) };
        let mut tried = 1;
        loop {
            let port = port::free().map_err(ServiceError::io("finding a free port"))?;
            let listens = SocketAddr::from(([127, 0, 0, 1], port));
            let front = front(listens).map_err(ServiceError::io("listening for a broker"))?;
            let place = Place { listens, advertised: address_of(&front) };
            let started = match &program {
                None => Self::start_container(place).await,
                Some(program) => program.start(place).await,
            };
            match started {
                Ok(origin) => {
                    let bootstrap = place.advertised.to_string();
                    return Ok((Self { bootstrap, listens, frozen: false, origin }, front));
                }
                Err(ServiceError::NotStarted { log, .. }) if tried < TRIES && log.contains("in use") => {
                    tried += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn start_container(place: Place) -> Result<Origin, ServiceError> {
        let container = docker::start(place).await?;
        answers(&[place.listens]).await?;
        Ok(Origin::Docker(Box::new(container)))
    }

    async fn of_environment(url: &str) -> Result<Self, ServiceError> {
        let bootstrap = bootstrap(url)?;
        let mut addresses = Vec::new();
        for broker in bootstrap.split(',') {
            let found = tokio::net::lookup_host(broker).await;
            let refused = |error: io::Error| wrong(format!("{broker}: {error}"));
            addresses.extend(found.map_err(refused)?);
        }
        let listens = answers(&addresses).await?;
        Ok(Self { bootstrap, listens, frozen: false, origin: Origin::Environment })
    }

    /// Its URL without a topic, such as `kafka://127.0.0.1:19092`.
    pub fn url(&self) -> String {
        format!("kafka://{}", self.bootstrap)
    }

    /// What Kafka's clients call `bootstrap.servers`: `host:port`, with commas between them if there are several.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What it is and where it came from, for reports: `Tansu 0.6.0, binary`.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Environment => format!("Kafka, {VARIABLE}"),
            Origin::Docker(_) => format!("Kafka, Docker image {}", docker::IMAGE),
            Origin::Binary { version, .. } => format!("Tansu {version}, binary"),
        }
    }

    /// Its process id; only a binary has one.
    pub fn pid(&self) -> Option<u32> {
        match &self.origin {
            Origin::Binary { process, .. } => process.pid(),
            Origin::Docker(_) | Origin::Environment => None,
        }
    }

    /// `kill -9`, and waits until it is gone. **Tansu's topics, records and offsets go with it**, since it keeps them in
    /// memory; Kafka's in Docker stay. To be without a broker for a while and lose nothing: [`Kafka::freeze`], or a gate.
    ///
    /// # Errors
    /// [`ServiceError::NotOurs`] for the environment's broker.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.listens)),
            Origin::Docker(container) => container.kill().await?,
            Origin::Binary { process, .. } => process.kill().await?,
        }
        self.frozen = false;
        Ok(())
    }

    /// Starts it again after [`Kafka::kill`], at the same address, and waits until it answers. A broker that still runs is
    /// killed before, with what is lost by that.
    ///
    /// # Errors
    /// As of [`Kafka::kill`], or it does not answer within a minute.
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.kill().await?;
        match &mut self.origin {
            Origin::Environment => Err(ServiceError::NotOurs(self.listens)),
            Origin::Docker(container) => {
                container.start_again().await?;
                answers(&[self.listens]).await.map(|_| ())
            }
            Origin::Binary { process, .. } => {
                process.start().await?;
                binary::ready(process, self.listens).await
            }
        }
    }

    /// Stops it in the middle of whatever it does, until [`Kafka::thaw`] or [`Kafka::kill`]. Its port stays open, connections
    /// are accepted, and nobody is answered. Loses nothing. A broker that was killed, or is frozen, stays as it is.
    ///
    /// # Errors
    /// [`ServiceError::NotOurs`] for the environment's broker.
    pub async fn freeze(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.listens)),
            _ if self.frozen => {}
            Origin::Docker(container) => container.freeze().await?,
            Origin::Binary { process, .. } => process.freeze().await?,
        }
        self.frozen = true;
        Ok(())
    }

    /// Lets it go on after [`Kafka::freeze`], with what it was sent meanwhile. One that is not frozen stays as it is.
    ///
    /// # Errors
    /// As of [`Kafka::freeze`].
    pub async fn thaw(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.listens)),
            _ if !self.frozen => {}
            Origin::Docker(container) => container.thaw().await?,
            Origin::Binary { process, .. } => process.thaw().await?,
        }
        self.frozen = false;
        Ok(())
    }
}

/// Waits until one of the addresses of a cluster answers that cannot be watched, and returns which.
async fn answers(addresses: &[SocketAddr]) -> Result<SocketAddr, ServiceError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for address in addresses.iter().copied() {
            match protocol::cluster(address).await {
                Ok(_) => return Ok(address),
                Err(error) if Instant::now() > deadline => {
                    let reason = error.to_string();
                    return Err(ServiceError::NotAnswering { address, waited: PATIENCE, reason });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// What is between `kafka://` and the end of a URL that names brokers and nothing else.
fn bootstrap(url: &str) -> Result<String, ServiceError> {
    let brokers = url.strip_prefix("kafka://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let brokers = brokers.ok_or_else(|| wrong("a URL begins with kafka://"))?;
    for broker in brokers.split(',') {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        if host.is_empty() || host.contains(['/', '@']) || port.parse::<u16>().is_err() {
            return Err(wrong(format!("`{broker}` is not host:port, and no topic or account belongs here")));
        }
    }
    Ok(brokers.to_owned())
}

fn wrong(reason: impl Into<String>) -> ServiceError {
    ServiceError::Url { variable: VARIABLE, reason: reason.into() }
}
