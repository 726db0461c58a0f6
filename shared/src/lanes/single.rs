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
    queue: usize,
    at_once: usize,
    waiting: Arc<Semaphore>,
    /// As many as the store has connections: who waits for a connection would do so against a time-out.
    running: Arc<Semaphore>,
}

impl Singles {
    pub(super) fn new(way: Way, queue: usize, at_once: usize) -> Self {
        let (waiting, running) = (Arc::new(Semaphore::new(queue)), Arc::new(Semaphore::new(at_once)));
        Self { way, queue, at_once, waiting, running }
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

    /// How many commands wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        let taken = |places: usize, free: &Semaphore| places.saturating_sub(free.available_permits());
        taken(self.queue, &self.waiting).saturating_sub(taken(self.at_once, &self.running))
    }

    pub(super) fn close(&self) {
        self.waiting.close();
    }
}
