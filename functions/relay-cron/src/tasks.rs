//! The tasks of an invocation, until they are done or its time is nearly over.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bespeak::{
    app::App,
    background::Purger,
    background::{RunReport, RunUntil, time_until},
    config::Config,
    delivery,
    events::{Publisher, relay::Relayed},
};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    report::{Done, Failed, Report},
    request::{Task, TaskRequest},
};

/// How long before the deadline no step is begun any more: a step under way ends, leases are given up, attempts to deliver
/// get their answer or are given back.
const MARGIN: Duration = Duration::from_secs(5);
/// How long before the deadline what still goes on is cut off.
const CUT_OFF: Duration = Duration::from_millis(500);
/// How long attempts to deliver may still take when no more are begun.
const GRACE: Duration = Duration::from_secs(2);
/// How long what awaits publication may be counted.
const COUNTING_MAX: Duration = Duration::from_secs(1);
/// How often a schedule has everything gone through for what is old.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// What is kept between invocations: connections.
pub(crate) struct Tasks {
    app: App,
    config: Config,
    publisher: Mutex<Option<Arc<dyn Publisher>>>,
    purge: Mutex<Purge>,
}

/// Where the pass through what is old is.
struct Purge {
    purger: Purger,
    /// When the last one came to its end, by a clock that goes on while the environment is frozen.
    done_at: Option<SystemTime>,
}

impl Tasks {
    pub(crate) fn new(app: App, config: Config) -> Self {
        let purge = Mutex::new(Purge { purger: app.purger(), done_at: None });
        Self { app, config, publisher: Mutex::default(), purge }
    }

    /// How long an invocation by the schedule goes on.
    pub(crate) fn until(&self) -> RunUntil {
        self.config.cron_until
    }

    /// Does what is ordered, and is done shortly before the deadline. Nothing goes on when it returns.
    pub(crate) async fn run(&self, request: TaskRequest, deadline: SystemTime) -> Result<Report, Failed> {
        let started = Instant::now();
        let time = time_until(deadline);
        let stop = CancellationToken::new();
        let tasks = async {
            let tasks = self.do_all(request, &stop);
            tokio::pin!(tasks);
            tokio::select! {
                done = &mut tasks => done,
                () = tokio::time::sleep(time.saturating_sub(MARGIN.min(time / 2))) => {
                    stop.cancel();
                    tasks.await
                }
            }
        };
        let cut_off = CUT_OFF.min(time / 4);
        let mut done = timeout(time.saturating_sub(cut_off), tasks).await.unwrap_or_else(|_| Done {
            cut_off: Some("cut off shortly before the deadline; what was under way comes again".to_owned()),
            ..Done::default()
        });
        // Counting takes the longer the more there is; what was done is told all the same.
        let left = time.saturating_sub(started.elapsed());
        let counting = timeout(COUNTING_MAX.min(left / 2), self.app.backlog()).await;
        done.backlog = counting.ok().and_then(Result::ok);
        done.answer(request.task, started.elapsed())
    }

    /// All tasks that are ordered. By the schedule, which goes on for a while, side by side; where it is over as soon as
    /// nothing is left to do, each after those that make work for it.
    async fn do_all(&self, request: TaskRequest, stop: &CancellationToken) -> Done {
        let stopped = || stop.clone();
        let (sweep, purge) = (self.expire(request, stopped()), self.purge(request, stopped()));
        if request.until == RunUntil::Stopped {
            let (expire, relay, webhooks, purge) =
                tokio::join!(sweep, self.relay(request, stopped()), self.webhooks(request, stopped()), purge);
            return Done { expire, relay, webhooks, purge, ..Done::default() };
        }
        let in_turn = async {
            let expire = sweep.await;
            let relay = self.relay(request, stopped()).await;
            (expire, relay, self.webhooks(request, stopped()).await)
        };
        let ((expire, relay, webhooks), purge) = tokio::join!(in_turn, purge);
        Done { expire, relay, webhooks, purge, ..Done::default() }
    }

    async fn expire(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<u64> {
        if !request.task.has(Task::Expire) {
            return RunReport::default();
        }
        self.app.sweep().run(request.until, stop).await
    }

    async fn relay(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<Relayed> {
        if !request.task.has(Task::Relay) {
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

    /// The way into the event log, made by the first invocation that finds its brokers.
    async fn publisher(&self) -> Result<Arc<dyn Publisher>, String> {
        let mut kept = self.publisher.lock().await;
        if let Some(publisher) = &*kept {
            return Ok(publisher.clone());
        }
        let publisher = self.app.publisher(&self.config).await.map_err(|error| error.to_string())?;
        *kept = Some(publisher.clone());
        Ok(publisher)
    }

    async fn webhooks(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<delivery::Step> {
        if !request.task.has(Task::Webhooks) {
            return RunReport::default();
        }
        if let Err(error) = self.app.configure_webhooks().await {
            return RunReport { failure: Some(error.to_string()), ..RunReport::default() };
        }
        self.app.dispatcher(GRACE).run(request.until, self.app.webhooks_due(), stop).await
    }

    /// A pass goes on in the next invocation where it did not come to its end.
    async fn purge(&self, request: TaskRequest, stop: CancellationToken) -> RunReport<u64> {
        if !request.task.has(Task::Purge) {
            return RunReport::default();
        }
        let mut purge = self.purge.lock().await;
        if request.scheduled && purge.purger.is_at_beginning() && !purge.is_due() {
            return RunReport::default();
        }
        let ran = purge.purger.run(RunUntil::Idle, stop).await;
        if purge.purger.is_at_beginning() {
            purge.done_at = Some(SystemTime::now());
        }
        ran
    }
}

impl Purge {
    /// Whether the last pass is long ago.
    fn is_due(&self) -> bool {
        let now = SystemTime::now();
        // A clock that was set back makes a pass too early, which does no harm.
        !self.done_at.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < PURGE_EVERY))
    }
}
