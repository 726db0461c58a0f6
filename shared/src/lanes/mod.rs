//! How commands of concurrent callers reach the store: through lanes, or one per transaction.
//!
//! A lane is a queue whose waiting commands share one transaction. While it is in flight, what arrives waits and
//! becomes the next batch; nothing waits on a timer, so an idle lane adds no latency. Whatever happens to a batch, every
//! caller gets its own outcome or an error: never another's, and never a success that was not committed.
//!
//! Never: rules, SQL. The task that runs a transaction is never the caller's, so a caller that hangs up cancels nothing.

mod lane;
mod single;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use tokio_util::task::TaskTracker;

use crate::{
    engine::{Command, Outcome},
    store::{Executed, Mode, Store, StoreError},
    telemetry,
};
use lane::Lane;
use single::Singles;

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
    /// The transaction's task panicked: a defect. Nothing was done.
    #[error("the transaction panicked")]
    Panicked,
}

impl From<StoreError> for DispatchError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl DispatchError {
    /// Whether every other command would meet the same failure.
    fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
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
    /// Each has its own: the base that lanes are compared with.
    Single,
}

/// The way to the store.
#[derive(Debug)]
pub struct Dispatch {
    to: To,
    tasks: TaskTracker,
}

#[derive(Debug)]
enum To {
    Lanes(Vec<Lane>),
    Singles(Singles),
}

impl Dispatch {
    /// Starts it. `queue` bounds how many commands wait: per lane, or in all where each has its own transaction.
    pub fn start(store: &Arc<dyn Store>, plan: Plan, queue: usize) -> Self {
        let tasks = TaskTracker::new();
        let to = match plan {
            Plan::Lanes { lanes, batch } => {
                To::Lanes((0..lanes).map(|_| Lane::start(store.clone(), queue, batch, &tasks)).collect())
            }
            Plan::Single => To::Singles(Singles::new(store.clone(), queue, tasks.clone())),
        };
        Self { to, tasks }
    }

    /// Runs a command and waits for its outcome.
    ///
    /// Cancel-safe: a caller that goes away cancels its command if no transaction has begun for it, and nothing else.
    pub async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let name = command.name();
        let outcome = match &self.to {
            To::Lanes(lanes) => lanes[route(&command, lanes.len())].submit(command).await,
            To::Singles(singles) => singles.submit(command).await,
        };
        telemetry::count_command(name, &outcome);
        outcome
    }

    /// Lets what is queued finish, and ends. Commands that come later are refused.
    pub async fn stop(&self) {
        match &self.to {
            To::Lanes(lanes) => lanes.iter().for_each(Lane::close),
            To::Singles(singles) => singles.close(),
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Commands of one resource share a lane, by its smallest id; commands of one token share one too.
fn route(command: &Command, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    match command {
        Command::Define(define) => define.resource_id.hash(&mut hasher),
        Command::Reserve(reserve) => {
            reserve.items.first().map(|item| item.resource_id.as_str()).unwrap_or_default().hash(&mut hasher);
        }
        Command::Commit(token)
        | Command::Release(token)
        | Command::Cancel(token)
        | Command::Expire(token) => {
            token.hash(&mut hasher);
        }
        Command::Extend(extend) => extend.token.hash(&mut hasher),
    }
    // The remainder is below `lanes`, which is a usize.
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or(0)
}

/// Runs one transaction in a task of its own, so that neither a caller that goes away nor a panic reaches further than
/// this batch.
async fn execute(
    store: &Arc<dyn Store>,
    tasks: &TaskTracker,
    commands: &Arc<[Command]>,
) -> Result<Vec<Outcome>, DispatchError> {
    let started = std::time::Instant::now();
    let (store, batch) = (store.clone(), commands.clone());
    let executed = tasks.spawn(async move { store.execute(&batch, Mode::Commit).await }).await;
    telemetry::count_batch(commands.len(), started.elapsed());
    let Executed { outcomes, expired_on_demand, .. } = match executed {
        Ok(Ok(executed)) => executed,
        Ok(Err(error)) => return Err(error.into()),
        Err(_panicked) => return Err(DispatchError::Panicked),
    };
    telemetry::count_expired("on_demand", expired_on_demand);
    if outcomes.len() == commands.len() {
        Ok(outcomes)
    } else {
        let what = format!("{} outcomes of {} commands", outcomes.len(), commands.len());
        Err(StoreError::Corrupt { what }.into())
    }
}

#[cfg(test)]
mod tests;
