//! A lane: a bounded queue of commands, and the task that runs waiting commands in shared transactions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use super::{error::DispatchError, executor::Executor, routing::traced_by_this_task};
use crate::{
    engine::{Command, Outcome, Traced, replay},
    store::CommitMode,
    supervision::Ends,
    telemetry,
};

/// A waiting command, and the channel for its reply.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Traced,
    reply_to: oneshot::Sender<Result<Outcome, DispatchError>>,
}

impl Job {
    /// Whether the caller still waits for the reply.
    pub(super) fn is_awaited(&self) -> bool {
        !self.reply_to.is_closed()
    }

    pub(super) fn reply(self, outcome: Result<Outcome, DispatchError>) {
        // If the caller went away meanwhile, the reply is lost; a retry of the command finds what was done.
        let _ = self.reply_to.send(outcome);
    }
}

/// The sending side of a bounded queue of commands.
#[derive(Debug)]
pub(super) struct Queue(Mutex<Option<mpsc::Sender<Job>>>);

impl Queue {
    pub(super) fn new(sender: mpsc::Sender<Job>) -> Self {
        Self(Mutex::new(Some(sender)))
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let (reply_to, outcome) = oneshot::channel();
        // The lock is held only while the channel takes one message: it never spans an await.
        let queued = match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.try_send(Job { command: traced_by_this_task(command), reply_to }),
            None => return Err(DispatchError::Stopping),
        };
        match queued {
            Ok(()) => outcome.await.unwrap_or(Err(DispatchError::Panicked)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(DispatchError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(DispatchError::Stopping),
        }
    }

    /// How many commands wait in the queue.
    pub(super) fn waiting(&self) -> usize {
        let queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Starts the task of a lane, and returns its queue. The task ends when all senders are gone and the queue is empty.
pub(super) fn start(executor: &Executor, queue: usize, batch: usize) -> mpsc::Sender<Job> {
    let (sender, receiver) = mpsc::channel(queue);
    let lane = run(executor.clone(), receiver, batch);
    executor.tasks.spawn(executor.supervisor.watch("lane", Ends::WhenDone, lane));
    sender
}

async fn run(executor: Executor, mut queue: mpsc::Receiver<Job>, batch: usize) {
    let mut jobs = Vec::with_capacity(batch);
    // Takes all waiting commands, at least one; 0 means that the lane is closed and empty.
    while queue.recv_many(&mut jobs, batch).await > 0 {
        // A command whose caller went away before its transaction began is dropped.
        jobs.retain(Job::is_awaited);
        refuse_from_memory(&executor, &mut jobs).await;
        if !jobs.is_empty() {
            run_and_reply(&executor, &mut jobs).await;
        }
    }
}

/// Refuses holds of resources that are known to be sold out, after one unlocked query for all their idempotency keys.
/// Leaves the other commands in `jobs`.
async fn refuse_from_memory(executor: &Executor, jobs: &mut Vec<Job>) {
    let covered = |job: &Job| match &job.command.command {
        Command::Reserve(reserve) => executor.sold_out.covers(reserve),
        _ => false,
    };
    if !jobs.iter().any(covered) {
        return;
    }
    let (candidates, mut others): (Vec<Job>, Vec<Job>) = jobs.drain(..).partition(covered);
    let keys: Vec<_> = candidates
        .iter()
        .filter_map(|job| match &job.command.command {
            Command::Reserve(reserve) => Some(reserve.key.clone()),
            _ => None,
        })
        .collect();
    let store = executor.store.clone();
    let (found, now) = match executor.query(async move { store.by_keys(&keys).await }).await {
        Ok(found) => found,
        // One of the reservations is damaged. The others are found in transactions of their own.
        Err(error) if !error.affects_whole_batch() => {
            jobs.extend(candidates);
            jobs.append(&mut others);
            return;
        }
        Err(error) => {
            for job in candidates {
                job.reply(Err(error.clone()));
            }
            jobs.append(&mut others);
            return;
        }
    };
    let found: HashMap<_, _> = found.into_iter().map(|made| (made.key.clone(), made)).collect();
    let (mut refused, mut from_elsewhere) = (0, 0);
    for job in candidates {
        let outcome = match &job.command.command {
            Command::Reserve(reserve) => match found.get(&reserve.key) {
                Some(earlier) => Some(replay(earlier, reserve, now)),
                None => executor.sold_out.refusal(reserve, now).map(|remembered| {
                    from_elsewhere += u64::from(remembered.from_elsewhere);
                    Err(remembered.refusal)
                }),
            },
            _ => None,
        };
        match outcome {
            Some(outcome) => {
                refused += u64::from(outcome.is_err());
                job.reply(Ok(outcome));
            }
            None => others.push(job),
        }
    }
    telemetry::count_refused_from_memory(refused);
    telemetry::count_refused_from_elsewhere(from_elsewhere);
    jobs.append(&mut others);
}

/// Runs a batch, and replies to every caller in it. If the batch fails because of one command, its halves are run
/// again, and so on, so that only the faulty command fails, and few transactions are needed to find it.
async fn run_and_reply(executor: &Executor, jobs: &mut Vec<Job>) {
    let (commands, replies): (Vec<_>, Vec<_>) = jobs.drain(..).map(|job| (job.command, job.reply_to)).unzip();
    // The last part is the next, so commands run in order of arrival.
    let mut parts = vec![(commands, replies)];
    while let Some((mut commands, mut replies)) = parts.pop() {
        let batch: Arc<[Traced]> = commands.as_slice().into();
        match executor.execute(&batch, CommitMode::Commit).await {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // If the caller went away meanwhile, the reply is lost; a retry of the command finds what was
                    // done.
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) if commands.len() == 1 || error.affects_whole_batch() => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
            Err(_only_one_command_s_failure) => {
                let half = commands.len() / 2;
                let second = (commands.split_off(half), replies.split_off(half));
                parts.extend([second, (commands, replies)]);
            }
        }
    }
}
