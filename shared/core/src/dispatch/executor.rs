//! Runs one transaction of the store in a task of its own, for both modes of dispatch.
//!
//! The task is never the caller's: a caller that goes away cancels nothing, and a panic affects only the commands of
//! its transaction. A failure is logged here, once. After a commit, this module counts expiries, updates the sold-out
//! memory and wakes the relay. Never: retries, which are the store's, or the grouping of commands, which `lane.rs`
//! and `unbatched.rs` do.

use std::{sync::Arc, time::Instant};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{error::DispatchError, sold_out::SoldOutMemory};
use crate::{
    engine::{Outcome, Traced},
    store::{CommitMode, Executed, FailureLog, Store, StoreError},
    supervision::Supervisor,
    telemetry::{self, ExpiryPath, spans},
};

/// Access to the store for all lanes; cheap to clone.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) store: Arc<dyn Store>,
    pub(super) tasks: TaskTracker,
    /// Notices if a lane ends.
    pub(super) supervisor: Supervisor,
    pub(super) sold_out: Arc<SoldOutMemory>,
    /// Notified after each commit that wrote events.
    pub(super) written: Arc<Notify>,
    pub(super) failures: Arc<FailureLog>,
    /// Reads may succeed while writes fail, so their outages are logged separately.
    read_failures: Arc<FailureLog>,
    pub(super) purge_failures: Arc<FailureLog>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl Executor {
    pub(super) fn new(store: Arc<dyn Store>, supervisor: Supervisor) -> Self {
        Self {
            store,
            tasks: TaskTracker::new(),
            supervisor,
            sold_out: Arc::default(),
            written: Arc::default(),
            failures: Arc::default(),
            read_failures: Arc::default(),
            purge_failures: Arc::new(FailureLog::of("old records are kept")),
        }
    }

    /// Runs a query in a task of its own, so that a panic affects only the commands that wait for the query.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        query: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, DispatchError> {
        let Ok(result) = self.tasks.spawn(query).await else {
            tracing::error!("a query panicked");
            return Err(DispatchError::Panicked);
        };
        Ok(self.read(async { result }).await?)
    }

    /// Reads from the store in the caller's task, and logs a failure.
    pub(super) async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let read = read.await;
        self.read_failures.observe(&read);
        read
    }

    /// Runs one transaction in a task of its own. Returns one outcome for each command, in the same order.
    pub(super) async fn execute(
        &self,
        commands: &Arc<[Traced]>,
        mode: CommitMode,
    ) -> Result<Vec<Outcome>, DispatchError> {
        let (started, began) = (Instant::now(), spans::now());
        let (store, batch) = (self.store.clone(), commands.clone());
        let executed = self.tasks.spawn(async move { store.execute_traced(&batch, mode).await }).await;
        telemetry::observe_batch(commands.len(), started.elapsed());
        spans::transaction(commands, began, executed.as_ref().is_ok_and(Result::is_ok));
        let Ok(executed) = executed else {
            tracing::error!(commands = commands.len(), "a transaction panicked");
            return Err(DispatchError::Panicked);
        };
        self.failures.observe(&executed);
        let executed = executed?;
        if mode == CommitMode::Commit {
            self.announce(&executed);
        }
        let Executed { outcomes, .. } = executed;
        if outcomes.len() == commands.len() {
            return Ok(outcomes);
        }
        // A caller must never receive the outcome of another caller, so none of these outcomes can be used.
        let corrupt: Result<Vec<Outcome>, _> = Err(StoreError::Corrupt {
            what: format!("{} outcomes of {} commands", outcomes.len(), commands.len()),
        });
        self.failures.observe(&corrupt);
        Ok(corrupt?)
    }

    /// Passes on the findings of a committed transaction.
    fn announce(&self, executed: &Executed) {
        telemetry::count_expired(ExpiryPath::OnDemand, executed.expired_on_demand);
        self.sold_out.observe(executed);
        if executed.events > 0 {
            self.written.notify_one();
        }
    }
}
