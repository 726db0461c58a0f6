//! One lane: a bounded queue, and the task that runs what waits in it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use super::{DispatchError, executor::Executor, on_behalf_of_this_task};
use crate::{
    engine::{Command, Outcome, Traced, replay},
    store::CommitMode,
    telemetry,
};

/// A command that waits, and who for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Traced,
    reply: oneshot::Sender<Result<Outcome, DispatchError>>,
}

impl Job {
    /// Whether somebody still waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(super) fn answer(self, outcome: Result<Outcome, DispatchError>) {
        // A caller that went away meanwhile is told nothing; its retry finds what was done.
        let _ = self.reply.send(outcome);
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
        let (reply, outcome) = oneshot::channel();
        // The lock is held for as long as a channel takes a message: it never spans an await.
        let queued = match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.try_send(Job { command: on_behalf_of_this_task(command), reply }),
            None => return Err(DispatchError::Stopping),
        };
        match queued {
            Ok(()) => outcome.await.unwrap_or(Err(DispatchError::Panicked)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(DispatchError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(DispatchError::Stopping),
        }
    }

    /// How many commands wait in it.
    pub(super) fn waiting(&self) -> usize {
        let queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Starts the task of a lane; returns its queue. It ends when all senders are gone and the queue is empty.
pub(super) fn start(executor: &Executor, queue: usize, batch: usize) -> mpsc::Sender<Job> {
    let (sender, receiver) = mpsc::channel(queue);
    executor.tasks.spawn(run(executor.clone(), receiver, batch));
    sender
}

async fn run(executor: Executor, mut queue: mpsc::Receiver<Job>, batch: usize) {
    let mut jobs = Vec::with_capacity(batch);
    // Takes what waits, at least one; 0 means that the lane was closed and is empty.
    while queue.recv_many(&mut jobs, batch).await > 0 {
        // Who went away before a transaction began for them is not served.
        jobs.retain(Job::is_awaited);
        refuse_from_memory(&executor, &mut jobs).await;
        if !jobs.is_empty() {
            run_and_reply(&executor, &mut jobs).await;
        }
    }
}

/// Answers the holds of what is known to be sold out, after one unlocked look for all their keys; leaves the others.
async fn refuse_from_memory(executor: &Executor, jobs: &mut Vec<Job>) {
    let covered = |job: &Job| matches!(&job.command.command, Command::Reserve(reserve) if executor.sold_out.covers(reserve));
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
        Err(error) => {
            for job in candidates {
                job.answer(Err(error.clone()));
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
                job.answer(Ok(outcome));
            }
            None => others.push(job),
        }
    }
    telemetry::count_refused_from_memory(refused);
    telemetry::count_refused_by_gate(from_elsewhere);
    jobs.append(&mut others);
}

/// Runs a batch and answers everybody in it. A command that makes the batch fail is run again alone, so it fails alone.
async fn run_and_reply(executor: &Executor, jobs: &mut Vec<Job>) {
    let (commands, replies): (Vec<_>, Vec<_>) = jobs.drain(..).map(|job| (job.command, job.reply)).unzip();
    let commands: Arc<[Traced]> = commands.into();
    match executor.execute(&commands, CommitMode::Commit).await {
        Ok(outcomes) => {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                // A caller that went away meanwhile is told nothing; its retry finds what was done.
                let _ = reply.send(Ok(outcome));
            }
        }
        Err(error) if commands.len() == 1 || error.meets_others() => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        Err(_not_for_all) => {
            for (command, reply) in commands.iter().zip(replies) {
                let alone: Arc<[Traced]> = [command.clone()].into();
                let outcome = executor
                    .execute(&alone, CommitMode::Commit)
                    .await
                    .and_then(|mut outcomes| outcomes.pop().ok_or(DispatchError::Panicked));
                let _ = reply.send(outcome);
            }
        }
    }
}
