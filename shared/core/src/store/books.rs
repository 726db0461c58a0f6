//! The port of the books: resources and reservations.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use super::{Audit, Purged, StoreError};
use crate::{
    engine::{Command, IdempotencyKey, Outcome, Reservation, Resource, ResourceId, Timestamp, Token, Traced},
    telemetry::PoolUse,
};

/// The guard that keeps two transactions from selling the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Resources are locked before they are read.
    #[default]
    RowLock,
    /// Resources are read without a lock, and the update itself states what must still be available. If it is not,
    /// the batch runs again under row locks.
    Conditional,
    /// Resources are read without a lock, and the update states the version that it was decided on.
    Optimistic,
    /// No guard: a write overwrites what was read. Oversells; only for the lock lab.
    #[cfg(feature = "lab")]
    Unguarded,
}

impl Guard {
    /// Whether two transactions under this guard can never sell the same unit (I1).
    pub fn prevents_overselling(self) -> bool {
        match self {
            Self::RowLock | Self::Conditional | Self::Optimistic => true,
            #[cfg(feature = "lab")]
            Self::Unguarded => false,
        }
    }
}

/// Whether a batch is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// The changes are written and committed.
    Commit,
    /// The outcomes are returned, and the batch is rolled back.
    DryRun,
}

/// The result of a batch that was committed (or had nothing to commit).
#[derive(Debug)]
pub struct Executed {
    /// One outcome for each command, in the same order.
    pub outcomes: Vec<Outcome>,
    /// How many holds were expired on demand, to sell their units again.
    pub expired_on_demand: u64,
    /// How many events were written to the outbox.
    pub events: u64,
    /// The number of round trips to the database, without retries; 0 if the database is in this process.
    pub round_trips: u32,
    /// An instant shortly before the books were read: no outcome is based on anything older.
    pub read_at: Instant,
    /// The time of the store's clock when the batch was applied, under all its locks.
    pub now: Timestamp,
    /// The versions, after the batch, of the resources that some outcome found short or may have given units back to.
    pub versions: Vec<(ResourceId, u64)>,
}

impl Executed {
    /// The version of a resource that some outcome is about; 0 if it is unknown.
    pub(crate) fn version_of(&self, id: &ResourceId) -> u64 {
        self.versions.iter().find(|(of, _)| of == id).map_or(0, |(_, version)| *version)
    }
}

/// Overdue holds, and when to look again.
#[derive(Debug)]
pub struct Due {
    /// The time of the store's clock.
    pub now: Timestamp,
    /// Overdue holds, oldest first.
    pub tokens: Vec<Token>,
    /// When the first hold that is not overdue yet will be.
    pub next: Option<Timestamp>,
}

/// A page of resources in id order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The page starts after this id.
    pub after: Option<ResourceId>,
    /// The largest number of resources on the page.
    pub limit: u32,
}

/// The books, durably stored. One conformance suite (feature `conformance`) states what every back end must do.
///
/// A method is cancel-safe only if its documentation says so: a caller that may go away must spawn the call
/// ([`crate::dispatch`] does).
///
/// # Examples
/// ```
/// # #[cfg(feature = "sqlite")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use bespeak::{
///     engine::{Command, Define, ResourceId},
///     store::{CommitMode, Store, sqlite::{SqliteOptions, SqliteStore}},
/// };
///
/// let folder = std::env::temp_dir().join(format!("bespeak-example-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let url = format!("sqlite://{}", folder.join("books.db").display());
/// let store = SqliteStore::open(&url, SqliteOptions::default()).await?;
/// store.migrate().await?;
///
/// let room = ResourceId::new("resourceId", "room-101")?;
/// let define = Command::Define(Define { resource_id: room.clone(), total: 3, fulfilment: None });
/// let executed = store.execute(&[define], CommitMode::Commit).await?;
/// assert!(executed.outcomes[0].is_ok());
/// assert_eq!(store.resource(&room).await?.map(|resource| resource.available), Some(3));
///
/// store.close().await;
/// std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// # #[cfg(feature = "sqlite")]
/// # tokio::runtime::Runtime::new().expect("a runtime").block_on(example()).expect("the example works");
/// ```
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Migrates the schema to this version. Safe at any time, and from several processes at once.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Runs commands in order, in one transaction: either all of their changes are committed, or none. Their events
    /// carry the traces of the requests that issued the commands.
    async fn execute_traced(&self, commands: &[Traced], mode: CommitMode) -> Result<Executed, StoreError>;

    /// Runs commands without a trace, as [`Self::execute_traced`] does.
    async fn execute(&self, commands: &[Command], mode: CommitMode) -> Result<Executed, StoreError> {
        let traced: Vec<Traced> = commands.iter().cloned().map(Traced::from).collect();
        self.execute_traced(&traced, mode).await
    }

    /// Reads a resource; its `available` counts overdue holds as given back (I6). Cancel-safe.
    async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError>;

    /// Reads a page of resources, each as [`Self::resource`] returns it. Cancel-safe.
    async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError>;

    /// Reads a reservation; an overdue hold is shown as EXPIRED (I6). Cancel-safe.
    async fn reservation(&self, token: Token) -> Result<Option<Reservation>, StoreError>;

    /// Reads the reservations with these idempotency keys, as stored, and the clock at that time. Takes no locks.
    /// Cancel-safe.
    async fn by_keys(&self, keys: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError>;

    /// Returns the smallest resource id of each of these reservations that exists. It never changes. Cancel-safe.
    async fn first_resources(&self, tokens: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError>;

    /// Reads overdue holds, oldest first, at most `limit` of them. Cancel-safe.
    async fn due(&self, limit: u32) -> Result<Due, StoreError>;

    /// Deletes events that were published longer than `kept_for` ago, at most `limit` of them.
    async fn purge_events(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError>;

    /// Deletes reservations that ended longer than `kept_for` ago and have no unpublished event. Considers the next
    /// `limit` reservations after `after`, in token order.
    async fn purge_reservations(
        &self,
        kept_for: Duration,
        after: Option<Token>,
        limit: u32,
    ) -> Result<Purged, StoreError>;

    /// Audits the books against I1 to I3 and I7, in one consistent view. Cancel-safe.
    async fn audit(&self) -> Result<Audit, StoreError>;

    /// The present use of its connection pools; empty if it has none. Sends nothing to the database.
    fn pools(&self) -> Vec<PoolUse> {
        Vec::new()
    }

    /// Checks whether the database can be written to now: acquires and releases the write path once. Cancel-safe.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Closes all connections. Later calls fail; calls in flight finish first.
    async fn close(&self);
}
