//! Supervision: one place that keeps the tasks of a process, and notices when one of them ends that should not.
//!
//! A task that panics, or that returns before the process shuts down, is a failure of the whole process: without it
//! holds expire late, or events are not published, and no request would show that. The first failure is logged, turns
//! liveness red, and ends `bespeak serve` with an error, so that whatever supervises the process starts it again.
//! Never: a restart of the task itself, because it is unknown in which state it left what it shares with others.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use futures_util::FutureExt;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerWaitFuture},
};

use crate::{failpoint, telemetry};

/// When a task may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Only when the process shuts down: before that, its end is a failure.
    AtShutdown,
    /// When its work is done: only a panic is a failure.
    WhenDone,
}

/// A task ended that should not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {task} {how}")]
pub struct TaskFailure {
    /// The task, as in the label `task` of `bespeak_tasks_running`.
    pub task: &'static str,
    /// How it ended.
    pub how: String,
}

/// The tasks of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// How many tasks of each name run.
    running: Mutex<BTreeMap<&'static str, u32>>,
    failure: OnceLock<TaskFailure>,
    failed: CancellationToken,
}

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new() -> Self {
        let supervisor = Self::default();
        // Waiting ends when no task is left; tasks may be spawned until then.
        supervisor.0.tasks.close();
        supervisor
    }

    /// Cancelled when the process shuts down.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Tracks tasks that belong to a request, such as a transaction: shutdown waits for them, and their caller learns
    /// of their end.
    pub fn tracker(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Spawns a task. Its name is the label `task` of `bespeak_tasks_running`; several tasks may have the same one.
    pub fn spawn(&self, task: &'static str, ends: Ends, run: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(self.watch(task, ends, run));
    }

    /// Wraps the work of a task that something else spawns and waits for; it counts as running from now on.
    pub fn watch(
        &self,
        task: &'static str,
        ends: Ends,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.count(task, |running| running + 1);
        let this = self.clone();
        async move {
            let run = async {
                failpoint::reach_task(task).await;
                run.await;
            };
            // What the task shared with others may be half changed; the process ends because of that.
            let ended = AssertUnwindSafe(run).catch_unwind().await;
            this.count(task, |running| running.saturating_sub(1));
            match ended {
                Err(panic) => this.fail(task, format!("panicked: {}", message(&*panic))),
                Ok(()) if ends == Ends::AtShutdown && !this.0.stop.is_cancelled() => {
                    this.fail(task, "returned although the process is not shutting down".to_owned());
                }
                Ok(()) => {}
            }
        }
    }

    /// Reports that a task cannot do its work. The first failure is logged and kept.
    pub fn fail(&self, task: &'static str, how: String) {
        let failure = TaskFailure { task, how };
        if self.0.failure.set(failure.clone()).is_ok() {
            tracing::error!(task, "{failure}; the process cannot go on without it");
            self.0.failed.cancel();
        }
    }

    /// The first failure, if there was one.
    pub fn failure(&self) -> Option<&TaskFailure> {
        self.0.failure.get()
    }

    /// Waits for the first failure. Cancel-safe.
    pub async fn failed(&self) -> TaskFailure {
        self.0.failed.cancelled().await;
        let unknown = || TaskFailure { task: "unknown", how: "failed".to_owned() };
        // The failure is set before the token is cancelled.
        self.0.failure.get().cloned().unwrap_or_else(unknown)
    }

    /// Asks the tasks to end.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Waits until no task is left.
    pub fn wait(&self) -> TaskTrackerWaitFuture<'_> {
        self.0.tasks.wait()
    }

    fn count(&self, task: &'static str, change: impl Fn(u32) -> u32) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(task).or_default();
        *count = change(*count);
        telemetry::set_running_tasks(task, *count);
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_and_an_early_return_are_failures() {
        let supervisor = Supervisor::new();
        supervisor.spawn("done", Ends::WhenDone, async {});
        supervisor.wait().await;
        assert_eq!(supervisor.failure(), None);
        supervisor.spawn("early", Ends::AtShutdown, async {});
        let failure = supervisor.failed().await;
        assert_eq!(failure.task, "early");
        assert!(failure.to_string().contains("returned although"), "{failure}");

        for ends in [Ends::AtShutdown, Ends::WhenDone] {
            let supervisor = Supervisor::new();
            supervisor.spawn("broken", ends, async { panic!("of {}", "this test") });
            assert_eq!(supervisor.failed().await.how, "panicked: of this test");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_task_at_shutdown_is_no_failure_but_a_panic_is() {
        let supervisor = Supervisor::new();
        let stop = supervisor.stopping();
        supervisor.spawn("obedient", Ends::AtShutdown, async move { stop.cancelled().await });
        supervisor.stop();
        supervisor.wait().await;
        assert_eq!(supervisor.failure(), None);
        supervisor.spawn("broken", Ends::AtShutdown, async { panic!("late") });
        assert_eq!(supervisor.failed().await.task, "broken");
    }

    #[tokio::test]
    async fn the_first_failure_is_kept() {
        let supervisor = Supervisor::new();
        supervisor.fail("first", "ended".to_owned());
        supervisor.fail("second", "ended".to_owned());
        assert_eq!(supervisor.failed().await.to_string(), "the task first ended");
    }
}
