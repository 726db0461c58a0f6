//! Runs the tasks of an invocation until they are done, or until shortly before its deadline.
//!
//! Receives a request and the deadline, and returns a report. Never: work that goes on after the report is returned.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bespeak::{
    app::App,
    background::{Purger, RunReport, RunUntil, time_until},
    config::Config,
    delivery,
    events::{Publisher, relay::RelayTotals},
};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    report::{Report, TaskResults, TasksFailed},
    request::{Task, TaskRequest},
};

/// How long before the deadline the tasks stop: no new step begins, a step in flight ends, leases are released, and
/// deliveries in flight get their answer or are pending again.
const STOP_BEFORE: Duration = Duration::from_secs(5);
/// How long before the deadline the tasks are dropped if they have not stopped.
const CUT_OFF_BEFORE: Duration = Duration::from_millis(500);
/// How long deliveries in flight may take after the tasks were stopped.
const GRACE: Duration = Duration::from_secs(2);
/// How long the count of unpublished events may take.
const COUNTING_MAX: Duration = Duration::from_secs(1);
/// How often scheduled invocations purge.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// The tasks, with the connections that are kept between invocations.
pub(crate) struct Tasks {
    app: App,
    config: Config,
    publisher: Mutex<Option<Arc<dyn Publisher>>>,
    purge: Mutex<Purge>,
}

/// The state of the purge between invocations.
struct Purge {
    purger: Purger,
    /// When the last pass ended, by a clock that runs while the environment is frozen.
    done_at: Option<SystemTime>,
}

impl Tasks {
    pub(crate) fn new(app: App, config: Config) -> Self {
        let purge = Mutex::new(Purge { purger: app.purger(), done_at: None });
        Self { app, config, publisher: Mutex::default(), purge }
    }

    /// How long the tasks of a scheduled invocation run.
    pub(crate) fn scheduled_until(&self) -> RunUntil {
        self.config.cron_until
    }

    /// Runs the requested tasks, and returns shortly before the deadline. Nothing goes on when it returns.
    ///
    /// # Errors
    /// At least one task failed, or the tasks did not stop in time. The others did their work.
    pub(crate) async fn run(
        &self,
        request: TaskRequest,
        deadline: SystemTime,
    ) -> Result<Report, TasksFailed> {
        let started = Instant::now();
        let time = time_until(deadline);
        let stop = CancellationToken::new();
        let tasks = async {
            let tasks = self.run_all(request, &stop);
            tokio::pin!(tasks);
            tokio::select! {
                results = &mut tasks => results,
                () = tokio::time::sleep(time.saturating_sub(STOP_BEFORE.min(time / 2))) => {
                    stop.cancel();
                    tasks.await
                }
            }
        };
        let cut_off = CUT_OFF_BEFORE.min(time / 4);
        let mut results =
            timeout(time.saturating_sub(cut_off), tasks).await.unwrap_or_else(|_| TaskResults {
                cut_off: Some(
                    "cut off shortly before the deadline; the next invocation repeats the work in flight"
                        .to_owned(),
                ),
                ..TaskResults::default()
            });
        // The count takes longer the more events there are. The report is returned in time without it.
        let left = time.saturating_sub(started.elapsed());
        let counting = timeout(COUNTING_MAX.min(left / 2), self.app.backlog()).await;
        results.backlog = counting.ok().and_then(Result::ok);
        results.into_report(request.task, started.elapsed())
    }

    /// Runs the requested tasks. Tasks that run until the deadline run side by side. Tasks that end when nothing is
    /// left to do run after the tasks that make work for them: expiry writes events, and their publication enqueues
    /// deliveries.
    async fn run_all(&self, request: TaskRequest, stop: &CancellationToken) -> TaskResults {
        if request.task == Task::Verify {
            return TaskResults { verify: self.verify(stop).await, ..TaskResults::default() };
        }
        let stop = || stop.clone();
        let (sweep, purge) = (self.expire(request, stop()), self.purge(request, stop()));
        if request.until == RunUntil::Stopped {
            let (expire, relay, webhooks, purge) =
                tokio::join!(sweep, self.relay(request, stop()), self.webhooks(request, stop()), purge);
            return TaskResults { expire, relay, webhooks, purge, ..TaskResults::default() };
        }
        let in_turn = async {
            let expire = sweep.await;
            let relay = self.relay(request, stop()).await;
            (expire, relay, self.webhooks(request, stop()).await)
        };
        let ((expire, relay, webhooks), purge) = tokio::join!(in_turn, purge);
        TaskResults { expire, relay, webhooks, purge, ..TaskResults::default() }
    }

    async fn expire(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<u64> {
        if !request.task.includes(Task::Expire) {
            return RunReport::default();
        }
        self.app.sweep().run(request.until, stop).await
    }

    async fn relay(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<RelayTotals> {
        if !request.task.includes(Task::Relay) {
            return RunReport::default();
        }
        let publisher = tokio::select! {
            publisher = self.publisher() => publisher,
            () = stop.cancelled() => Err("no broker answered in time".to_owned()),
        };
        match publisher {
            Ok(publisher) => {
                self.app.relay(publisher).run(request.until, self.app.events_written(), stop).await
            }
            Err(failure) => RunReport { failure: Some(failure), ..RunReport::default() },
        }
    }

    /// The publisher, which the first invocation that reaches the brokers makes and later ones reuse.
    async fn publisher(&self) -> Result<Arc<dyn Publisher>, String> {
        let mut kept = self.publisher.lock().await;
        if let Some(publisher) = &*kept {
            return Ok(publisher.clone());
        }
        let publisher = self.app.publisher(&self.config).await.map_err(|error| error.to_string())?;
        *kept = Some(publisher.clone());
        Ok(publisher)
    }

    async fn webhooks(
        &self,
        request: TaskRequest,
        stop: CancellationToken,
    ) -> RunReport<delivery::DeliveryStep> {
        if !request.task.includes(Task::Webhooks) {
            return RunReport::default();
        }
        if let Err(error) = self.app.configure_webhooks().await {
            return RunReport { failure: Some(error.to_string()), ..RunReport::default() };
        }
        match self.app.dispatcher(GRACE) {
            Ok(dispatcher) => dispatcher.run(request.until, self.app.webhooks_due(), stop).await,
            Err(error) => RunReport { failure: Some(error.to_string()), ..RunReport::default() },
        }
    }

    /// Audits the books and records the result. A violation is a failure, which the alarm for failed invocations
    /// reports.
    async fn verify(&self, stop: &CancellationToken) -> RunReport<Option<u64>> {
        let audited = tokio::select! {
            audited = self.app.verify() => audited.map_err(|error| error.to_string()),
            () = stop.cancelled() => Err("the audit takes longer than an invocation".to_owned()),
        };
        match audited {
            Ok(0) => RunReport { total: Some(0), failure: None },
            Ok(findings) => {
                let failure = Some(format!("{findings} violations were found; the log lists them"));
                RunReport { total: Some(findings), failure }
            }
            Err(failure) => RunReport { total: None, failure: Some(failure) },
        }
    }

    /// Purges old records. A pass that was stopped continues in the next invocation.
    async fn purge(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<u64> {
        if !request.task.includes(Task::Purge) {
            return RunReport::default();
        }
        let mut purge = self.purge.lock().await;
        if request.scheduled && purge.purger.is_at_beginning() && !purge.is_due() {
            return RunReport::default();
        }
        // A scheduled invocation leaves out a pass that another process has completed recently.
        purge.purger.set_insists(!request.scheduled);
        let ran = purge.purger.run(RunUntil::Idle, stop).await;
        if ran.failure.is_none() && purge.purger.is_at_beginning() {
            purge.done_at = Some(SystemTime::now());
        }
        ran
    }
}

impl Purge {
    /// Whether the last pass ended long ago, or there was none.
    fn is_due(&self) -> bool {
        let now = SystemTime::now();
        // If the clock was set back, a pass comes early, which does no harm.
        !self.done_at.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < PURGE_EVERY))
    }
}
