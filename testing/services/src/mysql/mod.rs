//! A server that speaks MySQL's protocol: the environment's, one in Docker, or a binary that is started.
//!
//! Never: a client of it; no SQL is spoken here. A server that stays when its process is gone.
//! Next: `binary.rs` and `docker.rs` for where it comes from, `process.rs` for how it ends.

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
    Process, ServiceError,
    container::{self, Container},
    handshake::{self, Handshake},
};

/// Names a running server.
const VARIABLE: &str = "BESPEAK_TEST_MYSQL_URL";
/// How long a server may take until it answers; recovery after a crash takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running MySQL or MariaDB server, with an account that may create databases and accounts.
///
/// Dropping it stops a server that was started for it, and removes its data.
#[derive(Debug)]
pub struct Mysql {
    root: Url,
    address: SocketAddr,
    version: String,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Environment,
    Docker(Box<Container>),
    Binary(Process),
}

impl Mysql {
    /// Takes the server of `BESPEAK_TEST_MYSQL_URL`, else starts one in Docker, else a binary of this machine.
    ///
    /// The data of a binary lie in the folder for temporary files (`TMPDIR`): what is measured on it is measured on that
    /// disk.
    ///
    /// # Errors
    /// [`ServiceError::Missing`] says what to install or set. Never falls back from a way that is there and fails.
    pub async fn provide() -> Result<Self, ServiceError> {
        match env::var(VARIABLE) {
            Ok(url) => Self::of_environment(&url).await,
            Err(_) => Self::start_own(&[]).await,
        }
    }

    /// Starts a server that nobody else uses, never that of the environment; for whoever kills or reconfigures it.
    /// `options` are the server's own, such as `--max-connections=12`, and override those that it is started with.
    ///
    /// # Errors
    /// As of [`Mysql::provide`].
    pub async fn start_own(options: &[&str]) -> Result<Self, ServiceError> {
        if container::is_there().await {
            let container = docker::start(options).await?;
            let address = container.address;
            let root = docker::root_url(&container)?;
            return Self::with(Origin::Docker(Box::new(container)), root, address).await;
        }
        let Some(program) = Program::find().await else {
            return Err(ServiceError::Missing {
                name: "MySQL",
                install: "apt-get install mariadb-server",
                variable: VARIABLE,
                example: "mysql://root@127.0.0.1:3306 (an account that may create databases and accounts)",
            });
        };
        let (process, address, handshake) = program.start(options).await?;
        let root = url(&format!("mysql://root@{address}"))?;
        Ok(Self { root, address, version: handshake.version, origin: Origin::Binary(process) })
    }

    async fn of_environment(text: &str) -> Result<Self, ServiceError> {
        let mut root = url(text)?;
        root.set_path("");
        let refused = |reason: String| ServiceError::Url { variable: VARIABLE, reason };
        let host = root.host_str().ok_or_else(|| refused(format!("{text} names no host")))?;
        let address = tokio::net::lookup_host((host, root.port().unwrap_or(3306)))
            .await
            .map_err(|error| refused(format!("{host}: {error}")))?
            .next()
            .ok_or_else(|| refused(format!("{host} has no address")))?;
        Self::with(Origin::Environment, root, address).await
    }

    async fn with(origin: Origin, root: Url, address: SocketAddr) -> Result<Self, ServiceError> {
        let Handshake { version, .. } = answers(address).await?;
        Ok(Self { root, address, version, origin })
    }

    /// The URL of the account that may do everything, without a database, such as `mysql://root@127.0.0.1:23306`.
    pub fn url(&self) -> String {
        self.root.as_str().trim_end_matches('/').to_owned()
    }

    /// The URL of another account and a database.
    pub fn database_url(&self, user: &str, password: &str, database: &str) -> String {
        let mut url = self.root.clone();
        // Both are refused only for URLs that have no host.
        let _ = url.set_username(user);
        let _ = url.set_password((!password.is_empty()).then_some(password));
        url.set_path(database);
        url.into()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it calls itself, such as `10.11.19-MariaDB` or `8.4.7`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it is and where it came from, for reports: `MariaDB 10.11.19, binary`.
    pub fn describe(&self) -> String {
        let number = self.version.split('-').next().unwrap_or_default();
        let name = if self.version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
        let origin = match &self.origin {
            Origin::Environment => VARIABLE.to_owned(),
            Origin::Docker(_) => format!("Docker image {}", docker::IMAGE),
            Origin::Binary(_) => "binary".to_owned(),
        };
        format!("{name} {number}, {origin}")
    }

    /// Its process id; only a binary has one.
    pub fn pid(&self) -> Option<u32> {
        match &self.origin {
            Origin::Binary(process) => process.pid(),
            Origin::Docker(_) | Origin::Environment => None,
        }
    }

    /// `kill -9`, and waits until it is gone. Its data stay.
    ///
    /// # Errors
    /// [`ServiceError::NotOurs`] for the environment's server.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        match &mut self.origin {
            Origin::Environment => Err(ServiceError::NotOurs(self.address)),
            Origin::Docker(container) => container.kill().await,
            Origin::Binary(process) => process.kill().await,
        }
    }

    /// Starts it again after [`Mysql::kill`], at the same address with the same data and options, and waits until it answers.
    /// A server that still runs is killed before.
    ///
    /// # Errors
    /// As of [`Mysql::kill`], or it does not answer within a minute.
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.kill().await?;
        match &mut self.origin {
            Origin::Environment => Err(ServiceError::NotOurs(self.address)),
            Origin::Docker(container) => {
                container.start_again().await?;
                answers(self.address).await.map(|_| ())
            }
            Origin::Binary(process) => {
                process.start().await?;
                binary::ready(process, self.address).await.map(|_| ())
            }
        }
    }
}

/// Waits until a server answers that cannot be watched.
async fn answers(address: SocketAddr) -> Result<Handshake, ServiceError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match handshake::read(address).await {
            Ok(handshake) => return Ok(handshake),
            Err(error) if Instant::now() > deadline => {
                let reason = error.to_string();
                return Err(ServiceError::NotAnswering { address, waited: PATIENCE, reason });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn url(text: &str) -> Result<Url, ServiceError> {
    let refused = |reason: String| ServiceError::Url { variable: VARIABLE, reason };
    let url = Url::parse(text).map_err(|error| refused(error.to_string()))?;
    if url.scheme() == "mysql" { Ok(url) } else { Err(refused("a URL begins with mysql://".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_server_comes_back_at_its_address() {
        let mut server = Mysql::start_own(&["--max-connections=12"]).await.unwrap();
        let before = handshake::read(server.address()).await.unwrap();
        server.kill().await.unwrap();
        assert!(handshake::read(server.address()).await.is_err());
        server.restart().await.unwrap();
        assert_eq!(handshake::read(server.address()).await.unwrap(), before);
    }

    #[tokio::test]
    async fn the_environment_s_server_is_not_killed_and_its_urls_are_escaped() {
        let mut server = Mysql {
            root: url("mysql://root:secret@127.0.0.1:3306").unwrap(),
            address: ([127, 0, 0, 1], 3306).into(),
            version: "8.4.7".to_owned(),
            origin: Origin::Environment,
        };
        assert!(matches!(server.kill().await, Err(ServiceError::NotOurs(_))));
        assert_eq!(server.url(), "mysql://root:secret@127.0.0.1:3306");
        assert_eq!(server.database_url("app", "a b@", "books"), "mysql://app:a%20b%40@127.0.0.1:3306/books");
        assert_eq!(server.describe(), "MySQL 8.4.7, BESPEAK_TEST_MYSQL_URL");
    }
}
