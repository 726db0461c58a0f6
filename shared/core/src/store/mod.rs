//! Keeps the books: one transaction a batch. The port, and the back ends as sibling modules.
//!
//! Never: rules (they are the engine's), HTTP, retries of what a caller may retry. A method of the port is one whole
//! transaction; no transaction crosses it. Next: `batch.rs` for the one way in which every back end runs a batch.

mod audit;
mod batch;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod database_url;
mod dead_letters;
mod decode;
mod failure_log;
mod inbox;
mod leases;
#[cfg(feature = "mysql")]
pub mod mysql;
mod outbox;
mod pool;
mod purge;
mod rows;
mod shards;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod webhooks;

use std::{
    collections::HashMap,
    error::Error,
    time::{Duration, Instant},
};

use async_trait::async_trait;

pub use crate::telemetry::PoolUse;
pub use audit::{Audit, Finding};
pub use clock::{Clock, FixedClock};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use dead_letters::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter};
pub use failure_log::FailureLog;
pub use inbox::{Applied, InboxStore, KeyMismatch};
pub use leases::{LeaseStore, PurgedLeases};
pub use outbox::{
    Backlog, Blocked, OutboxAdmin, OutboxFilter, OutboxRow, OutboxState, OutboxStore, Replayed, Sent,
    Unpublished,
};
pub use purge::Purged;
pub use shards::Leases;
pub use webhooks::WebhookStore;

use crate::engine::{
    Command, IdempotencyKey, Outcome, Reservation, Resource, ResourceId, Timestamp, Token, Traced,
};

/// What goes wrong in a store: what an operator must know, never what a customer is told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now: away, locked by somebody else, out of space, read-only. Nothing was changed,
    /// or it is not known whether COMMIT arrived; a retry under the same key finds out.
    #[error("the database is unavailable: {reason}")]
    Unavailable {
        /// What an operator can act on.
        reason: &'static str,
        /// What the driver said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The batch lost to another process again and again. Nothing was changed.
    #[error("lost to other writers {attempts} times in a row, at last by {}", .by.as_str())]
    Contended {
        /// How it lost at last.
        by: Contention,
        /// How often it was tried.
        attempts: u32,
        /// What the driver said last.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection broke again and again. Nothing was changed, or it is not known whether COMMIT arrived; a retry under
    /// the same key finds out.
    #[error("the connection to the database broke {attempts} times in a row")]
    Lost {
        /// How often it was tried.
        attempts: u32,
        /// What the driver said last.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The books hold something that the engine could not have written.
    #[error("the books are corrupt: {what}")]
    Corrupt {
        /// Which record, and what is wrong with it.
        what: String,
    },
    /// The database refuses a value: too long, out of range, against a CHECK. Nothing was changed.
    #[error("the database refuses a value")]
    Value {
        /// What the driver said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A statement failed for a reason that is none of the above: a defect, or a schema that is not this version's.
    #[error("a statement failed")]
    Statement {
        /// What the driver said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The schema could not be brought to this version.
    #[error("the migration failed")]
    Migration {
        /// What the driver said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// How a batch lost to another writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contention {
    /// The database chose it as the victim of a deadlock.
    Deadlock,
    /// It waited too long for a lock.
    LockTimeout,
    /// What it read was changed by a transaction that its snapshot does not see.
    Snapshot,
    /// Another writer inserted the same key first.
    DuplicateKey,
    /// A record was not as it had been read.
    Changed,
}

impl Contention {
    /// The metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::LockTimeout => "lock_timeout",
            Self::Snapshot => "snapshot",
            Self::DuplicateKey => "duplicate_key",
            Self::Changed => "changed",
        }
    }
}

/// What keeps two transactions from selling the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Resources are locked before they are read.
    #[default]
    RowLock,
    /// Resources are read without a lock; the update says what must still be available. Where it is not, the batch runs
    /// again under row locks.
    Conditional,
    /// Resources are read without a lock; the update says which version it was decided on.
    Optimistic,
    /// None: what was read is overwritten. Oversells; for the lock lab.
    Unguarded,
}

impl StoreError {
    fn contended(by: Contention, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Contended { by, attempts: 1, source: source.into() }
    }

    /// A change did not find what it was decided on.
    fn changed_meanwhile(found: u64, expected: u64) -> Self {
        Self::contended(Contention::Changed, format!("{found} of {expected} rows were as they had been read"))
    }

    /// The same, after so many attempts.
    fn after(self, attempts: u32) -> Self {
        match self {
            Self::Contended { by, source, .. } => Self::Contended { by, attempts, source },
            Self::Lost { source, .. } => Self::Lost { attempts, source },
            other => other,
        }
    }

    /// Whether the failure would meet any other batch too, so that it is pointless to try the commands one by one.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Lost { .. })
    }

    /// The metrics' label for why a batch is retried.
    fn retry_cause(&self) -> &'static str {
        match self {
            Self::Contended { by, .. } => by.as_str(),
            Self::Lost { .. } => "connection",
            _ => "other",
        }
    }

    /// Whether a client may come again with the same request.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Lost { .. } | Self::Contended { .. })
    }
}

/// Whether a batch is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// Write and commit.
    Commit,
    /// Say what would happen, then roll back.
    DryRun,
}

/// What became of a batch that committed (or had nothing to commit).
#[derive(Debug)]
pub struct Executed {
    /// One outcome per command, in their order.
    pub outcomes: Vec<Outcome>,
    /// How many holds were expired on demand, to sell their units on.
    pub expired_on_demand: u64,
    /// How many events were written to the outbox.
    pub events: u64,
    /// How often the database was asked, retries not counted; 0 where it is in this process.
    pub round_trips: u32,
    /// Shortly before the books were read: no outcome is based on anything older.
    pub read_at: Instant,
    /// The store's clock, when the batch was applied, under all its locks.
    pub now: Timestamp,
    /// The versions of those resources that some outcome found short or may have given units of, when it was over.
    pub versions: Vec<(ResourceId, u64)>,
}

impl Executed {
    /// The version of a resource that some outcome is about; 0 where it is not known.
    pub(crate) fn version_of(&self, id: &ResourceId) -> u64 {
        self.versions.iter().find(|(of, _)| of == id).map_or(0, |(_, version)| *version)
    }
}

/// Holds whose time is up, and when to look again.
#[derive(Debug)]
pub struct Due {
    /// The store's clock.
    pub now: Timestamp,
    /// Overdue holds, oldest first.
    pub tokens: Vec<Token>,
    /// When the first hold that is not overdue yet will be.
    pub next: Option<Timestamp>,
}

/// A page of resources in id order.
#[derive(Clone, Debug)]
pub struct Page {
    /// Start after this id.
    pub after: Option<ResourceId>,
    /// At most so many.
    pub limit: u32,
}

/// The books, durably kept. One conformance suite (feature `conformance`) says what every back end must do.
///
/// No method is cancel-safe unless it says so: a caller that may go away must spawn it ([`crate::dispatch`] does).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Brings the schema to this version. Safe to run at any time and from several processes.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Runs commands, in order, in one transaction; all of what they change lasts, or none of it. Their events bear the
    /// traces of the requests that gave them.
    async fn execute_traced(&self, commands: &[Traced], mode: CommitMode) -> Result<Executed, StoreError>;

    /// Runs commands that no request gave, as [`Self::execute_traced`] does.
    async fn execute(&self, commands: &[Command], mode: CommitMode) -> Result<Executed, StoreError> {
        let traced: Vec<Traced> = commands.iter().cloned().map(Traced::from).collect();
        self.execute_traced(&traced, mode).await
    }

    /// A resource; `available` counts overdue holds as given back (I6). Cancel-safe.
    async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError>;

    /// A page of resources, each as [`Self::resource`] gives it. Cancel-safe.
    async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError>;

    /// A reservation; an overdue hold is shown as EXPIRED (I6). Cancel-safe.
    async fn reservation(&self, token: Token) -> Result<Option<Reservation>, StoreError>;

    /// The reservations that bear keys, as stored, and the clock when they were read. Without locks. Cancel-safe.
    async fn by_keys(&self, keys: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError>;

    /// The smallest resource of each of these reservations, where there is such a one. It never changes. Cancel-safe.
    async fn first_resources(&self, tokens: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError>;

    /// Overdue holds, oldest first, at most `limit` of them. Cancel-safe.
    async fn due(&self, limit: u32) -> Result<Due, StoreError>;

    /// Forgets events that were published longer than `kept_for` ago: at most `limit` of them.
    async fn purge_events(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError>;

    /// Forgets reservations that ended longer than `kept_for` ago and have no event left to publish, among the next `limit`
    /// of all after `after`, in token order.
    async fn purge_reservations(
        &self,
        kept_for: Duration,
        after: Option<Token>,
        limit: u32,
    ) -> Result<Purged, StoreError>;

    /// Audits the books against I1 to I3 and I7, in one consistent view. Cancel-safe.
    async fn audit(&self) -> Result<Audit, StoreError>;

    /// What its pools of connections do now; none where there are none. It asks nobody.
    fn pools(&self) -> Vec<PoolUse> {
        Vec::new()
    }

    /// Whether the database can be written to now: takes and returns the write path once. Cancel-safe.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Closes connections; later calls fail. Waits for those under way.
    async fn close(&self);
}

/// All that one database keeps: the books, what is done with their events, and leases.
pub trait Database:
    Store + OutboxStore + OutboxAdmin + InboxStore + DeadLetterStore + WebhookStore + LeaseStore
{
}

impl<T: Store + OutboxStore + OutboxAdmin + InboxStore + DeadLetterStore + WebhookStore + LeaseStore> Database
    for T
{
}
