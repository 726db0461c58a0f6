//! Where a test server comes from, and the operations that every kind of server supports: kill, start again,
//! freeze, thaw.
//!
//! Never: a probe that decides whether a server is ready; that depends on its protocol.
//! Next: `process.rs` for a binary, `container.rs` for Docker, `mysql/mod.rs`, `kafka/mod.rs` and
//! `redis/mod.rs` for users.

use std::net::SocketAddr;

use crate::{Process, ServiceError, container::Container};

/// A server at an address, with the means to control it.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    frozen: bool,
    source: Source,
}

/// How the server was obtained.
#[derive(Debug)]
pub(crate) enum Source {
    /// A variable of the environment names it. This process must not kill or freeze it.
    Environment,
    /// This process started a container.
    Docker(Box<Container>),
    /// This process started a binary.
    Binary(Process),
}

impl Origin {
    /// A server that a variable of the environment names.
    pub(crate) fn environment(address: SocketAddr) -> Self {
        Self { address, frozen: false, source: Source::Environment }
    }

    /// A server in a container, at the address that its clients use.
    pub(crate) fn docker(address: SocketAddr, container: Container) -> Self {
        Self { address, frozen: false, source: Source::Docker(Box::new(container)) }
    }

    /// A server that runs as a process of this machine.
    pub(crate) fn binary(address: SocketAddr, process: Process) -> Self {
        Self { address, frozen: false, source: Source::Binary(process) }
    }

    /// The address at which the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the server was obtained.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// As [`Origin::source`], to operate on the server beyond the verbs of this type.
    pub(crate) fn source_mut(&mut self) -> &mut Source {
        &mut self.source
    }

    /// The origin in words, for reports: `binary`, `Docker image redis:7` or the name of the variable.
    pub(crate) fn describe(&self, variable: &str, image: &str) -> String {
        match &self.source {
            Source::Environment => variable.to_owned(),
            Source::Docker(_) => format!("Docker image {image}"),
            Source::Binary(_) => "binary".to_owned(),
        }
    }

    /// The process id. Only a running binary has one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.source {
            Source::Binary(process) => process.pid(),
            Source::Docker(_) | Source::Environment => None,
        }
    }

    /// Kills the server with `kill -9` and waits until it is gone.
    ///
    /// # Errors
    /// [`ServiceError::NotOwned`] for the environment's server.
    pub(crate) async fn kill(&mut self) -> Result<(), ServiceError> {
        match &mut self.source {
            Source::Environment => return Err(ServiceError::NotOwned(self.address)),
            Source::Docker(container) => container.kill().await?,
            Source::Binary(process) => process.kill().await?,
        }
        self.frozen = false;
        Ok(())
    }

    /// Starts the server after [`Origin::kill`], at the same address. The server may answer much later.
    ///
    /// # Errors
    /// As of [`Origin::kill`].
    pub(crate) async fn start(&mut self) -> Result<(), ServiceError> {
        match &mut self.source {
            Source::Environment => Err(ServiceError::NotOwned(self.address)),
            Source::Docker(container) => container.start_again().await,
            Source::Binary(process) => process.start().await,
        }
    }

    /// Stops the server in the middle of its work. A frozen server stays as it is.
    ///
    /// # Errors
    /// As of [`Origin::kill`].
    pub(crate) async fn freeze(&mut self) -> Result<(), ServiceError> {
        match &mut self.source {
            Source::Environment => return Err(ServiceError::NotOwned(self.address)),
            // Docker refuses to pause a container that is paused.
            _ if self.frozen => {}
            Source::Docker(container) => container.freeze().await?,
            Source::Binary(process) => process.freeze().await?,
        }
        self.frozen = true;
        Ok(())
    }

    /// Continues the server after [`Origin::freeze`]. A server that is not frozen stays as it is.
    ///
    /// # Errors
    /// As of [`Origin::kill`].
    pub(crate) async fn thaw(&mut self) -> Result<(), ServiceError> {
        match &mut self.source {
            Source::Environment => return Err(ServiceError::NotOwned(self.address)),
            _ if !self.frozen => {}
            Source::Docker(container) => container.thaw().await?,
            Source::Binary(process) => process.thaw().await?,
        }
        self.frozen = false;
        Ok(())
    }
}
