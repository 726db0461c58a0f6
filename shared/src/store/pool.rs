//! Connections that are lent, and how many are, how many wait, and for how long.
//!
//! Never: SQL, or what a connection is. Next: `sqlite/mod.rs` and `mysql/connect.rs`, which open them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use sqlx::{Database, pool::PoolConnection};

use super::StoreError;
use crate::telemetry::PoolWaits;

/// What a pool is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// `writers` or `readers`.
    pub pool: &'static str,
    /// Connections that are lent, or are being opened.
    pub in_use: usize,
    /// Connections that are open and wait for work.
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
    /// How many connections there may be.
    pub max: usize,
}

/// A pool of connections of one kind.
pub(super) struct Pool<DB: Database> {
    connections: sqlx::Pool<DB>,
    name: &'static str,
    /// What an error of the driver means.
    failed: fn(sqlx::Error) -> StoreError,
    waiting: AtomicUsize,
    waits: PoolWaits,
}

/// One that waits; not any more when it is dropped, whether it was served or went away.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<DB: Database> Pool<DB> {
    pub(super) fn new(
        name: &'static str,
        connections: sqlx::Pool<DB>,
        failed: fn(sqlx::Error) -> StoreError,
    ) -> Self {
        Self { connections, name, failed, waiting: AtomicUsize::new(0), waits: PoolWaits::of(name) }
    }

    /// Lends a connection, as soon as there is one. Cancel-safe.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<DB>, StoreError> {
        let waits = Waiting::among(&self.waiting);
        let since = Instant::now();
        let connection = self.connections.acquire().await;
        drop(waits);
        self.waits.note(since.elapsed(), matches!(connection, Err(sqlx::Error::PoolTimedOut)));
        connection.map_err(self.failed)
    }

    /// The pool as the driver has it, for what must open connections or transactions by itself.
    pub(super) fn connections(&self) -> &sqlx::Pool<DB> {
        &self.connections
    }

    /// What it is doing now.
    pub(super) fn in_use(&self) -> PoolUse {
        // Read one after the other, while others come and go: a connection may have become idle in between.
        let open = usize::try_from(self.connections.size()).unwrap_or(usize::MAX);
        let idle = self.connections.num_idle().min(open);
        let max = self.connections.options().get_max_connections();
        PoolUse {
            pool: self.name,
            in_use: open - idle,
            idle,
            waiting: self.waiting.load(Ordering::Relaxed),
            max: usize::try_from(max).unwrap_or(usize::MAX),
        }
    }

    /// Closes them all; waits for those that are lent.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

impl<DB: Database> std::fmt::Debug for Pool<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("use", &self.in_use()).finish_non_exhaustive()
    }
}
