//! How commands of concurrent callers reach the store: through lanes, or one per transaction.
//!
//! A lane is a queue whose waiting commands share one transaction. While it is in flight, what arrives waits and
//! becomes the next batch; nothing waits on a timer, so an idle lane adds no latency. Whatever happens to a batch, every
//! caller gets its own outcome or an error: never another's, and never a success that was not committed.
//!
//! Never: rules, SQL. The task that runs a transaction is never the caller's, so a caller that hangs up cancels nothing.

mod executor;
mod lane;
mod lane_lookup;
mod sold_out;
mod strategy;
mod unbatched;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use tokio::sync::{Notify, Semaphore};

use crate::{
    engine::{Accepted, Change, Command, Outcome, Traced},
    lock::{LockError, Locks},
    store::{CommitMode, Store, StoreError},
    telemetry, trace,
};
use executor::Executor;
use lane::Queue;
pub(crate) use sold_out::{Finding, SoldOut, StockHint};
pub use strategy::Strategy;
use unbatched::Unbatched;

/// How many imports may be under way or wait for their next transaction.
const IMPORTS_MAX: usize = 8;

/// Why a command has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DispatchError {
    /// Too many commands wait already. Nothing was done.
    #[error("too many commands are waiting")]
    Full,
    /// The process is shutting down. Nothing was done.
    #[error("the process is stopping")]
    Stopping,
    /// The store failed. Nothing was done, unless the connection broke at COMMIT: a retry finds out.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A distributed lock could not be had. Nothing was done.
    #[error(transparent)]
    Lock(Arc<LockError>),
    /// The transaction's task panicked: a defect. Nothing was done.
    #[error("the transaction panicked")]
    Panicked,
}

impl From<StoreError> for DispatchError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<LockError> for DispatchError {
    fn from(error: LockError) -> Self {
        Self::Lock(Arc::new(error))
    }
}

impl DispatchError {
    /// Whether the commands of the same batch would meet the same failure if they were run again now: it is an outage, or
    /// somebody holds a lock for longer than anyone should wait.
    pub(crate) fn meets_others(&self) -> bool {
        self.is_outage() || matches!(self, Self::Store(error) if error.is_retryable())
    }

    /// Whether every other command would meet the same failure.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
            // Who holds one resource's lock for too long need not hold another's.
            Self::Lock(error) => matches!(**error, LockError::Store(_) | LockError::NoQuorum { .. }),
            Self::Full | Self::Stopping => true,
            Self::Panicked => false,
        }
    }
}

/// How commands share transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Waiting commands share one.
    Lanes {
        /// How many lanes.
        lanes: usize,
        /// How many commands one transaction takes at the most.
        batch: usize,
    },
    /// Each command has its own.
    Unbatched {
        /// How many run at the same time.
        at_once: usize,
    },
}

/// Runs commands against the store on behalf of concurrent callers.
#[derive(Debug)]
pub struct Dispatch {
    mode: Mode,
    executor: Executor,
    /// Places for imports, running or waiting: they have transactions of their own, beside the lanes.
    imports: Semaphore,
}

#[derive(Debug)]
enum Mode {
    Lanes {
        lanes: Vec<Queue>,
        /// Takes commands whose lane must be looked up; `None` if there is only one lane.
        lookup: Option<Queue>,
    },
    Unbatched(Unbatched),
}

impl Dispatch {
    /// Starts it. `queue` bounds how many commands wait: per lane, or in all where each has its own transaction.
    pub fn start(store: Arc<dyn Store>, plan: Plan, queue: usize) -> Self {
        Self::start_with(store, plan, queue, None)
    }

    /// Starts it; commands that have their own transaction take these locks around it, where there are any. What comes in
    /// batches does not: it rests on the store's guard, as everything does.
    pub fn start_with(store: Arc<dyn Store>, plan: Plan, queue: usize, locks: Option<Arc<Locks>>) -> Self {
        debug_assert!(locks.is_none() || matches!(plan, Plan::Unbatched { .. }), "lanes take no locks");
        let executor = Executor::new(store);
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
        Self { mode, executor, imports: Semaphore::new(IMPORTS_MAX) }
    }

    /// Runs a command and waits for its outcome.
    ///
    /// Cancel-safe: a caller that goes away cancels its command only while that waits in a lane, and nothing else.
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

    /// Runs commands in a transaction of their own, beside the lanes: for imports, whose batches are ready made.
    ///
    /// Cancel-safe: the transaction is finished even if the caller goes away.
    ///
    /// # Errors
    /// [`DispatchError::Full`] where too many wait for such transactions already.
    pub async fn submit_batch(
        &self,
        commands: Vec<Command>,
        mode: CommitMode,
    ) -> Result<Vec<Outcome>, DispatchError> {
        let _place = self.imports.try_acquire().map_err(|_| DispatchError::Full)?;
        let names: Vec<_> = commands.iter().map(Command::name).collect();
        let commands: Arc<[Traced]> = commands.into_iter().map(on_behalf_of_this_task).collect();
        let outcomes = self.executor.execute(&commands, mode).await?;
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

    /// Told of each commit that wrote events: whoever waits for it need not poll.
    pub(crate) fn written(&self) -> Arc<Notify> {
        self.executor.written.clone()
    }

    /// What is known to be sold out: for whoever tells other processes, and learns from them.
    pub(crate) fn sold_out(&self) -> Arc<SoldOut> {
        self.executor.sold_out.clone()
    }

    /// Reads from the store; a failure is logged here.
    pub(crate) async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.executor.read(read).await
    }

    /// Runs a step of maintenance, such as purging. Its failures are logged here, apart from those of requests, because no
    /// request waits for it.
    pub(crate) async fn run_maintenance<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, DispatchError> {
        let ended = work.await;
        self.executor.purge_failures.observe(&ended);
        Ok(ended?)
    }

    /// Takes and returns the store's write path once. Cancel-safe: what it opens, it closes.
    pub(crate) async fn ping(&self) -> Result<(), DispatchError> {
        let store = self.executor.store.clone();
        let Ok(ping) = self.executor.tasks.spawn(async move { store.ping().await }).await else {
            return Err(DispatchError::Panicked);
        };
        self.executor.failures.observe(&ping);
        Ok(ping?)
    }

    /// Lets what is queued finish, and ends. Commands that come later are refused.
    pub async fn stop(&self) {
        match &self.mode {
            // The lookup keeps the lanes open until what waits in it was passed on.
            Mode::Lanes { lanes, lookup } => lookup.iter().chain(lanes).for_each(Queue::close),
            Mode::Unbatched(unbatched) => unbatched.close(),
        }
        self.executor.tasks.close();
        self.executor.tasks.wait().await;
    }
}

/// A command of the request whose task this is.
fn on_behalf_of_this_task(command: Command) -> Traced {
    Traced { command, trace: trace::current() }
}

/// The metrics' label for the result of a command.
fn label(outcome: &Result<Outcome, DispatchError>) -> &'static str {
    match outcome {
        Ok(outcome) => outcome_label(outcome),
        Err(DispatchError::Full) => "overloaded",
        Err(DispatchError::Stopping) => "stopping",
        Err(DispatchError::Lock(_)) => "locked",
        Err(DispatchError::Store(_) | DispatchError::Panicked) => "failed",
    }
}

fn outcome_label(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(Accepted::Reservation { change: Change::Replayed, .. }) => "replayed",
        Ok(_) => "accepted",
        Err(refusal) => refusal.slug(),
    }
}

/// Commands of one resource share a lane, by its smallest id; commit and extend, which lock no resource, share one by
/// token. Those that give back are looked up first: see `lane_lookup.rs`.
fn route(command: &Command, lanes: usize) -> usize {
    match command {
        Command::Define(define) => lane_of(&define.resource_id, lanes),
        Command::Reserve(reserve) => {
            reserve.items.first().map_or(0, |item| lane_of(&item.resource_id, lanes))
        }
        Command::Commit(token)
        | Command::Release(token)
        | Command::Cancel(token)
        | Command::Expire(token) => lane_of(token, lanes),
        Command::Extend(extend) => lane_of(&extend.token, lanes),
    }
}

fn lane_of(what: &impl Hash, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    // The remainder is below `lanes`, which is a usize.
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
