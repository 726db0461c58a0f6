//! The store: opens the file, and keeps its writer, its readers and its checkpoint task.

use std::{
    io,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    Clock, StoreError, backup,
    checkpoint::Checkpoints,
    clock,
    connect::{Pool, Readers, pool_options},
    error::{failed, is_busy},
};
use crate::{
    engine::{ReportedStock, Timestamp},
    store::damaged::DamagedHolds,
};

/// How long to wait for the transaction of another process before that counts as an outage.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for another process that creates the file.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// The pause between two tries to open the file.
const OPEN_PAUSE: Duration = Duration::from_millis(10);
/// The number of WAL pages above which a commit itself moves the rest of them into the database file: 128 MiB. The
/// background task (`checkpoint.rs`) leaves little for it to move.
const CHECKPOINT_PAGES: &str = "32000";
/// The size in bytes to which the WAL is truncated after it was moved.
const WAL_BYTES_KEPT: &str = "67108864";
/// The page cache of a connection, in KiB (SQLite marks KiB by a negative sign); memory is allocated only as needed.
const WRITER_CACHE_KIB: &str = "-131072";
const READER_CACHE_KIB: &str = "-4096";

/// Options for opening a database file.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Whether a missing file is created.
    pub create: bool,
    /// Whether nothing may be written, as for audits.
    pub read_only: bool,
    /// The number of connections that serve views. From 4 on, background tasks have two more, and metrics one.
    pub readers: u32,
    /// The clock that decides when holds end.
    pub clock: Clock,
    /// How many automatic copies of the file are kept, each made before a migration changes it; 0 makes none.
    pub migration_backups: u32,
    /// The movements of stock that become events.
    pub reported_stock: ReportedStock,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            readers: 4,
            clock: Clock::Own,
            migration_backups: 0,
            reported_stock: ReportedStock::Edges,
        }
    }
}

/// An open database file.
#[derive(Debug)]
pub struct SqliteStore {
    pub(super) writer: Pool,
    pub(super) readers: Readers,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) clock: Clock,
    pub(super) damaged: DamagedHolds,
    pub(super) file: PathBuf,
    pub(super) migration_backups: u32,
    pub(super) reported_stock: ReportedStock,
}

impl SqliteStore {
    /// Opens the file of a URL such as `sqlite://bespeak.db`. Does not migrate it.
    ///
    /// # Errors
    /// The URL names no file, or the file cannot be opened.
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
        if options.create && !options.read_only {
            // If this fails for another reason than that the file exists, opening it says why.
            match backup::create_private(&file) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    tracing::debug!(%error, "the database file cannot be created");
                }
                _ => {}
            }
        }
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
        // The writer is opened first, because it creates the file and switches it to WAL.
        let writer = open_writer(&writer).await.map_err(failed)?;
        let readers = Readers::new(options.readers, |name, connections| {
            let pool = pool_options(connections).connect_lazy_with(readers.clone());
            Pool::new(name, pool, failed)
        });
        let checkpoints =
            if options.read_only { None } else { Some(Checkpoints::new(&file, connect_behind)) };
        let writer = Pool::new("writers", writer, failed);
        Ok(Self {
            writer,
            readers,
            checkpoints,
            clock: options.clock,
            damaged: DamagedHolds::default(),
            file,
            migration_backups: options.migration_backups,
            reported_stock: options.reported_stock,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        clock::now(&self.clock)
    }
}

/// Opens the connection that writes. SQLite does not wait for the lock that the switch to WAL needs, so another process
/// that opens a new file at the same time is waited for here.
async fn open_writer(options: &SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let began = Instant::now();
    loop {
        match pool_options(1).connect_with(options.clone()).await {
            Err(error) if is_busy(&error) && began.elapsed() < OPEN_WAIT => {
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            opened => return opened,
        }
    }
}
