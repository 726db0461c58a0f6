//! Connections: how they are set up, when they are not used again, and how long anybody waits for one.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, MySql, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use super::{StoreError, error::failed};
use crate::store::pool;

/// How long a command or a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is not used again: well below the `wait_timeout` of a writer, after which the
/// server closes it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Every session, whatever the URL or the server says: UTF-8 (what literals are escaped for), UTC, strict, compared byte by
/// byte, long lists in one string (audits), each statement sees what was committed before it, and a process that was frozen
/// for good leaves no session behind for hours.
const SESSION: &str = "SET NAMES utf8mb4;
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION autocommit = 1, time_zone = '+00:00',
        sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION',
        group_concat_max_len = 1048576, wait_timeout = 60";
/// Sessions that write: nobody waits long for a lock, and a process that is frozen in mid-transaction loses its locks.
const WRITER: &str = "SET SESSION innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 10,
    net_read_timeout = 10, net_write_timeout = 10";

/// Connections to a server.
pub(super) type Pool = pool::Pool<MySql>;

/// A change of a table waits for whoever reads it, and everybody else waits for the change: not for long.
const MIGRATOR: &str = "SET SESSION lock_wait_timeout = 5";

/// What a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Writing,
    Reading,
    /// Changes of the schema, which may take long.
    Migrating,
}

/// Parses a URL.
pub(super) fn options(url: &str) -> Result<MySqlConnectOptions, StoreError> {
    // Statements are text of up to a megabyte: nothing that a log should have.
    MySqlConnectOptions::from_str(url).map(ConnectOptions::disable_statement_logging).map_err(failed)
}

/// Connections to a server, opened when they are first needed.
pub(super) fn pool(options: MySqlConnectOptions, purpose: For, connections: u32) -> Pool {
    let name = if purpose == For::Reading { "readers" } else { "writers" };
    let connections = MySqlPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_MAX)
        .max_lifetime(Duration::from_secs(30 * 60))
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for >= IDLE_MAX {
                    return Ok(false);
                }
                if meta.idle_for >= PING_AFTER && connection.ping().await.is_err() {
                    return Ok(false);
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| Box::pin(set_up(connection, purpose)))
        .connect_lazy_with(options);
    Pool::new(name, connections, failed)
}

async fn set_up(connection: &mut MySqlConnection, purpose: For) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SESSION).execute(&mut *connection).await?;
    let more = match purpose {
        For::Writing => WRITER,
        For::Migrating => MIGRATOR,
        For::Reading => return Ok(()),
    };
    sqlx::raw_sql(more).execute(&mut *connection).await?;
    Ok(())
}
