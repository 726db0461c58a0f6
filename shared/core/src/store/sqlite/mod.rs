//! The embedded back end: one file, WAL, synchronous FULL, one writer, a separate pool of readers.
//!
//! Every transaction that may write is `BEGIN IMMEDIATE`: it waits for other writers at the start, never in the middle,
//! so a batch cannot lose to another process half-way. Next: `session.rs` for the write path, `read.rs` for views.

mod audit;
mod checkpoint;
mod dead_letters;
mod error;
mod inbox;
mod insert;
mod json;
mod leases;
mod outbox;
mod purge;
mod read;
mod row;
mod session;
mod webhooks;

use std::{collections::HashMap, str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Sqlite,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Audit, Clock, CommitMode, Contention, Due, Executed, Page, PoolUse, Purged, Store, StoreError, batch,
    pool, purge::before,
};
use crate::engine::{IdempotencyKey, Reservation, Resource, ResourceId, Timestamp, Token, Traced};
use checkpoint::Checkpoints;
use error::failed;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long to wait for another process's transaction before that is an outage.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a command or a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
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

/// Connections to a file.
type Pool = pool::Pool<Sqlite>;

/// A database file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Pool,
    readers: Pool,
    checkpoints: Option<Checkpoints>,
    clock: Clock,
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

    fn now(&self) -> Timestamp {
        now(&self.clock)
    }
}

/// The clock of the machine, which all processes that can open the file share; unless a test stopped it.
fn now(clock: &Clock) -> Timestamp {
    match clock {
        // Stored times have microseconds; what decides must not be finer than what is stored.
        Clock::Own => {
            let now = Timestamp::now();
            Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
        }
        Clock::Fixed(clock) => clock.now(),
    }
}

fn pool_options(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

impl batch::Backend for SqliteStore {
    type Session = session::SqliteSession;

    async fn begin(&self) -> Result<Self::Session, StoreError> {
        session::SqliteSession::begin(&self.writer, self.clock.clone()).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        MIGRATOR
            .run(self.writer.connections())
            .await
            .map_err(|source| StoreError::Migration { source: source.into() })
    }

    async fn execute_traced(&self, commands: &[Traced], mode: CommitMode) -> Result<Executed, StoreError> {
        batch::execute(self, commands, mode).await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        read::resource(&self.readers, id, self.now()).await
    }

    async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError> {
        read::resources(&self.readers, page, self.now()).await
    }

    async fn reservation(&self, token: Token) -> Result<Option<Reservation>, StoreError> {
        read::reservation(&self.readers, token, self.now()).await
    }

    async fn by_keys(&self, keys: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
        read::by_keys(&self.readers, keys, self.now()).await
    }

    async fn first_resources(&self, tokens: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError> {
        read::first_resources(&self.readers, tokens).await
    }

    async fn due(&self, limit: u32) -> Result<Due, StoreError> {
        read::due(&self.readers, limit, self.now()).await
    }

    async fn purge_events(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        purge::events(&self.writer, self.clock.clone(), before(self.now(), kept_for), limit).await
    }

    async fn purge_reservations(
        &self,
        kept_for: Duration,
        after: Option<Token>,
        limit: u32,
    ) -> Result<Purged, StoreError> {
        let cutoff = before(self.now(), kept_for);
        purge::reservations((&self.writer, &self.readers), self.clock.clone(), cutoff, after, limit).await
    }

    async fn audit(&self) -> Result<Audit, StoreError> {
        audit::audit(&self.readers).await
    }

    fn pools(&self) -> Vec<PoolUse> {
        vec![self.writer.in_use(), self.readers.in_use()]
    }

    async fn ping(&self) -> Result<(), StoreError> {
        batch::Session::rollback(batch::Backend::begin(self).await?).await
    }

    async fn close(&self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.stop().await;
        }
        self.readers.close().await;
        self.writer.close().await;
    }
}
