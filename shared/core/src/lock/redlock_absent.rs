//! Stands in for Redlock in builds without the feature `redis`.
//!
//! `config` refuses `BESPEAK_REDIS_URLS`, and with it the strategy `redlock`, in such a build. If a program asks for
//! the lock all the same, no node answers, so the lock is never granted.

use std::time::Duration;

use async_trait::async_trait;

use super::{DistributedLock, Grant, LockError, LockKind, LockName, RedlockOptions};

/// A lock that is never granted.
#[derive(Clone)]
pub struct Redlock {
    nodes: usize,
}

impl Redlock {
    /// Connects to nothing.
    pub fn new(options: RedlockOptions) -> Self {
        Self { nodes: options.urls.len() }
    }

    fn refused(&self) -> LockError {
        LockError::NoQuorum {
            answered: 0,
            nodes: self.nodes,
            needed: self.nodes / 2 + 1,
            reason: "this build has no Redis client: build it with the feature redis".to_owned(),
        }
    }
}

#[async_trait]
impl DistributedLock for Redlock {
    fn kind(&self) -> LockKind {
        LockKind::Redlock
    }

    async fn try_acquire(&self, _: &LockName, _: Duration) -> Result<Option<Grant>, LockError> {
        Err(self.refused())
    }

    async fn extend(&self, _: &mut Grant, _: Duration) -> Result<bool, LockError> {
        Err(self.refused())
    }

    async fn release(&self, _: Grant, _: Duration) -> Result<bool, LockError> {
        Err(self.refused())
    }
}
