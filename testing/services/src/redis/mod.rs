//! A server that speaks Redis's protocol: the environment's, one in Docker, or a binary that is started here.
//!
//! Never: a client, or access to a key; a server that stays when its process is gone.
//! Next: `binary.rs` and `docker.rs`, which start servers; `origin.rs`, which kills and freezes them.

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
    ServiceError, Switch, container,
    origin::{Origin, Source},
    process::START_TIMEOUT,
};

/// The environment variable with the URL of a running server.
const VARIABLE: &str = "BESPEAK_TEST_REDIS_URL";

/// A running Redis, or Valkey, which speaks the same protocol.
///
/// If this process started the server, dropping the value stops it and removes its data.
#[derive(Debug)]
pub struct Redis {
    /// The URL that clients use; a switch's if the server stands behind one.
    url: Url,
    info: Info,
    options: Vec<String>,
    has_own_clock: bool,
    origin: Origin,
}

impl Redis {
    /// The options of a server that keeps every acknowledged write when it is killed. Without them, all data
    /// is in memory.
    pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

    /// Uses the server of `BESPEAK_TEST_REDIS_URL`, else starts one in Docker, else starts a binary of this machine.
    ///
    /// # Errors
    /// [`ServiceError::Missing`] says what to install or set. If one of the three is available and fails, the
    /// others are not tried.
    pub async fn provide() -> Result<Self, ServiceError> {
        match env::var(VARIABLE) {
            Ok(url) => Self::from_environment(&url).await,
            Err(_) => Self::start_own(&[]).await,
        }
    }

    /// Starts a server that the caller does not share, for tests that kill, empty or freeze it. Never uses
    /// the environment's server. `options` are the server's command-line options, such as [`Redis::DURABLE`],
    /// and override the defaults.
    ///
    /// # Errors
    /// As of [`Redis::provide`].
    pub async fn start_own(options: &[&str]) -> Result<Self, ServiceError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        if container::docker_runs().await {
            let container = docker::start(&options, None).await?;
            let info = wait_for_info(container.address, None).await?;
            return Self::new(Origin::docker(container.address, container), info, options);
        }
        let (process, address, info) = program()?.start(&options, None).await?;
        Self::new(Origin::binary(address, process), info, options)
    }

    /// Starts a server that the caller does not share, behind a switch, which is the address in its URL:
    /// [`Switch::turn_off`] makes the server unreachable, [`Switch::set_latency`] makes it slow.
    ///
    /// # Errors
    /// As of [`Redis::provide`].
    pub async fn start_own_behind_switch(options: &[&str]) -> Result<(Self, Switch), ServiceError> {
        let mut server = Self::start_own(options).await?;
        let switch = Switch::start(server.address()).map_err(ServiceError::io("listening for Redis"))?;
        server.url = parse_url(&format!("redis://{}", switch.address()))?;
        Ok((server, switch))
    }

    /// Starts a server that the caller does not share and whose clock can be set ([`Redis::set_clock`]). The
    /// server is always a binary.
    ///
    /// # Errors
    /// As of [`Redis::provide`], or libfaketime is missing.
    pub async fn start_own_with_clock(options: &[&str]) -> Result<Self, ServiceError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let clock = Clock::find()?;
        let (process, address, info) = program()?.start(&options, Some(&clock)).await?;
        let server = Self::new(Origin::binary(address, process), info, options)?;
        Ok(Self { has_own_clock: true, ..server })
    }

    async fn from_environment(text: &str) -> Result<Self, ServiceError> {
        let url = parse_url(text)?;
        let host = url.host_str().ok_or_else(|| invalid_url(format!("{text} names no host")))?;
        let address = tokio::net::lookup_host((host, url.port().unwrap_or(6379)))
            .await
            .map_err(|error| invalid_url(format!("{host}: {error}")))?
            .next()
            .ok_or_else(|| invalid_url(format!("{host} has no address")))?;
        let info = wait_for_info(address, Some(&url)).await?;
        let server = Self::new(Origin::environment(address), info, Vec::new())?;
        Ok(Self { url, ..server })
    }

    fn new(origin: Origin, info: Info, options: Vec<String>) -> Result<Self, ServiceError> {
        let url = parse_url(&format!("redis://{}", origin.address()))?;
        Ok(Self { url, info, options, has_own_clock: false, origin })
    }

    /// The URL that clients use, such as `redis://127.0.0.1:16379`.
    pub fn url(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// The address at which the server itself listens, even if its URL is a switch's.
    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// Product, version and origin, for reports: `Redis 7.0.15, binary`.
    pub fn describe(&self) -> String {
        let origin = self.origin.describe(VARIABLE, docker::IMAGE);
        format!("{} {}, {origin}", self.info.name, self.info.version)
    }

    /// The process id. Only a running binary has one.
    pub fn pid(&self) -> Option<u32> {
        self.origin.pid()
    }

    /// Kills the server with `kill -9` and waits until it is gone.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for the environment's server.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await
    }

    /// Starts the server after [`Redis::kill`], at the same address. It keeps its data only if its options say so, as
    /// [`Redis::DURABLE`] does. A running server is killed first.
    ///
    /// # Errors
    /// As of [`Redis::kill`], or the server does not answer within a minute.
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await?;
        self.origin.start().await?;
        self.wait_until_ready().await
    }

    /// As [`Redis::restart`], with all data removed.
    ///
    /// # Errors
    /// As of [`Redis::restart`].
    pub async fn restart_empty(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await?;
        let port = self.address().port();
        match self.origin.source_mut() {
            // `kill` has refused it.
            Source::Environment => {}
            Source::Docker(container) => {
                // The port is free only when the old container is gone.
                container.remove().await?;
                **container = docker::start(&self.options, Some(port)).await?;
            }
            Source::Binary(process) => {
                binary::remove_data(process)?;
                process.start().await?;
            }
        }
        self.wait_until_ready().await
    }

    /// Waits until the server answers after a restart.
    async fn wait_until_ready(&mut self) -> Result<(), ServiceError> {
        let address = self.address();
        match self.origin.source_mut() {
            Source::Binary(process) => binary::ready(process, address).await.map(|_| ()),
            Source::Docker(_) | Source::Environment => wait_for_info(address, None).await.map(|_| ()),
        }
    }

    /// Stops the server in the middle of its work, until [`Redis::thaw`] or [`Redis::kill`]. Its port stays
    /// open and the system accepts connections, but no command is answered. No data is lost, but keys
    /// continue to age. A server that is killed or frozen stays as it is.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for the environment's server.
    pub async fn freeze(&mut self) -> Result<(), ServiceError> {
        self.origin.freeze().await
    }

    /// Continues the server after [`Redis::freeze`]; it answers the commands that arrived meanwhile. A server
    /// that is not frozen stays as it is.
    ///
    /// # Errors
    /// As of [`Redis::freeze`].
    pub async fn thaw(&mut self) -> Result<(), ServiceError> {
        self.origin.thaw().await
    }

    /// Sets the server's clock to the machine's clock plus `ahead_seconds`, which may be negative. The clock
    /// then goes on from there.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for a server that [`Redis::start_own_with_clock`] did not start.
    pub fn set_clock(&self, ahead_seconds: i64) -> Result<(), ServiceError> {
        match self.origin.source() {
            Source::Binary(process) if self.has_own_clock => {
                binary::set_clock(process.folder(), ahead_seconds)
            }
            _ => Err(ServiceError::NotOwned(self.address())),
        }
    }
}

fn program() -> Result<Program, ServiceError> {
    Program::find().ok_or(ServiceError::Missing {
        name: "Redis",
        install: "apt-get install redis-server",
        variable: VARIABLE,
        example: "redis://127.0.0.1:6379 (a server whose keys may all be lost)",
    })
}

/// Waits until a server answers whose process cannot be watched.
async fn wait_for_info(address: SocketAddr, login: Option<&Url>) -> Result<Info, ServiceError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match protocol::info(address, login).await {
            Ok(info) => return Ok(info),
            // A refused login will be refused again.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(invalid_url(error.to_string()));
            }
            Err(error) if Instant::now() > deadline => {
                let reason = error.to_string();
                return Err(ServiceError::NotAnswering { address, waited: START_TIMEOUT, reason });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn parse_url(text: &str) -> Result<Url, ServiceError> {
    let url = Url::parse(text).map_err(|error| invalid_url(error.to_string()))?;
    if url.scheme() == "redis" { Ok(url) } else { Err(invalid_url("the URL must begin with redis://")) }
}

fn invalid_url(reason: impl Into<String>) -> ServiceError {
    ServiceError::InvalidUrl { variable: VARIABLE, reason: reason.into() }
}
