//! The store: opens the file, and keeps its writer, its readers and its checkpoint task.

use std::{str::FromStr, time::Duration};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::{
    Clock, StoreError,
    checkpoint::Checkpoints,
    clock,
    connect::{Pool, pool_options},
    error::failed,
};
use crate::engine::Timestamp;

/// How long to wait for another process's transaction before that is an outage.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Pages of WAL after which a commit itself moves what is left of them into the database file: 128 MiB. The task that
/// does so behind the writer's back (`checkpoint.rs`) leaves it little to move.
const CHECKPOINT_PAGES: &str = "32000";
/// What the WAL is cut back to, in bytes, once it was moved.
const WAL_BYTES_KEPT: &str = "67108864";
/// Page cache of a connection, in KiB (the negative sign is `SQLite`'s notation); taken only as it is needed.
const WRITER_CACHE_KIB: &str = "-131072";
const READER_CACHE_KIB: &str = "-4096";

/// How to open a database file.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Whether a missing file is created.
    pub create: bool,
    /// Whether to keep from writing; for audits.
    pub read_only: bool,
    /// How many connections serve reads.
    pub readers: u32,
    /// Which clock decides.
    pub clock: Clock,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { create: true, read_only: false, readers: 4, clock: Clock::Own }
    }
}

/// A database file.
#[derive(Debug)]
pub struct SqliteStore {
    pub(super) writer: Pool,
    pub(super) readers: Pool,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) clock: Clock,
}

impl SqliteStore {
    /// Opens the file that a URL such as `sqlite://bespeak.db` names. Does not migrate.
    ///
    /// # Errors
    /// A URL that names no file, or a file that cannot be opened.
    pub async fn open(url: &str, options: SqliteOptions) -> Result<Self, StoreError> {
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(|source| StoreError::Unavailable {
                reason: "the URL is not understood",
                source: source.into(),
            })?
            .create_if_missing(options.create)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(false)
            .pragma("temp_store", "memory");
        let file = connect.get_filename().to_owned();
        let connect_behind = connect.clone().synchronous(SqliteSynchronous::Full);
        let readers = connect.clone().pragma("query_only", "on").pragma("cache_size", READER_CACHE_KIB);
        let writer = if options.read_only {
            readers.clone()
        } else {
            connect
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
                .pragma("journal_size_limit", WAL_BYTES_KEPT)
                .pragma("cache_size", WRITER_CACHE_KIB)
        };
        // The writer comes first: it creates the file and switches it to WAL.
        let writer = pool_options(1).connect_with(writer).await.map_err(failed)?;
        let readers = pool_options(options.readers).connect_with(readers).await.map_err(failed)?;
        let checkpoints =
            if options.read_only { None } else { Some(Checkpoints::start(&file, connect_behind).await?) };
        let (writer, readers) = (Pool::new("writers", writer, failed), Pool::new("readers", readers, failed));
        Ok(Self { writer, readers, checkpoints, clock: options.clock })
    }

    pub(super) fn now(&self) -> Timestamp {
        clock::now(&self.clock)
    }
}
