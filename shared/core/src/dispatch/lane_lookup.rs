//! Routes release, cancel and expire to the lane of the first resource of their reservation.
//!
//! That resource never changes, so it is read without a lock, in one query for all waiting commands. A command with
//! an unknown token goes to the first lane, where the engine refuses it under lock.

use tokio::sync::mpsc;

use super::{
    error::DispatchError,
    executor::Executor,
    lane::{Job, Queue},
    routing::lane_of,
};
use crate::{engine::Token, supervision::Ends};

/// Starts the task that finds the lanes, and returns its queue. The task ends when that queue is closed, and then
/// drops its senders to the lanes.
pub(super) fn start(executor: &Executor, lanes: Vec<mpsc::Sender<Job>>, queue: usize, batch: usize) -> Queue {
    let (sender, receiver) = mpsc::channel(queue);
    let lookup = run(executor.clone(), receiver, lanes, batch);
    executor.tasks.spawn(executor.supervisor.watch("lane_lookup", Ends::WhenDone, lookup));
    Queue::new(sender)
}

async fn run(
    executor: Executor,
    mut queue: mpsc::Receiver<Job>,
    lanes: Vec<mpsc::Sender<Job>>,
    batch: usize,
) {
    let mut jobs: Vec<Job> = Vec::with_capacity(batch);
    while queue.recv_many(&mut jobs, batch).await > 0 {
        jobs.retain(Job::is_awaited);
        let tokens: Vec<Token> = jobs.iter().filter_map(|job| job.command.command.token()).collect();
        if tokens.is_empty() {
            continue;
        }
        let store = executor.store.clone();
        match executor.query(async move { store.first_resources(&tokens).await }).await {
            Ok(resources) => {
                for job in jobs.drain(..) {
                    let resource = job.command.command.token().and_then(|token| resources.get(&token));
                    let lane = resource.map_or(0, |resource| lane_of(resource, lanes.len()));
                    pass_on(&lanes[lane], job);
                }
            }
            Err(error) => {
                for job in jobs.drain(..) {
                    job.reply(Err(error.clone()));
                }
            }
        }
    }
}

fn pass_on(lane: &mpsc::Sender<Job>, job: Job) {
    match lane.try_send(job) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(job)) => job.reply(Err(DispatchError::Full)),
        Err(mpsc::error::TrySendError::Closed(job)) => job.reply(Err(DispatchError::Stopping)),
    }
}
