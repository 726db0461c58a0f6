//! One lane: a bounded queue, and the task that runs what waits in it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{DispatchError, Way};
use crate::{
    engine::{Command, Outcome},
    store::Mode,
    telemetry,
};

/// A command that waits, and who for.
#[derive(Debug)]
struct Job {
    command: Command,
    reply: oneshot::Sender<Result<Outcome, DispatchError>>,
}

/// The sending side of a lane.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Lane {
    pub(super) fn start(way: &Way, queue: usize, batch: usize) -> Self {
        let (sender, receiver) = mpsc::channel(queue);
        way.tasks.spawn(run(way.clone(), receiver, batch));
        Self { queue: Mutex::new(Some(sender)) }
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, DispatchError> {
        let (reply, outcome) = oneshot::channel();
        // The lock is held for as long as a channel takes a message: it never spans an await.
        let queued = match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.try_send(Job { command, reply }),
            None => return Err(DispatchError::Stopping),
        };
        match queued {
            Ok(()) => outcome.await.unwrap_or(Err(DispatchError::Panicked)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(DispatchError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(DispatchError::Stopping),
        }
    }

    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

async fn run(way: Way, mut queue: mpsc::Receiver<Job>, batch: usize) {
    let mut jobs = Vec::with_capacity(batch);
    // Takes what waits, at least one; 0 means that the lane was closed and is empty.
    while queue.recv_many(&mut jobs, batch).await > 0 {
        telemetry::queue_depth(queue.len());
        // Who went away before a transaction began for them is not served.
        jobs.retain(|job| !job.reply.is_closed());
        if !jobs.is_empty() {
            settle(&way, &mut jobs).await;
        }
    }
}

/// Runs a batch and answers everybody in it. A command that makes the batch fail is run again alone, so it fails alone.
async fn settle(way: &Way, jobs: &mut Vec<Job>) {
    let (commands, replies): (Vec<_>, Vec<_>) = jobs.drain(..).map(|job| (job.command, job.reply)).unzip();
    let commands: Arc<[Command]> = commands.into();
    match way.execute(&commands, Mode::Commit).await {
        Ok(outcomes) => {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                // A caller that went away meanwhile is told nothing; its retry finds what was done.
                let _ = reply.send(Ok(outcome));
            }
        }
        Err(error) if commands.len() == 1 || error.is_outage() => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        Err(_not_for_all) => {
            for (command, reply) in commands.iter().zip(replies) {
                let alone: Arc<[Command]> = [command.clone()].into();
                let outcome = way
                    .execute(&alone, Mode::Commit)
                    .await
                    .and_then(|mut outcomes| outcomes.pop().ok_or(DispatchError::Panicked));
                let _ = reply.send(outcome);
            }
        }
    }
}
