//! The embedded back end: one file, WAL, synchronous FULL, one writer, and a separate pool of readers.
//!
//! Every transaction that may write is a `BEGIN IMMEDIATE`: it waits for other writers at its start and never in the
//! middle, so a batch cannot lose to another process half-way. Next: `session.rs` for the write path, `read.rs` for
//! views, `store.rs` for how the file is opened.

mod applied;
mod audit;
mod backup;
mod books;
mod checkpoint;
mod clock;
mod connect;
mod dead_letters;
mod error;
mod inbox;
mod insert;
mod json;
mod leases;
mod number;
mod operations;
mod outbox;
mod purge;
mod read;
mod row;
mod schema;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod webhooks;

use super::{Audit, Clock, Contention, Due, Page, StoreError};

pub use backup::{Backup, back_up};
pub use store::{SqliteOptions, SqliteStore};
