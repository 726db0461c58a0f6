//! Connections: their session settings, when they are no longer used, and how long a call waits for one.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, MySql, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use super::{StoreError, error::failed};
use crate::store::pool;

/// How long a command or a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is pinged before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is closed instead of used: well below the `wait_timeout` of a writer, after
/// which the server closes it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The settings of every session, whatever the URL or the server says: UTF-8 (for which literals are escaped), UTC,
/// strict mode, long lists in one string (for audits), and READ COMMITTED, so each statement sees what was committed
/// before it. `wait_timeout` bounds how long the session of a frozen process stays open.
const SESSION: &str = "SET NAMES utf8mb4;
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION autocommit = 1, time_zone = '+00:00',
        sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION',
        group_concat_max_len = 1048576, wait_timeout = 60";
/// The settings of sessions that write: lock waits are short, and a process that is frozen in mid-transaction loses
/// its locks.
const WRITER: &str = "SET SESSION innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 10,
    net_read_timeout = 10, net_write_timeout = 10";

/// The connections to a server.
pub(super) type Pool = pool::Pool<MySql>;
/// The connections to a server that read.
pub(super) type Readers = pool::Readers<MySql>;

/// A change of a table waits for its readers, and all other statements wait for the change, so the wait must be
/// short.
const MIGRATOR: &str = "SET SESSION lock_wait_timeout = 5";

/// The purpose of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Writing,
    Reading,
    /// Changes of the schema, which may take long.
    Migrating,
}

/// Parses a URL.
pub(super) fn options(url: &str) -> Result<MySqlConnectOptions, StoreError> {
    // Statements are up to a megabyte of text, which does not belong in a log.
    MySqlConnectOptions::from_str(url).map(ConnectOptions::disable_statement_logging).map_err(failed)
}

/// Creates the pools that read.
pub(super) fn readers(options: &MySqlConnectOptions, connections: u32) -> Readers {
    Readers::new(connections, |name, connections| named(name, options.clone(), Purpose::Reading, connections))
}

/// Creates a pool of connections that write.
pub(super) fn writers(options: MySqlConnectOptions, purpose: Purpose, connections: u32) -> Pool {
    named("writers", options, purpose, connections)
}

/// Creates a pool of connections, which are opened when they are first needed.
fn named(name: &'static str, options: MySqlConnectOptions, purpose: Purpose, connections: u32) -> Pool {
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

async fn set_up(connection: &mut MySqlConnection, purpose: Purpose) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SESSION).execute(&mut *connection).await?;
    let more = match purpose {
        Purpose::Writing => WRITER,
        Purpose::Migrating => MIGRATOR,
        Purpose::Reading => return Ok(()),
    };
    sqlx::raw_sql(more).execute(&mut *connection).await?;
    Ok(())
}
