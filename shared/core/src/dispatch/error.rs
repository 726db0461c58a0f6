//! Why a command has no outcome.

use std::sync::Arc;

use crate::{lock::LockError, store::StoreError};

/// Why a command has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DispatchError {
    /// Too many commands wait already. Nothing was done.
    #[error("too many commands are waiting")]
    Full,
    /// The process is shutting down. Nothing was done.
    #[error("the process is stopping")]
    Stopping,
    /// The store failed. Nothing was done, unless the connection broke at COMMIT: a retry finds out.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A distributed lock could not be acquired. Nothing was done.
    #[error(transparent)]
    Lock(Arc<LockError>),
    /// The task of the transaction panicked, which is a defect. Nothing was done.
    #[error("the transaction panicked")]
    Panicked,
}

impl From<StoreError> for DispatchError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<LockError> for DispatchError {
    fn from(error: LockError) -> Self {
        Self::Lock(Arc::new(error))
    }
}

impl DispatchError {
    /// Whether every command of the batch would fail in the same way if it were run again now: there is an outage, or
    /// another writer holds a lock for longer than a caller should wait.
    pub(crate) fn affects_whole_batch(&self) -> bool {
        self.is_outage() || matches!(self, Self::Store(error) if error.affects_all())
    }

    /// Whether every other command would meet the same failure.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
            // A lock that is held for too long concerns one resource; the locks of other resources may be free.
            Self::Lock(error) => matches!(**error, LockError::Store(_) | LockError::NoQuorum { .. }),
            Self::Full | Self::Stopping => true,
            Self::Panicked => false,
        }
    }
}
