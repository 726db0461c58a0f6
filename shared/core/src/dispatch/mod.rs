//! Dispatch: how the commands of concurrent callers reach the store, either through lanes or one per transaction.
//!
//! A lane is a queue whose waiting commands share one transaction. While a transaction is in flight, new commands
//! wait and become the next batch; nothing waits for a timer, so an idle lane adds no latency. Whatever happens to a
//! batch, every caller receives its own outcome or an error: never the outcome of another caller, and never a success
//! that was not committed.
//!
//! Never: rules, SQL. The task that runs a transaction is never the caller's, so a caller that hangs up cancels
//! nothing. Next: `executor.rs` for one transaction, `lane.rs` and `unbatched.rs` for the two modes.

mod error;
mod executor;
mod labels;
mod lane;
mod lane_lookup;
mod plan;
mod routing;
mod sold_out;
mod strategy;
mod unbatched;

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{
    engine::{Command, Outcome, Traced},
    lock::Locks,
    store::{CommitMode, Store, StoreError},
    supervision::Supervisor,
    telemetry,
};
pub use error::DispatchError;
use executor::Executor;
use labels::{label, outcome_label};
use lane::Queue;
pub use plan::Plan;
use routing::{route, traced_by_this_task};
pub(crate) use sold_out::{Finding, SoldOutMemory, StockHint};
pub use strategy::Strategy;
use unbatched::Unbatched;

/// How many imports may run at the same time, including those whose body is still arriving.
const IMPORTS_MAX: usize = 8;

/// One of the places for imports. It is free again when it and all its clones are dropped.
#[derive(Clone, Debug)]
pub struct ImportPlace {
    _place: Arc<OwnedSemaphorePermit>,
}

/// Runs commands against the store on behalf of concurrent callers.
#[derive(Debug)]
pub struct Dispatch {
    mode: Mode,
    executor: Executor,
    /// Places for imports: an import has transactions of its own, beside the lanes.
    imports: Arc<Semaphore>,
}

#[derive(Debug)]
enum Mode {
    Lanes {
        lanes: Vec<Queue>,
        /// The queue of commands whose lane must be looked up; `None` if there is only one lane.
        lookup: Option<Queue>,
    },
    Unbatched(Unbatched),
}

impl Dispatch {
    /// Starts a dispatch without distributed locks. `queue` bounds how many commands may wait: per lane, or in total
    /// if each command has its own transaction.
    pub fn start(store: Arc<dyn Store>, plan: Plan, queue: usize) -> Self {
        Self::start_with(store, plan, queue, None, Supervisor::new())
    }

    /// Starts a dispatch. If each command has its own transaction, `locks` are acquired around it. Commands in
    /// batches take no locks: like everything, they rely on the store's guard.
    /// `supervisor` notices if a lane ends.
    pub fn start_with(
        store: Arc<dyn Store>,
        plan: Plan,
        queue: usize,
        locks: Option<Arc<Locks>>,
        supervisor: Supervisor,
    ) -> Self {
        debug_assert!(locks.is_none() || matches!(plan, Plan::Unbatched { .. }), "lanes take no locks");
        let executor = Executor::new(store, supervisor);
        let mode = match plan {
            Plan::Lanes { lanes, batch } => {
                let lanes: Vec<_> = (0..lanes).map(|_| lane::start(&executor, queue, batch)).collect();
                let lookup =
                    (lanes.len() > 1).then(|| lane_lookup::start(&executor, lanes.clone(), queue, batch));
                Mode::Lanes { lanes: lanes.into_iter().map(Queue::new).collect(), lookup }
            }
            Plan::Unbatched { at_once } => {
                Mode::Unbatched(Unbatched::new(executor.clone(), queue, at_once, locks))
            }
        };
        Self { mode, executor, imports: Arc::new(Semaphore::new(IMPORTS_MAX)) }
    }

    /// Runs a command and waits for its outcome.
    ///
    /// Cancel-safe: a caller that goes away cancels its own command while that waits in a lane, and nothing else.
    pub async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let name = command.name();
        let outcome = match &self.mode {
            Mode::Lanes { lookup: Some(lookup), .. } if command.gives_back() => lookup.submit(command).await,
            Mode::Lanes { lanes, .. } => lanes[route(&command, lanes.len())].submit(command).await,
            Mode::Unbatched(unbatched) => unbatched.submit(command).await,
        };
        telemetry::count_command(name, label(&outcome));
        outcome
    }

    /// Takes one of the places for imports.
    ///
    /// # Errors
    /// [`DispatchError::Full`] if all places are taken.
    pub fn import_place(&self) -> Result<ImportPlace, DispatchError> {
        let place = self.imports.clone().try_acquire_owned().map_err(|_| DispatchError::Full)?;
        Ok(ImportPlace { _place: Arc::new(place) })
    }

    /// Runs a batch of commands of an import in a transaction of its own, beside the lanes.
    ///
    /// Cancel-safe: the transaction is finished even if the caller goes away.
    pub async fn submit_batch(
        &self,
        place: &ImportPlace,
        commands: Vec<Command>,
        mode: CommitMode,
    ) -> Result<Vec<Outcome>, DispatchError> {
        let place = place.clone();
        let names: Vec<_> = commands.iter().map(Command::name).collect();
        let commands: Arc<[Traced]> = commands.into_iter().map(traced_by_this_task).collect();
        let executor = self.executor.clone();
        // The transaction keeps the place until it has ended, whether or not the caller stays.
        let transaction = self.executor.tasks.spawn(async move {
            let outcomes = executor.execute(&commands, mode).await;
            drop(place);
            outcomes
        });
        let outcomes = transaction.await.unwrap_or(Err(DispatchError::Panicked))?;
        for (name, outcome) in names.into_iter().zip(&outcomes) {
            telemetry::count_command(name, outcome_label(outcome));
        }
        Ok(outcomes)
    }

    /// How many commands wait for a transaction, in all lanes together.
    pub(crate) fn waiting(&self) -> usize {
        match &self.mode {
            Mode::Lanes { lanes, lookup } => lookup.iter().chain(lanes).map(Queue::waiting).sum(),
            Mode::Unbatched(unbatched) => unbatched.waiting(),
        }
    }

    /// Notified after each commit that wrote events, so that the relay need not poll for them.
    pub(crate) fn written(&self) -> Arc<Notify> {
        self.executor.written.clone()
    }

    /// The sold-out memory, which the sold-out channel shares with other processes.
    pub(crate) fn sold_out(&self) -> Arc<SoldOutMemory> {
        self.executor.sold_out.clone()
    }

    /// Reads from the store, and logs a failure.
    pub(crate) async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.executor.read(read).await
    }

    /// Runs a step of maintenance, such as purging. Its failures are logged apart from those of requests, because no
    /// request waits for it.
    pub(crate) async fn run_maintenance<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, DispatchError> {
        let ended = work.await;
        self.executor.purge_failures.observe(&ended);
        Ok(ended?)
    }

    /// Acquires and releases the store's write path once. Cancel-safe: a connection that it opens is closed.
    pub(crate) async fn ping(&self) -> Result<(), DispatchError> {
        let store = self.executor.store.clone();
        let Ok(ping) = self.executor.tasks.spawn(async move { store.ping().await }).await else {
            return Err(DispatchError::Panicked);
        };
        self.executor.failures.observe(&ping);
        Ok(ping?)
    }

    /// Shuts down: commands in the queue finish, and later commands are refused.
    pub async fn stop(&self) {
        match &self.mode {
            // The lookup keeps the lanes open until it has passed on its waiting commands.
            Mode::Lanes { lanes, lookup } => lookup.iter().chain(lanes).for_each(Queue::close),
            Mode::Unbatched(unbatched) => unbatched.close(),
        }
        self.executor.tasks.close();
        self.executor.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
