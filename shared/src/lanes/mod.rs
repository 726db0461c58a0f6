//! How commands of concurrent callers reach the store: through lanes, or one per transaction.
//!
//! A lane is a queue whose waiting commands share one transaction. While it is in flight, what arrives waits and
//! becomes the next batch; nothing waits on a timer, so an idle lane adds no latency. Whatever happens to a batch, every
//! caller gets its own outcome or an error: never another's, and never a success that was not committed.
//!
//! Never: rules, SQL. The task that runs a transaction is never the caller's, so a caller that hangs up cancels nothing.

mod giver;
mod lane;
mod single;
mod sold_out;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{
    engine::{Command, Outcome, Traced},
    lock::{LockError, Locks},
    store::{Executed, Mode, Store, StoreError},
    telemetry::{self, ExpiryPath, FailureLog, spans},
    trace,
};
use lane::Queue;
use single::Singles;
pub(crate) use sold_out::{Found, Notice, SoldOut};

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
    /// Each has its own.
    Single {
        /// How many run at the same time.
        at_once: usize,
    },
}

/// The way to the store.
#[derive(Debug)]
pub struct Dispatch {
    to: To,
    way: Way,
    /// Imports under way or waiting: they have transactions of their own, beside the lanes.
    imports: Semaphore,
}

/// The way to the store, shared by all that use it.
#[derive(Clone)]
struct Way {
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    sold_out: Arc<SoldOut>,
    /// Told of each commit that wrote events.
    written: Arc<Notify>,
    failures: Arc<FailureLog>,
    /// Reads may go on while writes cannot, so their outages are told apart.
    read_failures: Arc<FailureLog>,
    purge_failures: Arc<FailureLog>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum To {
    Lanes {
        lanes: Vec<Queue>,
        /// Commands whose lane must be looked up; none where there is but one lane.
        giver: Option<Queue>,
    },
    Singles(Singles),
}

impl Dispatch {
    /// Starts it. `queue` bounds how many commands wait: per lane, or in all where each has its own transaction.
    pub fn start(store: Arc<dyn Store>, plan: Plan, queue: usize) -> Self {
        Self::start_with(store, plan, queue, None)
    }

    /// Starts it; commands that have their own transaction take these locks around it, where there are any. What comes in
    /// batches does not: it rests on the store's guard, as everything does.
    pub fn start_with(store: Arc<dyn Store>, plan: Plan, queue: usize, locks: Option<Arc<Locks>>) -> Self {
        debug_assert!(locks.is_none() || matches!(plan, Plan::Single { .. }), "lanes take no locks");
        let way = Way {
            store,
            tasks: TaskTracker::new(),
            sold_out: Arc::default(),
            written: Arc::default(),
            failures: Arc::default(),
            read_failures: Arc::default(),
            purge_failures: Arc::new(FailureLog::of("what is old is kept")),
        };
        let to = match plan {
            Plan::Lanes { lanes, batch } => {
                let lanes: Vec<_> = (0..lanes).map(|_| lane::start(&way, queue, batch)).collect();
                let giver = (lanes.len() > 1).then(|| giver::start(&way, lanes.clone(), queue, batch));
                To::Lanes { lanes: lanes.into_iter().map(Queue::new).collect(), giver }
            }
            Plan::Single { at_once } => To::Singles(Singles::new(way.clone(), queue, at_once, locks)),
        };
        Self { to, way, imports: Semaphore::new(IMPORTS_MAX) }
    }

    /// Runs a command and waits for its outcome.
    ///
    /// Cancel-safe: a caller that goes away cancels its command only while that waits in a lane, and nothing else.
    pub async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let name = command.name();
        let outcome = match &self.to {
            To::Lanes { giver: Some(giver), .. } if command.gives_back() => giver.submit(command).await,
            To::Lanes { lanes, .. } => lanes[route(&command, lanes.len())].submit(command).await,
            To::Singles(singles) => singles.submit(command).await,
        };
        telemetry::count_command(name, &outcome);
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
        mode: Mode,
    ) -> Result<Vec<Outcome>, DispatchError> {
        let _place = self.imports.try_acquire().map_err(|_| DispatchError::Full)?;
        let names: Vec<_> = commands.iter().map(Command::name).collect();
        let commands: Arc<[Traced]> = commands.into_iter().map(given_here).collect();
        let outcomes = self.way.execute(&commands, mode).await?;
        for (name, outcome) in names.into_iter().zip(&outcomes) {
            telemetry::count_command(name, &Ok(outcome.clone()));
        }
        Ok(outcomes)
    }

    /// How many commands wait for a transaction, in all lanes together.
    pub(crate) fn waiting(&self) -> usize {
        match &self.to {
            To::Lanes { lanes, giver } => giver.iter().chain(lanes).map(Queue::waiting).sum(),
            To::Singles(singles) => singles.waiting(),
        }
    }

    /// Told of each commit that wrote events: whoever waits for it need not poll.
    pub(crate) fn written(&self) -> Arc<Notify> {
        self.way.written.clone()
    }

    /// What is known to be sold out: for whoever tells other processes, and learns from them.
    pub(crate) fn sold_out(&self) -> Arc<SoldOut> {
        self.way.sold_out.clone()
    }

    /// Reads from the store; a failure is logged here.
    pub(crate) async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, DispatchError> {
        self.way.read(read).await
    }

    /// Forgets what is old: no request waits for it, and a failure, which is logged here, says nothing of those.
    pub(crate) async fn tend<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, DispatchError> {
        let ended = work.await;
        self.way.purge_failures.note(&ended);
        Ok(ended?)
    }

    /// Takes and returns the store's write path once. Cancel-safe: what it opens, it closes.
    pub(crate) async fn ping(&self) -> Result<(), DispatchError> {
        let store = self.way.store.clone();
        let Ok(ping) = self.way.tasks.spawn(async move { store.ping().await }).await else {
            return Err(DispatchError::Panicked);
        };
        self.way.failures.note(&ping);
        Ok(ping?)
    }

    /// Lets what is queued finish, and ends. Commands that come later are refused.
    pub async fn stop(&self) {
        match &self.to {
            // The giver keeps the lanes open until what waits in it was passed on.
            To::Lanes { lanes, giver } => giver.iter().chain(lanes).for_each(Queue::close),
            To::Singles(singles) => singles.close(),
        }
        self.way.tasks.close();
        self.way.tasks.wait().await;
    }
}

/// A command of the request whose task this is.
fn given_here(command: Command) -> Traced {
    Traced { command, trace: trace::current() }
}

/// Commands of one resource share a lane, by its smallest id; commit and extend, which lock no resource, share one by
/// token. Those that give back are looked up first: see `giver.rs`.
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

impl Way {
    /// Asks the store something in a task of its own, so that a panic reaches no further than those who wait for it.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, DispatchError> {
        let Ok(answer) = self.tasks.spawn(question).await else {
            tracing::error!("a question to the store panicked");
            return Err(DispatchError::Panicked);
        };
        self.read(async { answer }).await
    }

    /// Reads from the store; a failure is logged here.
    async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, DispatchError> {
        let read = read.await;
        self.read_failures.note(&read);
        Ok(read?)
    }

    /// Runs one transaction in a task of its own, so that neither a caller that goes away nor a panic reaches further
    /// than this batch. What goes wrong is logged here, once.
    async fn execute(&self, commands: &Arc<[Traced]>, mode: Mode) -> Result<Vec<Outcome>, DispatchError> {
        let (started, began) = (std::time::Instant::now(), spans::now());
        let (store, batch) = (self.store.clone(), commands.clone());
        let executed = self.tasks.spawn(async move { store.execute_traced(&batch, mode).await }).await;
        telemetry::count_batch(commands.len(), started.elapsed());
        spans::transaction(commands, began, executed.as_ref().is_ok_and(Result::is_ok));
        let Ok(executed) = executed else {
            tracing::error!(commands = commands.len(), "a transaction panicked");
            return Err(DispatchError::Panicked);
        };
        self.failures.note(&executed);
        let executed = executed?;
        if mode == Mode::Commit {
            telemetry::count_expired(ExpiryPath::OnDemand, executed.expired_on_demand);
            self.sold_out.note(&executed);
            if executed.events > 0 {
                self.written.notify_one();
            }
        }
        let Executed { outcomes, .. } = executed;
        if outcomes.len() == commands.len() {
            return Ok(outcomes);
        }
        let corrupt: Result<(), _> = Err(StoreError::Corrupt {
            what: format!("{} outcomes of {} commands", outcomes.len(), commands.len()),
        });
        self.failures.note(&corrupt);
        corrupt.map(|()| Vec::new()).map_err(DispatchError::from)
    }
}

#[cfg(test)]
mod tests;
