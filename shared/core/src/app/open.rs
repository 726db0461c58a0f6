//! Opens the back ends that a configuration names. Only this file knows which build has which back end.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    config::Config,
    lock::{DatabaseLock, DistributedLock, LockKind, Locks},
    store::{Audit, Database, DatabaseUrl, StoreError},
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
        DatabaseUrl::Mysql(url) => {
            if let (Access::Serve, Some(host)) = (access, config.database.unverified_host()) {
                tracing::warn!(
                    host,
                    "the certificate of the database server is not checked, so anyone on the way to it can read and \
                     change what is sent: add ssl-mode=VERIFY_IDENTITY to BESPEAK_DATABASE_URL"
                );
            }
            open_mysql(url, config)
        }
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
        migration_backups: config.migration_backups,
        reported_stock: config.reported_stock(),
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
        reported_stock: config.reported_stock(),
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

/// How long a function waits for the schema when it starts.
const SCHEMA_WITHIN: Duration = Duration::from_secs(2);

/// Checks that this version may run on the schema, for functions, which do not migrate. A database that does not answer
/// is no reason to refuse: the connection is made again when the first request needs it.
///
/// # Errors
/// [`StoreError::SchemaTooNew`].
pub async fn refuse_newer_schema(store: &dyn Database) -> Result<(), StoreError> {
    match tokio::time::timeout(SCHEMA_WITHIN, store.check_schema()).await {
        Ok(Err(error @ StoreError::SchemaTooNew { .. })) => Err(error),
        _ => Ok(()),
    }
}

/// A copy of a database, and the audit of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The size of the copy.
    pub bytes: u64,
    /// The audit of the copy. Findings are violations that the original has too. `None` if its schema is that of an
    /// older version, which this one cannot audit.
    pub audit: Option<Audit>,
}

/// Copies the SQLite file that a configuration names to `to`, which must not exist, and checks the copy. Processes may
/// serve meanwhile. `None` if the database is a server, whose own tools make backups. Cancel-safe: the work in progress
/// is left behind, under the name of the copy with `.partial` at its end.
///
/// # Errors
/// The file cannot be read, the copy cannot be written or exists already, or the copy is damaged.
#[cfg_attr(
    not(feature = "sqlite"),
    expect(clippy::unused_async, reason = "the same signature as with SQLite")
)]
pub async fn back_up(config: &Config, to: &Path) -> Result<Option<BackupReport>, StoreError> {
    match &config.database {
        DatabaseUrl::Mysql(_) => Ok(None),
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(url) => {
            let crate::store::sqlite::Backup { bytes, audit } =
                crate::store::sqlite::back_up(url, to).await?;
            Ok(Some(BackupReport { bytes, audit }))
        }
        #[cfg(not(feature = "sqlite"))]
        database @ DatabaseUrl::Sqlite(_) => {
            let _ = to;
            Err(not_in_this_build(database))
        }
    }
}

/// Creates the database that a configuration names, if it does not exist, and returns whether it was created. SQLite
/// creates its file when it is opened to serve.
///
/// # Errors
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
