//! A lock as a lease in the books' own database, as ShedLock's JDBC provider has it: a row that says who holds a name until when.
//!
//! *Guaranteed*, with the database as the only clock (so it does not matter how wrong those of its clients are): one holder at a
//! time, fencing numbers that grow strictly, also when the row was deleted by hand; what is granted survives a crash of the
//! database as what it commits does. *Not guaranteed*: that the holder still holds it when it acts. ShedLock's README says of
//! lock-at-most-for that it must be "significantly larger" than what the task takes, since after it "the resulting behavior may be
//! unpredictable (more than one process will effectively hold the lock)" (<https://github.com/lukas-krecan/ShedLock>). Nor
//! survives a lease what a database forgets: a replica that is promoted without its last commits grants anew.
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

/// Leases in a database.
#[derive(Clone)]
pub struct DatabaseLock {
    store: Arc<dyn LeaseStore>,
}

impl DatabaseLock {
    /// Locks that all who use this database share.
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
        let (asked, holder) = (Instant::now(), Uuid::new_v4());
        let taken = self
            .settled(name, move |store, name| async move { store.take_lease(&name, holder, lease).await });
        Ok(taken.await?.map(|fencing| Grant {
            name: name.clone(),
            holder,
            fencing,
            granted: Instant::now(),
            valid_until: valid_until(asked, lease),
        }))
    }

    async fn extend(&self, grant: &mut Grant, lease: Duration) -> Result<bool, LockError> {
        let asked = Instant::now();
        let (holder, fencing) = (grant.holder, grant.fencing);
        let extended = self.settled(&grant.name, move |store, name| async move {
            store.end_lease_in(&name, holder, fencing, lease).await
        });
        let held = extended.await?;
        grant.valid_until = if held { valid_until(asked, lease) } else { asked };
        Ok(held)
    }

    async fn release(&self, grant: Grant, at_least: Duration) -> Result<bool, LockError> {
        let (holder, fencing, owed) = (grant.holder, grant.fencing, grant.owed(at_least));
        self.settled(&grant.name, move |store, name| async move {
            store.end_lease_in(&name, holder, fencing, owed).await
        })
        .await
    }
}

impl DatabaseLock {
    /// Runs a transaction in a task of its own: one that a caller cancelled half-way would keep its connection.
    async fn settled<T, Transaction>(
        &self,
        name: &LockName,
        transaction: impl FnOnce(Arc<dyn LeaseStore>, String) -> Transaction,
    ) -> Result<T, LockError>
    where
        T: Send + 'static,
        Transaction: Future<Output = Result<T, crate::store::StoreError>> + Send + 'static,
    {
        let settled = tokio::spawn(transaction(self.store.clone(), name.as_str().to_owned())).await;
        settled
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
            .map_err(LockError::from)
    }
}
