//! The store: its pools and its options.

use super::{
    Clock, Guard, StoreError,
    connect::{self, Pool, Purpose},
};

/// How to use a server.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    /// Connections that write, at most.
    pub writers: u32,
    /// Connections that read, at most.
    pub readers: u32,
    /// What keeps two transactions from selling the same unit.
    pub guard: Guard,
    /// Which clock decides.
    pub clock: Clock,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self { writers: 16, readers: 4, guard: Guard::RowLock, clock: Clock::Own }
    }
}

/// A database on a server.
#[derive(Debug)]
pub struct MysqlStore {
    pub(super) writers: Pool,
    pub(super) readers: Pool,
    pub(super) options: MysqlOptions,
}

impl MysqlStore {
    /// Makes the pools for the database that a URL such as `mysql://user:password@host:3306/bespeak` names. Connects when
    /// first asked; does not migrate.
    ///
    /// # Errors
    /// The URL is not understood.
    pub fn new(url: &str, options: MysqlOptions) -> Result<Self, StoreError> {
        let connect = connect::options(url)?;
        Ok(Self {
            writers: connect::pool(connect.clone(), Purpose::Writing, options.writers),
            readers: connect::pool(connect, Purpose::Reading, options.readers),
            options,
        })
    }
}
