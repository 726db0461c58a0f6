//! Pools of connections that measure themselves: connections in use, calls that wait, and for how long; and which
//! reads share connections ([`Readers`]).
//!
//! Never: SQL, or what a connection is. Next: `sqlite/connect.rs` and `mysql/connect.rs`, which open them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use sqlx::{Database, pool::PoolConnection};

use super::StoreError;
use crate::telemetry::{PoolUse, PoolWaits};

/// A pool of connections of one kind.
pub(super) struct Pool<DB: Database> {
    connections: sqlx::Pool<DB>,
    name: &'static str,
    /// Translates an error of the driver.
    failed: fn(sqlx::Error) -> StoreError,
    waiting: AtomicUsize,
    waits: PoolWaits,
}

/// Counts a waiting call, until it is dropped: when it was served or went away.
struct WaitingCall<'a>(&'a AtomicUsize);

impl<'a> WaitingCall<'a> {
    fn among(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for WaitingCall<'_> {
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

    /// Lends a connection, as soon as one is free. Cancel-safe.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<DB>, StoreError> {
        let waits = WaitingCall::among(&self.waiting);
        let since = Instant::now();
        let connection = self.connections.acquire().await;
        drop(waits);
        self.waits.observe(since.elapsed(), matches!(connection, Err(sqlx::Error::PoolTimedOut)));
        connection.map_err(self.failed)
    }

    /// The pool of the driver, for code that opens connections or transactions itself.
    pub(super) fn connections(&self) -> &sqlx::Pool<DB> {
        &self.connections
    }

    /// The present use of the pool.
    pub(super) fn in_use(&self) -> PoolUse {
        // These numbers are read one after the other while connections come and go, so a connection may have become
        // idle in between.
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

    /// Closes all connections; waits for those that are lent.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

impl<DB: Database> std::fmt::Debug for Pool<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("use", &self.in_use()).finish_non_exhaustive()
    }
}

/// From this number of read connections on, background tasks and metrics have connections of their own. A process with
/// fewer is a function, which either answers requests or runs tasks.
const SEPARATE_FROM: u32 = 4;
/// Connections of the background tasks: the expiry timer, the relay, the dispatcher and the purge.
const BACKGROUND: u32 = 2;
/// Connections that count for metrics.
const METRICS: u32 = 1;

/// The pools of connections that read. A crowd of readers must not hold up the expiry timer or the relay, and counting
/// a long backlog must not hold up either.
pub(super) struct Readers<DB: Database> {
    /// Serves views.
    pub(super) views: Arc<Pool<DB>>,
    /// Serves background tasks; the pool of the views if there are few connections.
    pub(super) background: Arc<Pool<DB>>,
    /// Counts for metrics; the pool of the views if there are few connections.
    pub(super) metrics: Arc<Pool<DB>>,
}

impl<DB: Database> Readers<DB> {
    /// Makes the pools with `make`, which receives the name of a pool and its number of connections. `connections` is
    /// the number for views.
    pub(super) fn new(connections: u32, make: impl Fn(&'static str, u32) -> Pool<DB>) -> Self {
        let views = Arc::new(make("readers", connections));
        if connections < SEPARATE_FROM {
            return Self { background: views.clone(), metrics: views.clone(), views };
        }
        let [background, metrics] =
            [("background", BACKGROUND), ("metrics", METRICS)].map(|(name, size)| Arc::new(make(name, size)));
        Self { views, background, metrics }
    }

    fn each(&self) -> impl Iterator<Item = &Pool<DB>> {
        let own =
            [&self.background, &self.metrics].into_iter().filter(|pool| !Arc::ptr_eq(pool, &self.views));
        std::iter::once(&self.views).chain(own).map(AsRef::as_ref)
    }

    /// The present use of each pool.
    pub(super) fn in_use(&self) -> impl Iterator<Item = PoolUse> {
        self.each().map(Pool::in_use)
    }

    /// Closes all connections; waits for those that are lent.
    pub(super) async fn close(&self) {
        for pool in self.each() {
            pool.close().await;
        }
    }
}

impl<DB: Database> std::fmt::Debug for Readers<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.each()).finish()
    }
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

    use super::*;

    fn pool() -> Arc<Pool<Sqlite>> {
        let options = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(60));
        let connections = options.connect_lazy("sqlite::memory:").expect("a URL");
        Arc::new(Pool::new("writers", connections, |source| StoreError::Statement { source: source.into() }))
    }

    fn shown(pool: &Pool<Sqlite>) -> (usize, usize, usize, usize) {
        let PoolUse { in_use, idle, waiting, max, .. } = pool.in_use();
        (in_use, idle, waiting, max)
    }

    async fn until(pool: &Pool<Sqlite>, wanted: (usize, usize, usize, usize)) {
        let shows = async {
            while shown(pool) != wanted {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), shows).await;
        assert!(waited.is_ok(), "it shows {:?}, not {wanted:?}", shown(pool));
    }

    #[tokio::test]
    async fn a_waiting_call_is_counted_until_it_is_served_or_dropped() {
        let pool = pool();
        assert_eq!(shown(&pool), (0, 0, 0, 1));
        // Given a pool whose only connection is lent, when two calls come, then they wait
        let lent = pool.acquire().await.expect("a connection");
        assert_eq!(shown(&pool), (1, 0, 0, 1));
        let [goes, stays] = [pool.clone(), pool.clone()]
            .map(|pool| tokio::spawn(async move { pool.acquire().await.map(drop) }));
        until(&pool, (1, 0, 2, 1)).await;
        // When one call is dropped, and the connection comes back, then no call waits
        goes.abort();
        until(&pool, (1, 0, 1, 1)).await;
        drop(lent);
        stays.await.expect("no panic").expect("a connection");
        until(&pool, (0, 1, 0, 1)).await;
    }
}
