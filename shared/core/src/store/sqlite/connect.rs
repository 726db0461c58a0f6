//! Pools of connections to the file.

use std::time::Duration;

use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

use crate::store::pool;

/// How long a command or a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// The connections to a file.
pub(super) type Pool = pool::Pool<Sqlite>;
/// The connections to a file that read.
pub(super) type Readers = pool::Readers<Sqlite>;

pub(super) fn pool_options(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}
