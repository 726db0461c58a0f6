//! A lock as a lease in the database of the reservations, like ShedLock's JDBC provider: a row with the holder of a
//! name and the end of its lease.
//!
//! *Guaranteed*: one holder at a time; fencing numbers that grow strictly, even if the row was deleted by hand;
//! grants that survive a crash of the database like every commit. The clock of the database is the only one, so wrong
//! clocks of clients do no harm. *Not guaranteed*: that the holder still holds the lock when it acts. ShedLock's
//! README says of lock-at-most-for that it must be "significantly larger" than the duration of the task, since after
//! it "the resulting behavior may be unpredictable (more than one process will effectively hold the lock)"
//! (<https://github.com/lukas-krecan/ShedLock>). Nor does a lease survive lost commits: a replica that is promoted
//! without the last ones grants the lock again.
//!
//! Never: SQL. Next: `store/leases.rs` for the rows, and the relay, which divides its shards by rows of the same table.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{DistributedLock, Grant, LockError, LockKind, LockName, valid_until};
use crate::store::LeaseStore;

/// A lock by leases in a database.
#[derive(Clone)]
pub struct DatabaseLock {
    store: Arc<dyn LeaseStore>,
}

impl DatabaseLock {
    /// A lock that all users of this database share.
    pub fn new(store: Arc<dyn LeaseStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl DistributedLock for DatabaseLock {
    fn kind(&self) -> LockKind {
        LockKind::Database
    }

    async fn try_acquire(&self, name: &LockName, lease: Duration) -> Result<Option<Grant>, LockError> {
        let (requested, holder) = (Instant::now(), Uuid::new_v4());
        let taken =
            self.in_own_task(
                name,
                move |store, name| async move { store.take_lease(&name, holder, lease).await },
            );
        Ok(taken.await?.map(|fencing| Grant {
            name: name.clone(),
            holder,
            fencing,
            granted: Instant::now(),
            valid_until: valid_until(requested, lease),
        }))
    }

    async fn extend(&self, grant: &mut Grant, lease: Duration) -> Result<bool, LockError> {
        let requested = Instant::now();
        let (holder, fencing) = (grant.holder, grant.fencing);
        let extended = self.in_own_task(&grant.name, move |store, name| async move {
            store.end_lease_in(&name, holder, fencing, lease).await
        });
        let held = extended.await?;
        grant.valid_until = if held { valid_until(requested, lease) } else { requested };
        Ok(held)
    }

    async fn release(&self, grant: Grant, at_least: Duration) -> Result<bool, LockError> {
        let (holder, fencing, owed) = (grant.holder, grant.fencing, grant.owed(at_least));
        self.in_own_task(&grant.name, move |store, name| async move {
            store.end_lease_in(&name, holder, fencing, owed).await
        })
        .await
    }
}

impl DatabaseLock {
    /// Runs a transaction in a task of its own, because a transaction that the caller cancelled half-way would occupy
    /// its connection until the database noticed.
    async fn in_own_task<T, Transaction>(
        &self,
        name: &LockName,
        transaction: impl FnOnce(Arc<dyn LeaseStore>, String) -> Transaction,
    ) -> Result<T, LockError>
    where
        T: Send + 'static,
        Transaction: Future<Output = Result<T, crate::store::StoreError>> + Send + 'static,
    {
        let finished = tokio::spawn(transaction(self.store.clone(), name.as_str().to_owned())).await;
        finished
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
            .map_err(LockError::from)
    }
}
