//! One command per transaction, so many at once, the others waiting in the order in which they came.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{DispatchError, Way, given_here};
use crate::{
    engine::{Command, Outcome, Traced},
    store::Mode,
};

#[derive(Debug)]
pub(super) struct Singles {
    way: Way,
    waiting: Arc<Semaphore>,
    /// As many as the store has connections: who waits for a connection would do so against a time-out.
    running: Arc<Semaphore>,
}

impl Singles {
    pub(super) fn new(way: Way, queue: usize, at_once: usize) -> Self {
        Self { way, waiting: Arc::new(Semaphore::new(queue)), running: Arc::new(Semaphore::new(at_once)) }
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let place = match self.waiting.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(DispatchError::Full),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(DispatchError::Stopping),
        };
        let (way, running) = (self.way.clone(), self.running.clone());
        let alone: Arc<[Traced]> = [given_here(command)].into();
        // A task of its own keeps the place until the transaction ended, whether or not the caller stays.
        let task = self.way.tasks.spawn(async move {
            let turn = running.acquire_owned().await;
            let outcome = way.execute(&alone, Mode::Commit).await;
            drop((turn, place));
            outcome
        });
        let mut outcomes = task.await.unwrap_or(Err(DispatchError::Panicked))?;
        outcomes.pop().ok_or(DispatchError::Panicked)
    }

    pub(super) fn close(&self) {
        self.waiting.close();
    }
}
