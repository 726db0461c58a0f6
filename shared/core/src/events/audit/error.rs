//! The reason why an audit of the event pipeline fails.

use crate::{events::dead_letter::DeadLetterError, store::StoreError};

/// The reason why the event pipeline cannot be audited.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log cannot be read.
    #[error("the event log cannot be read: {0}")]
    Log(String),
    /// The dead letters cannot be read.
    #[error("the dead letters cannot be read: {0}")]
    DeadLetters(#[from] DeadLetterError),
}
