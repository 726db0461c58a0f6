//! The store keeps the books. This module has the ports, what all back ends share, and the back ends as sibling
//! modules.
//!
//! Never: rules (they are the engine's), HTTP, or retries of what a caller may retry. SQL only in the folders of the
//! dialects. Each method of a port is one whole transaction; no transaction crosses the port. Next: `books.rs` for
//! the main port, `batch.rs` for how every back end runs a batch.

mod audit;
mod batch;
mod books;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod damaged;
mod database_url;
mod dead_letters;
mod decode;
mod error;
mod failure_log;
mod inbox;
mod leases;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod migrations;
#[cfg(feature = "mysql")]
pub mod mysql;
mod operations;
mod outbox;
mod pool;
mod purge;
mod shards;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod version;
pub mod webhooks;

pub use crate::telemetry::PoolUse;
pub use audit::{Audit, AuditFinding};
pub use books::{CommitMode, Due, Executed, Guard, Page, Store};
pub use clock::{Clock, FixedClock};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use dead_letters::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter};
pub use error::{Contention, StoreError};
pub use failure_log::FailureLog;
pub use inbox::{Applied, InboxStore, KeyMismatch, RefusedEvent};
pub use leases::{LeaseStore, PurgedLeases};
pub use operations::{OperationsStore, Verification};
pub use outbox::{
    Backlog, Blocked, OutboxAdmin, OutboxFilter, OutboxRead, OutboxRow, OutboxState, OutboxStore,
    Republished, Sent, Unpublished,
};
pub use purge::Purged;
pub use shards::Leases;
pub use version::Version;
pub use webhooks::WebhookStore;

/// Everything that one database stores: the books, the events and what is done with them, leases, and what operators
/// need.
pub trait Database:
    Store + OutboxStore + OutboxAdmin + InboxStore + DeadLetterStore + WebhookStore + LeaseStore + OperationsStore
{
}

impl<T> Database for T where
    T: Store
        + OutboxStore
        + OutboxAdmin
        + InboxStore
        + DeadLetterStore
        + WebhookStore
        + LeaseStore
        + OperationsStore
{
}
