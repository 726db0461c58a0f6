//! What goes wrong in a store, by what an operator can do about it.

use std::{error::Error, io, path::PathBuf};

use super::Version;

/// What goes wrong in a store. An operator must know of it; customers do not see it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now: unreachable, locked by another process, out of space, or read-only. Nothing
    /// was changed, or it is unknown whether COMMIT arrived; a retry with the same idempotency key finds out.
    #[error("the database is unavailable: {reason}")]
    Unavailable {
        /// The reason, in words that an operator can act on.
        reason: &'static str,
        /// The error of the driver.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The batch lost to another process until its retries were exhausted. Nothing was changed.
    #[error("lost to other writers {attempts} times in a row, the last time by {}", .by.as_str())]
    Contended {
        /// How it lost the last time.
        by: Contention,
        /// The number of attempts.
        attempts: u32,
        /// The last error of the driver.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection broke in every attempt. Nothing was changed, or it is unknown whether COMMIT arrived; a retry
    /// with the same idempotency key finds out.
    #[error("the connection to the database broke {attempts} times in a row")]
    Lost {
        /// The number of attempts.
        attempts: u32,
        /// The last error of the driver.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The books contain something that the engine could not have written.
    #[error("the books are corrupt: {what}")]
    Corrupt {
        /// The record, and what is wrong with it.
        what: String,
    },
    /// The database rejects a value: too long, out of range, or against a CHECK. Nothing was changed.
    #[error("the database rejects a value")]
    Value {
        /// The error of the driver.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A statement failed for any other reason: a defect, or a schema of another version.
    #[error("a statement failed")]
    Statement {
        /// The error of the driver.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A copy of the database cannot be written.
    #[error("the copy {} cannot be written", file.display())]
    Copy {
        /// The file of the copy.
        file: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// The schema needs a newer version of the program.
    #[error("its schema needs bespeak {floor} or later, and this is bespeak {version}: use that version")]
    SchemaTooNew {
        /// The oldest version that may run on the schema.
        floor: String,
        /// The version of this program.
        version: Version,
    },
    /// The schema could not be migrated to this version.
    #[error("the migration failed")]
    Migration {
        /// The error of the driver.
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
    /// A record that it read was changed by a transaction that its snapshot does not see.
    Snapshot,
    /// Another writer inserted the same key first.
    DuplicateKey,
    /// A record no longer had the version that had been read.
    Changed,
}

impl Contention {
    /// The label of metrics.
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

    /// The error of a change that did not find the version that it was decided on.
    pub(super) fn changed_meanwhile(found: u64, expected: u64) -> Self {
        Self::contended(Contention::Changed, format!("{found} of {expected} rows were as they had been read"))
    }

    /// The same error after a number of attempts.
    pub(super) fn after(self, attempts: u32) -> Self {
        match self {
            Self::Contended { by, source, .. } => Self::Contended { by, attempts, source },
            Self::Lost { source, .. } => Self::Lost { attempts, source },
            other => other,
        }
    }

    /// Whether any other batch would fail in the same way, so that running its commands one by one is pointless.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Lost { .. })
    }

    /// The label of metrics for the cause of a retry.
    pub(super) fn retry_cause(&self) -> &'static str {
        match self {
            Self::Contended { by, .. } => by.as_str(),
            Self::Lost { .. } => "connection",
            _ => "other",
        }
    }

    /// Whether the records or the values of one command are at fault, so that others succeed without it.
    pub(super) fn concerns_records(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Value { .. })
    }

    /// Whether a record no longer had the version that had been read.
    pub(super) fn is_changed(&self) -> bool {
        matches!(self, Self::Contended { by: Contention::Changed, .. })
    }

    /// Whether every command would fail in the same way: there is an outage, or another writer holds a lock for longer
    /// than a caller should wait. Another conflict that outlasts all retries is that of one record.
    pub fn affects_all(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Lost { .. } => true,
            Self::Contended { by, .. } => !matches!(by, Contention::Changed | Contention::DuplicateKey),
            Self::Corrupt { .. }
            | Self::Value { .. }
            | Self::Statement { .. }
            | Self::Copy { .. }
            | Self::SchemaTooNew { .. }
            | Self::Migration { .. } => false,
        }
    }

    /// Whether a client may retry the same request.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Lost { .. } | Self::Contended { .. })
    }
}
