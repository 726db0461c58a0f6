//! One command per transaction. A bounded number runs at the same time, and the others wait in order of arrival. If
//! the strategy uses distributed locks, they are acquired around each transaction.
//!
//! Never: correctness that depends on a lock (I11). A lock keeps transactions apart that would otherwise conflict;
//! the store's guard keeps the books consistent.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{error::DispatchError, executor::Executor, routing::traced_by_this_task};
use crate::{
    engine::{Command, Outcome, Token, Traced},
    lock::{LockName, Locks},
    store::CommitMode,
};

#[derive(Debug)]
pub(super) struct Unbatched {
    executor: Executor,
    queue: usize,
    at_once: usize,
    waiting: Arc<Semaphore>,
    /// As many as the store has write connections: waiting here has no timeout, waiting for a connection has one.
    running: Arc<Semaphore>,
    locks: Option<Arc<Locks>>,
}

impl Unbatched {
    pub(super) fn new(executor: Executor, queue: usize, at_once: usize, locks: Option<Arc<Locks>>) -> Self {
        let [waiting, running] = [queue, at_once].map(|places| Arc::new(Semaphore::new(places)));
        Self { executor, queue, at_once, waiting, running, locks }
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let place = match self.waiting.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(DispatchError::Full),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(DispatchError::Stopping),
        };
        let (executor, running, locks) = (self.executor.clone(), self.running.clone(), self.locks.clone());
        let alone: Arc<[Traced]> = [traced_by_this_task(command)].into();
        // A task of its own keeps the place until the transaction has ended, whether or not the caller stays.
        let task = self.executor.tasks.spawn(async move {
            let turn = running.acquire_owned().await;
            let outcome = match &locks {
                None => executor.execute(&alone, CommitMode::Commit).await,
                Some(locks) => locked(&executor, locks, &alone).await,
            };
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

/// Runs a command while holding the locks of the resources whose stock it changes.
async fn locked(
    executor: &Executor,
    locks: &Locks,
    alone: &Arc<[Traced]>,
) -> Result<Vec<Outcome>, DispatchError> {
    let mut names = Vec::new();
    for given in alone.iter() {
        names.extend(names_of(executor, &given.command).await?);
    }
    if names.is_empty() {
        return executor.execute(alone, CommitMode::Commit).await;
    }
    let mut held = locks.acquire(names).await?;
    let outcome = held.kept_while(executor.execute(alone, CommitMode::Commit)).await;
    held.release().await;
    outcome
}

/// The locks of the resources whose stock a command changes. Commit and extend change no stock.
async fn names_of(executor: &Executor, command: &Command) -> Result<Vec<LockName>, DispatchError> {
    match command {
        Command::Define(define) => Ok(vec![LockName::of(&define.resource_id)]),
        Command::Reserve(reserve) => {
            Ok(reserve.items.iter().map(|item| LockName::of(&item.resource_id)).collect())
        }
        Command::Release(token) | Command::Cancel(token) | Command::Expire(token) => {
            names_of_items(executor, *token).await
        }
        Command::Commit(_) | Command::Extend(_) => Ok(Vec::new()),
    }
}

/// The locks of the items of a reservation. The items never change, so they are read without a lock.
async fn names_of_items(executor: &Executor, token: Token) -> Result<Vec<LockName>, DispatchError> {
    let reservation = executor.read(executor.store.reservation(token)).await?;
    let items = reservation.iter().flat_map(|reservation| reservation.items.iter());
    Ok(items.map(|item| LockName::of(&item.resource_id)).collect())
}
