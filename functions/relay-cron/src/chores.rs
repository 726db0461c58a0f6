//! The chores of an invocation, side by side, until they are done or its time is nearly over.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bespeak::{
    app::App,
    config::Config,
    events::{Publisher, relay::Relayed},
    until::{Ran, Until, time_until},
    webhooks,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    order::{Order, Task},
    summary::{Done, Failed, Summary},
};

/// How long before the deadline no step is begun any more: a step under way ends, leases are given up, attempts to deliver
/// get their answer or are given back.
const MARGIN: Duration = Duration::from_secs(5);
/// How long before the deadline what still goes on is cut off.
const CUT_OFF: Duration = Duration::from_millis(500);
/// How long attempts to deliver may still take when no more are begun.
const GRACE: Duration = Duration::from_secs(2);
/// How often a schedule has everything gone through for what is old.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// What is kept between invocations: connections.
pub(crate) struct Chores {
    app: App,
    config: Config,
    publisher: tokio::sync::Mutex<Option<Arc<dyn Publisher>>>,
    /// The last pass that a schedule has begun here. By a clock that goes on while the environment is frozen.
    purged_at: Mutex<Option<SystemTime>>,
}

impl Chores {
    pub(crate) fn new(app: App, config: Config) -> Self {
        Self { app, config, publisher: tokio::sync::Mutex::default(), purged_at: Mutex::default() }
    }

    /// How long an invocation by the schedule goes on.
    pub(crate) fn until(&self) -> Until {
        self.config.cron_until
    }

    /// Does what is ordered, and is done shortly before the deadline. Nothing goes on when it returns.
    pub(crate) async fn run(&self, order: Order, deadline: SystemTime) -> Result<Summary, Failed> {
        let started = Instant::now();
        let time = time_until(deadline);
        let stop = CancellationToken::new();
        let done = async {
            let chores = async {
                let (expire, relay, webhooks, purge) = tokio::join!(
                    self.expire(order, stop.clone()),
                    self.relay(order, stop.clone()),
                    self.webhooks(order, stop.clone()),
                    self.purge(order, stop.clone()),
                );
                Done { expire, relay, webhooks, purge, unpublished: None }
            };
            tokio::pin!(chores);
            let mut done = tokio::select! {
                done = &mut chores => done,
                () = tokio::time::sleep(time.saturating_sub(MARGIN.min(time / 2))) => {
                    stop.cancel();
                    chores.await
                }
            };
            done.unpublished = self.app.backlog().await.ok().map(|backlog| backlog.unpublished);
            done
        };
        let cut_off = timeout(time.saturating_sub(CUT_OFF.min(time / 4)), done).await;
        let done = cut_off.unwrap_or_else(|_| {
            let failure =
                Some("cut off shortly before the deadline; what was under way comes again".to_owned());
            Done { relay: Ran { failure, ..Ran::default() }, ..Done::default() }
        });
        done.answer(order.task, started.elapsed())
    }

    async fn expire(&self, order: Order, stop: CancellationToken) -> Ran<u64> {
        if !order.task.has(Task::Expire) {
            return Ran::default();
        }
        self.app.sweep().run(order.until, stop).await
    }

    async fn relay(&self, order: Order, stop: CancellationToken) -> Ran<Relayed> {
        if !order.task.has(Task::Relay) {
            return Ran::default();
        }
        let publisher = tokio::select! {
            publisher = self.publisher() => publisher,
            () = stop.cancelled() => Err("no broker answered in time".to_owned()),
        };
        match publisher {
            Ok(publisher) => {
                self.app.relay(publisher).run(order.until, self.app.events_written(), stop).await
            }
            Err(failure) => Ran { failure: Some(failure), ..Ran::default() },
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

    async fn webhooks(&self, order: Order, stop: CancellationToken) -> Ran<webhooks::Step> {
        if !order.task.has(Task::Webhooks) {
            return Ran::default();
        }
        if let Err(error) = self.app.configure_webhooks().await {
            return Ran { failure: Some(error.to_string()), ..Ran::default() };
        }
        self.app.dispatcher(GRACE).run(order.until, self.app.webhooks_due(), stop).await
    }

    async fn purge(&self, order: Order, stop: CancellationToken) -> Ran<u64> {
        if !order.task.has(Task::Purge) || (order.scheduled && !self.is_purge_due()) {
            return Ran::default();
        }
        self.app.purger().run(Until::Idle, stop).await
    }

    /// Whether a pass is due, which then counts as begun.
    fn is_purge_due(&self) -> bool {
        let now = SystemTime::now();
        let mut purged_at = self.purged_at.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes a pass too early, which does no harm.
        let recent =
            purged_at.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < PURGE_EVERY));
        if !recent {
            *purged_at = Some(now);
        }
        !recent
    }
}
