//! Opens the back ends that a configuration names. Only this file knows which build has which back end.

use std::sync::Arc;

use crate::{
    config::Config,
    lock::{DatabaseLock, DistributedLock, LockKind, Locks},
    store::{Database, DatabaseUrl, StoreError},
};

/// How the books are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To serve: the database is created if it is missing.
    Serve,
    /// To maintain them, for example with `bespeak outbox`: the database must exist.
    Maintain,
    /// To read them: the database must exist, and nothing is written.
    Audit,
}

/// Opens the books that a configuration names. Does not migrate them.
///
/// # Errors
/// The database cannot be opened, or this build has no back end for it.
pub async fn open_store(config: &Config, access: Access) -> Result<Arc<dyn Database>, StoreError> {
    match &config.database {
        DatabaseUrl::Sqlite(url) => open_sqlite(url, config, access).await,
        DatabaseUrl::Mysql(url) => open_mysql(url, config),
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(url: &str, config: &Config, access: Access) -> Result<Arc<dyn Database>, StoreError> {
    use crate::store::{
        Clock,
        sqlite::{SqliteOptions, SqliteStore},
    };

    let options = SqliteOptions {
        create: access == Access::Serve,
        read_only: access == Access::Audit,
        readers: config.read_connections,
        clock: Clock::Own,
    };
    Ok(Arc::new(SqliteStore::open(url, options).await?))
}

#[cfg(not(feature = "sqlite"))]
#[expect(clippy::unused_async, reason = "the same signature as with the back end")]
async fn open_sqlite(_: &str, config: &Config, _: Access) -> Result<Arc<dyn Database>, StoreError> {
    Err(not_in_this_build(&config.database))
}

#[cfg(feature = "mysql")]
fn open_mysql(url: &str, config: &Config) -> Result<Arc<dyn Database>, StoreError> {
    use crate::store::{
        Clock,
        mysql::{MysqlOptions, MysqlStore},
    };

    let options = MysqlOptions {
        writers: config.write_connections,
        readers: config.read_connections,
        guard: config.strategy.guard(),
        clock: Clock::Own,
    };
    Ok(Arc::new(MysqlStore::new(url, options)?))
}

#[cfg(not(feature = "mysql"))]
fn open_mysql(_: &str, config: &Config) -> Result<Arc<dyn Database>, StoreError> {
    Err(not_in_this_build(&config.database))
}

#[cfg(not(all(feature = "sqlite", feature = "mysql")))]
fn not_in_this_build(database: &DatabaseUrl) -> StoreError {
    let scheme = database.scheme();
    StoreError::Unavailable {
        reason: "this build does not have the back end that BESPEAK_DATABASE_URL names",
        source: format!("build it with the feature {scheme}").into(),
    }
}

/// Creates the database that a configuration names, if it does not exist, and returns whether it was created. SQLite
/// creates its file when it is opened to serve.
///
/// # Errors
/// The server is unavailable, or the account may not create databases.
/// The server is unavailable, or the account may not create databases.
#[cfg_attr(not(feature = "mysql"), expect(clippy::unused_async, reason = "the same signature as with MySQL"))]
pub async fn create_database(config: &Config) -> Result<bool, StoreError> {
    match &config.database {
        DatabaseUrl::Sqlite(_) => Ok(false),
        #[cfg(feature = "mysql")]
        DatabaseUrl::Mysql(url) => crate::store::mysql::create_database(url).await,
        #[cfg(not(feature = "mysql"))]
        database @ DatabaseUrl::Mysql(_) => Err(not_in_this_build(database)),
    }
}

/// Opens the locks that the strategy of a configuration acquires around its transactions. Connects at the first use.
pub fn open_locks(database: Arc<dyn Database>, config: &Config) -> Option<Arc<Locks>> {
    let lock: Arc<dyn DistributedLock> = match config.strategy.lock()? {
        LockKind::Database => Arc::new(DatabaseLock::new(database)),
        LockKind::Redlock => Arc::new(crate::lock::Redlock::new(crate::lock::RedlockOptions {
            urls: config.locks.redis_urls.iter().map(|url| url.to_string()).collect(),
            node_timeout: config.locks.node_timeout,
        })),
    };
    Some(Arc::new(Locks::new(lock, config.locks.timeout, config.locks.lease)))
}
