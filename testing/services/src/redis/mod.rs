//! A server that speaks Redis's protocol: the environment's, one in Docker, or a binary that is started.
//!
//! Never: a client of it; no key is set or read here. A server that stays when its process is gone.
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

use url::Url;

use self::{
    binary::{Clock, Program},
    protocol::Info,
};
use crate::{
    Process, ServiceError, Switch,
    container::{self, Container},
};

/// Names a running server.
const VARIABLE: &str = "BESPEAK_TEST_REDIS_URL";
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Redis, or Valkey, which speaks its protocol.
///
/// Dropping it stops a server that was started for it, and removes its data.
#[derive(Debug)]
pub struct Redis {
    /// What clients are given; perhaps a gate's.
    url: Url,
    /// Where it listens itself, even if its clients go through a gate.
    address: SocketAddr,
    info: Info,
    options: Vec<String>,
    frozen: bool,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Environment,
    Docker(Box<Container>),
    Binary { process: Process, own_clock: bool },
}

impl Redis {
    /// Options by which it forgets nothing that it has acknowledged when it is killed. Without them all is in memory.
    pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

    /// Takes the server of `BESPEAK_TEST_REDIS_URL`, else starts one in Docker, else a binary of this machine.
    ///
    /// # Errors
    /// [`ServiceError::Missing`] says what to install or set. Never falls back from a way that is there and fails.
    pub async fn provide() -> Result<Self, ServiceError> {
        match env::var(VARIABLE) {
            Ok(url) => Self::of_environment(&url).await,
            Err(_) => Self::start_own(&[]).await,
        }
    }

    /// Starts a server that nobody else uses, never that of the environment; for whoever kills, empties or freezes it.
    /// `options` are the server's own, such as [`Redis::DURABLE`], and override those that it is started with.
    ///
    /// # Errors
    /// As of [`Redis::provide`].
    pub async fn start_own(options: &[&str]) -> Result<Self, ServiceError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        if container::is_there().await {
            let container = docker::start(&options, None).await?;
            let (address, origin) = (container.address, Origin::Docker(Box::new(container)));
            let info = answers(address, None).await?;
            return Self::with(origin, address, info, options);
        }
        let (process, address, info) = Program::find()?.start(&options, None).await?;
        Self::with(Origin::Binary { process, own_clock: false }, address, info, options)
    }

    /// Starts a server that nobody else uses, with a gate before it, which is what its URL names: [`Switch::close`] makes it
    /// unreachable, [`Switch::set_latency`] slow.
    ///
    /// # Errors
    /// As of [`Redis::provide`].
    pub async fn start_own_behind_gate(options: &[&str]) -> Result<(Self, Switch), ServiceError> {
        let mut server = Self::start_own(options).await?;
        let gate = Switch::start(server.address).map_err(ServiceError::io("listening for Redis"))?;
        server.url = url(&format!("redis://{}", gate.address()))?;
        Ok((server, gate))
    }

    /// Starts a server that nobody else uses and whose clock can be set ([`Redis::set_clock`]). Always a binary.
    ///
    /// # Errors
    /// As of [`Redis::provide`]; and libfaketime may be missing.
    pub async fn start_own_with_clock(options: &[&str]) -> Result<Self, ServiceError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let clock = Clock::find()?;
        let (process, address, info) = Program::find()?.start(&options, Some(&clock)).await?;
        Self::with(Origin::Binary { process, own_clock: true }, address, info, options)
    }

    async fn of_environment(text: &str) -> Result<Self, ServiceError> {
        let url = url(text)?;
        let host = url.host_str().ok_or_else(|| wrong(format!("{text} names no host")))?;
        let address = tokio::net::lookup_host((host, url.port().unwrap_or(6379)))
            .await
            .map_err(|error| wrong(format!("{host}: {error}")))?
            .next()
            .ok_or_else(|| wrong(format!("{host} has no address")))?;
        let info = answers(address, Some(&url)).await?;
        let server = Self::with(Origin::Environment, address, info, Vec::new())?;
        Ok(Self { url, ..server })
    }

    fn with(
        origin: Origin,
        address: SocketAddr,
        info: Info,
        options: Vec<String>,
    ) -> Result<Self, ServiceError> {
        let url = url(&format!("redis://{address}"))?;
        Ok(Self { url, address, info, options, frozen: false, origin })
    }

    /// Its URL, such as `redis://127.0.0.1:16379`.
    pub fn url(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// Where it listens itself, even if its URL is that of a gate.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is and where it came from, for reports: `Redis 7.0.15, binary`.
    pub fn describe(&self) -> String {
        let origin = match &self.origin {
            Origin::Environment => VARIABLE.to_owned(),
            Origin::Docker(_) => format!("Docker image {}", docker::IMAGE),
            Origin::Binary { .. } => "binary".to_owned(),
        };
        format!("{} {}, {origin}", self.info.name, self.info.version)
    }

    /// Its process id; only a binary has one.
    pub fn pid(&self) -> Option<u32> {
        match &self.origin {
            Origin::Binary { process, .. } => process.pid(),
            Origin::Docker(_) | Origin::Environment => None,
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// [`ServiceError::NotOurs`] for the environment's server.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.address)),
            Origin::Docker(container) => container.kill().await?,
            Origin::Binary { process, .. } => process.kill().await?,
        }
        self.frozen = false;
        Ok(())
    }

    /// Starts it again after [`Redis::kill`], at the same address, with what its options let it keep: nothing, unless it was
    /// started with such as [`Redis::DURABLE`]. A server that still runs is killed before.
    ///
    /// # Errors
    /// As of [`Redis::kill`], or it does not answer within a minute.
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.kill().await?;
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.address)),
            Origin::Docker(container) => container.start_again().await?,
            Origin::Binary { process, .. } => process.start().await?,
        }
        self.ready().await
    }

    /// As [`Redis::restart`], without anything that it knew.
    ///
    /// # Errors
    /// As of [`Redis::restart`].
    pub async fn restart_empty(&mut self) -> Result<(), ServiceError> {
        self.kill().await?;
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.address)),
            Origin::Docker(container) => {
                // Its address is free once it is gone.
                container.remove().await?;
                **container = docker::start(&self.options, Some(self.address.port())).await?;
            }
            Origin::Binary { process, .. } => {
                binary::forget(process)?;
                process.start().await?;
            }
        }
        self.ready().await
    }

    /// Waits until it answers after it was started again.
    async fn ready(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Binary { process, .. } => binary::ready(process, self.address).await.map(|_| ()),
            Origin::Docker(_) | Origin::Environment => answers(self.address, None).await.map(|_| ()),
        }
    }

    /// Stops it in the middle of whatever it does, until [`Redis::thaw`] or [`Redis::kill`]. Its port stays open, connections
    /// are accepted, and nobody is answered. Loses nothing, but its keys grow older meanwhile. A server that was killed, or is
    /// frozen, stays as it is.
    ///
    /// # Errors
    /// [`ServiceError::NotOurs`] for the environment's server.
    pub async fn freeze(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.address)),
            _ if self.frozen => {}
            Origin::Docker(container) => container.freeze().await?,
            Origin::Binary { process, .. } => process.freeze().await?,
        }
        self.frozen = true;
        Ok(())
    }

    /// Lets it go on after [`Redis::freeze`], with what it was sent meanwhile. One that is not frozen stays as it is.
    ///
    /// # Errors
    /// As of [`Redis::freeze`].
    pub async fn thaw(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => return Err(ServiceError::NotOurs(self.address)),
            _ if !self.frozen => {}
            Origin::Docker(container) => container.thaw().await?,
            Origin::Binary { process, .. } => process.thaw().await?,
        }
        self.frozen = false;
        Ok(())
    }

    /// Lets its clock jump to so many seconds before (negative) or after everybody else's, from where it goes on.
    ///
    /// # Errors
    /// [`ServiceError::NotOurs`] for a server that was not started by [`Redis::start_own_with_clock`].
    pub fn set_clock(&self, ahead_seconds: i64) -> Result<(), ServiceError> {
        match &self.origin {
            Origin::Binary { process, own_clock: true } => binary::set_clock(process.folder(), ahead_seconds),
            _ => Err(ServiceError::NotOurs(self.address)),
        }
    }
}

/// Waits until a server answers that cannot be watched.
async fn answers(address: SocketAddr, login: Option<&Url>) -> Result<Info, ServiceError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match protocol::info(address, login).await {
            Ok(info) => return Ok(info),
            // It has answered, and will say the same again.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(wrong(error.to_string()));
            }
            Err(error) if Instant::now() > deadline => {
                let reason = error.to_string();
                return Err(ServiceError::NotAnswering { address, waited: PATIENCE, reason });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn url(text: &str) -> Result<Url, ServiceError> {
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if url.scheme() == "redis" { Ok(url) } else { Err(wrong("a URL begins with redis://")) }
}

fn wrong(reason: impl Into<String>) -> ServiceError {
    ServiceError::Url { variable: VARIABLE, reason: reason.into() }
}
