//! Whose turn it is to purge. Purging in several processes at once does the same work several times, so one process
//! does it for all: it holds a lease while it works, and marks the end of a pass with another one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::store::{Database, StoreError};

/// The lease of the process that purges.
const RUNNING: &str = "purge/running";
/// A lease that is alive as long as the last complete pass is recent.
const DONE: &str = "purge/done";
/// How long the lease of a process lasts that neither renews it nor releases it.
const LEASE: Duration = Duration::from_secs(60);
/// When the lease is renewed: early enough for a step that takes long.
const RENEW_AFTER: Duration = Duration::from_secs(15);
/// How long a pass counts as recent.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);

/// The turn of this process.
pub(super) struct Turn {
    store: Arc<dyn Database>,
    owner: Uuid,
    /// The fencing number of the lease, and when it was acquired or renewed.
    held: Option<(u64, Instant)>,
}

impl Turn {
    pub(super) fn new(store: Arc<dyn Database>) -> Self {
        Self { store, owner: Uuid::new_v4(), held: None }
    }

    /// Whether this process may take a step now. Acquires the lease, or renews it. If the last pass is recent, it
    /// begins another one only if it `insists`.
    pub(super) async fn has(&mut self, insists: bool) -> Result<bool, StoreError> {
        match self.held {
            Some((_, since)) if since.elapsed() < RENEW_AFTER => return Ok(true),
            Some((fencing, _)) => {
                self.held = None;
                if self.store.end_lease_in(RUNNING, self.owner, fencing, LEASE).await? {
                    self.held = Some((fencing, Instant::now()));
                    return Ok(true);
                }
            }
            None => {}
        }
        // A lease that ends at once changes nothing, and tells whether another one is alive.
        if !insists && self.store.take_lease(DONE, self.owner, Duration::ZERO).await?.is_none() {
            return Ok(false);
        }
        let fencing = self.store.take_lease(RUNNING, self.owner, LEASE).await?;
        self.held = fencing.map(|fencing| (fencing, Instant::now()));
        Ok(self.held.is_some())
    }

    /// Marks the pass as complete, and ends the turn.
    pub(super) async fn complete(&mut self) -> Result<(), StoreError> {
        // If it is alive, another process completed a pass meanwhile.
        self.store.take_lease(DONE, self.owner, PASS_EVERY).await?;
        self.end().await
    }

    /// Ends the turn, so that another process may go on.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        if let Some((fencing, _)) = self.held.take() {
            self.store.end_lease_in(RUNNING, self.owner, fencing, Duration::ZERO).await?;
        }
        Ok(())
    }
}
