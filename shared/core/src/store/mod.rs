//! Keeps the books: one transaction a batch. The port, and the back ends as sibling modules.
//!
//! Never: rules (they are the engine's), HTTP, retries of what a caller may retry. A method of the port is one whole
//! transaction; no transaction crosses it. Next: `batch.rs` for the one way in which every back end runs a batch.

mod audit;
mod batch;
mod books;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod database_url;
mod dead_letters;
mod decode;
mod error;
mod failure_log;
mod inbox;
mod leases;
#[cfg(feature = "mysql")]
pub mod mysql;
mod outbox;
mod pool;
mod purge;
mod shards;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod webhooks;

pub use crate::telemetry::PoolUse;
pub use audit::{Audit, AuditFinding};
pub use books::{CommitMode, Due, Executed, Guard, Page, Store};
pub use clock::{Clock, FixedClock};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use dead_letters::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter};
pub use error::{Contention, StoreError};
pub use failure_log::FailureLog;
pub use inbox::{Applied, InboxStore, KeyMismatch};
pub use leases::{LeaseStore, PurgedLeases};
pub use outbox::{
    Backlog, Blocked, OutboxAdmin, OutboxFilter, OutboxRow, OutboxState, OutboxStore, Republished, Sent,
    Unpublished,
};
pub use purge::Purged;
pub use shards::Leases;
pub use webhooks::WebhookStore;

/// All that one database keeps: the books, what is done with their events, and leases.
pub trait Database:
    Store + OutboxStore + OutboxAdmin + InboxStore + DeadLetterStore + WebhookStore + LeaseStore
{
}

impl<T: Store + OutboxStore + OutboxAdmin + InboxStore + DeadLetterStore + WebhookStore + LeaseStore> Database
    for T
{
}
