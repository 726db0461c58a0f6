//! The store: its pools and its options.

use super::{
    Clock, Guard, StoreError,
    connect::{self, Pool, Purpose, Readers},
};
use crate::{engine::ReportedStock, store::damaged::DamagedHolds};

/// Options for using a server.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    /// The largest number of connections that write.
    pub writers: u32,
    /// The largest number of connections that serve views. From 4 on, background tasks have two more, and metrics one.
    pub readers: u32,
    /// The guard that keeps two transactions from selling the same unit.
    pub guard: Guard,
    /// The clock that decides when holds end.
    pub clock: Clock,
    /// The movements of stock that become events.
    pub reported_stock: ReportedStock,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self {
            writers: 16,
            readers: 4,
            guard: Guard::RowLock,
            clock: Clock::Own,
            reported_stock: ReportedStock::Edges,
        }
    }
}

/// A database on a server.
#[derive(Debug)]
pub struct MysqlStore {
    pub(super) writers: Pool,
    pub(super) readers: Readers,
    pub(super) options: MysqlOptions,
    pub(super) damaged: DamagedHolds,
}

impl MysqlStore {
    /// Creates the pools for the database of a URL such as `mysql://user:password@host:3306/bespeak`. Connects at the
    /// first use; does not migrate.
    ///
    /// # Errors
    /// The URL is invalid.
    pub fn new(url: &str, options: MysqlOptions) -> Result<Self, StoreError> {
        let connect = connect::options(url)?;
        Ok(Self {
            readers: connect::readers(&connect, options.readers),
            writers: connect::writers(connect, Purpose::Writing, options.writers),
            options,
            damaged: DamagedHolds::default(),
        })
    }
}
