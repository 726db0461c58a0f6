//! One command per transaction, as many at once as the store has connections.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{DispatchError, Way};
use crate::{
    engine::{Command, Outcome},
    store::Mode,
};

#[derive(Debug)]
pub(super) struct Singles {
    way: Way,
    waiting: Arc<Semaphore>,
}

impl Singles {
    pub(super) fn new(way: Way, queue: usize) -> Self {
        Self { way, waiting: Arc::new(Semaphore::new(queue)) }
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let place = match self.waiting.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(DispatchError::Full),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(DispatchError::Stopping),
        };
        let way = self.way.clone();
        let alone: Arc<[Command]> = [command].into();
        // A task of its own keeps the place until the transaction ended, whether or not the caller stays.
        let task = self.way.tasks.spawn(async move {
            let outcome = way.execute(&alone, Mode::Commit).await;
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
