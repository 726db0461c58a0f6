//! One command per transaction, as many at once as the store has connections.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{DispatchError, execute};
use crate::{
    engine::{Command, Outcome},
    store::Store,
};

#[derive(Debug)]
pub(super) struct Singles {
    store: StoreHandle,
    waiting: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A store is not `Debug`; its handle stands in.
struct StoreHandle(Arc<dyn Store>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Singles {
    pub(super) fn new(store: Arc<dyn Store>, queue: usize, tasks: TaskTracker) -> Self {
        Self { store: StoreHandle(store), waiting: Arc::new(Semaphore::new(queue)), tasks }
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let place = match self.waiting.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(DispatchError::Full),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(DispatchError::Stopping),
        };
        let (store, tasks) = (self.store.0.clone(), self.tasks.clone());
        let alone: Arc<[Command]> = [command].into();
        // A task of its own keeps the place until the transaction ended, whether or not the caller stays.
        let task = self.tasks.spawn(async move {
            let outcome = execute(&store, &tasks, &alone).await;
            drop(place);
            outcome
        });
        let mut outcomes = task.await.unwrap_or(Err(DispatchError::Panicked))?;
        outcomes.pop().ok_or(DispatchError::Panicked)
    }

    pub(super) fn close(&self) {
        self.waiting.close();
    }
}
