//! A server that speaks MySQL's protocol: the environment's, one in Docker, or a binary that is started here.
//!
//! Never: a client, or SQL; a server that stays when its process is gone.
//! Next: `binary.rs` and `docker.rs`, which start servers; `origin.rs`, which kills them.

mod binary;
mod docker;

use std::{
    env,
    net::SocketAddr,
    time::{Duration, Instant},
};

use url::Url;

use self::binary::Program;
use crate::{
    ServiceError, container,
    handshake::{self, Handshake},
    origin::{Origin, Source},
    process::START_TIMEOUT,
};

/// The environment variable with the URL of a running server.
const VARIABLE: &str = "BESPEAK_TEST_MYSQL_URL";

/// A running MySQL or MariaDB server, with an account that may create databases and accounts.
///
/// If this process started the server, dropping the value stops it and removes its data.
#[derive(Debug)]
pub struct Mysql {
    root: Url,
    version: String,
    origin: Origin,
}

impl Mysql {
    /// Uses the server of `BESPEAK_TEST_MYSQL_URL`, else starts one in Docker, else starts a binary of this machine.
    ///
    /// A binary keeps its data in the folder for temporary files (`TMPDIR`), so measurements depend on that
    /// folder's disk.
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

    /// Starts a server that the caller does not share, for tests that kill or reconfigure it. Never uses the
    /// environment's server. `options` are the server's command-line options, such as `--max-connections=12`,
    /// and override the defaults.
    ///
    /// # Errors
    /// As of [`Mysql::provide`].
    pub async fn start_own(options: &[&str]) -> Result<Self, ServiceError> {
        if container::docker_runs().await {
            let container = docker::start(options).await?;
            let root = parse_url(&docker::root_url(&container))?;
            let Handshake { version, .. } = wait_for_handshake(container.address).await?;
            return Ok(Self { root, version, origin: Origin::docker(container.address, container) });
        }
        let Some(program) = Program::find().await else {
            return Err(ServiceError::Missing {
                name: "MySQL",
                install: "apt-get install mariadb-server",
                variable: VARIABLE,
                example: "mysql://root@127.0.0.1:3306 (an account that may create databases and accounts)",
            });
        };
        let (process, address, Handshake { version, .. }) = program.start(options).await?;
        let root = parse_url(&format!("mysql://root@{address}"))?;
        Ok(Self { root, version, origin: Origin::binary(address, process) })
    }

    async fn from_environment(text: &str) -> Result<Self, ServiceError> {
        let mut root = parse_url(text)?;
        root.set_path("");
        let host = root.host_str().ok_or_else(|| invalid_url(format!("{text} names no host")))?;
        let address = tokio::net::lookup_host((host, root.port().unwrap_or(3306)))
            .await
            .map_err(|error| invalid_url(format!("{host}: {error}")))?
            .next()
            .ok_or_else(|| invalid_url(format!("{host} has no address")))?;
        let Handshake { version, .. } = wait_for_handshake(address).await?;
        Ok(Self { root, version, origin: Origin::environment(address) })
    }

    /// The URL of the account with all privileges, without a database, such as `mysql://root@127.0.0.1:23306`.
    pub fn url(&self) -> String {
        self.root.as_str().trim_end_matches('/').to_owned()
    }

    /// The URL of another account, with a database.
    pub fn database_url(&self, user: &str, password: &str, database: &str) -> String {
        let mut url = self.root.clone();
        // Both fail only for URLs without a host.
        let _ = url.set_username(user);
        let _ = url.set_password((!password.is_empty()).then_some(password));
        url.set_path(database);
        url.into()
    }

    /// The address at which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// The version that the server reports, such as `10.11.19-MariaDB` or `8.4.7`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Product, version and origin, for reports: `MariaDB 10.11.19, binary`.
    pub fn describe(&self) -> String {
        let number = self.version.split('-').next().unwrap_or_default();
        let name = if self.version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
        format!("{name} {number}, {}", self.origin.describe(VARIABLE, docker::IMAGE))
    }

    /// The process id. Only a running binary has one.
    pub fn pid(&self) -> Option<u32> {
        self.origin.pid()
    }

    /// Kills the server with `kill -9` and waits until it is gone. Its data stay.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for the environment's server.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await
    }

    /// Starts the server after [`Mysql::kill`], at the same address with the same data and options, and waits until it
    /// answers. A running server is killed first.
    ///
    /// # Errors
    /// As of [`Mysql::kill`], or the server does not answer within a minute.
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.origin.kill().await?;
        self.origin.start().await?;
        let address = self.origin.address();
        match self.origin.source_mut() {
            Source::Binary(process) => binary::ready(process, address).await.map(|_| ()),
            Source::Docker(_) | Source::Environment => wait_for_handshake(address).await.map(|_| ()),
        }
    }
}

/// Waits until a server answers whose process cannot be watched.
async fn wait_for_handshake(address: SocketAddr) -> Result<Handshake, ServiceError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match handshake::read(address).await {
            Ok(handshake) => return Ok(handshake),
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
    if url.scheme() == "mysql" {
        Ok(url)
    } else {
        Err(invalid_url("the URL must begin with mysql://".to_owned()))
    }
}

fn invalid_url(reason: String) -> ServiceError {
    ServiceError::InvalidUrl { variable: VARIABLE, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_server_restarts_at_the_same_address() {
        let mut server = Mysql::start_own(&["--max-connections=12"]).await.unwrap();
        let before = handshake::read(server.address()).await.unwrap();
        server.kill().await.unwrap();
        assert!(handshake::read(server.address()).await.is_err());
        server.restart().await.unwrap();
        assert_eq!(handshake::read(server.address()).await.unwrap(), before);
    }

    #[tokio::test]
    async fn the_environment_s_server_cannot_be_killed_and_urls_are_escaped() {
        let mut server = Mysql {
            root: parse_url("mysql://root:secret@127.0.0.1:3306").unwrap(),
            version: "8.4.7".to_owned(),
            origin: Origin::environment(([127, 0, 0, 1], 3306).into()),
        };
        assert!(matches!(server.kill().await, Err(ServiceError::NotOwned(_))));
        assert_eq!(server.url(), "mysql://root:secret@127.0.0.1:3306");
        assert_eq!(server.database_url("app", "a b@", "books"), "mysql://app:a%20b%40@127.0.0.1:3306/books");
        assert_eq!(server.describe(), "MySQL 8.4.7, BESPEAK_TEST_MYSQL_URL");
    }
}
