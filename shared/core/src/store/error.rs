//! What goes wrong in a store, by what an operator can do about it.

use std::error::Error;

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

impl StoreError {
    pub(super) fn contended(by: Contention, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Contended { by, attempts: 1, source: source.into() }
    }

    /// A change did not find what it was decided on.
    pub(super) fn changed_meanwhile(found: u64, expected: u64) -> Self {
        Self::contended(Contention::Changed, format!("{found} of {expected} rows were as they had been read"))
    }

    /// The same, after so many attempts.
    pub(super) fn after(self, attempts: u32) -> Self {
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
    pub(super) fn retry_cause(&self) -> &'static str {
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
