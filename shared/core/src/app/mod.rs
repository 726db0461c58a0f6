//! Wires the parts: names the back ends, and offers the calls that triggers (HTTP, commands, schedules) make.
//!
//! Never: rules, SQL, HTTP. Next: `app/open.rs` for the back ends, `app/background.rs` for background tasks,
//! `app/webhooks.rs` for the calls about webhooks, `app/reply.rs` for the replies.

mod background;
mod events;
mod import;
mod open;
mod readiness;
mod reply;
mod start_telemetry;
mod webhook_replay;
mod webhooks;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use import::{IMPORT_BATCH, Import};
pub use open::{Access, BackupReport, back_up, create_database, open_locks, open_store, refuse_newer_schema};
pub use reply::{Booked, Defined, Rejected, Reply, ReserveRefusal};
use uuid::{NoContext, Uuid};
pub use webhook_replay::{ReplayPlace, WebhookReplay, WebhookReplayed};
pub use webhooks::{NewWebhook, WebhookState, WebhookTest};

use readiness::Readiness;
use webhooks::Webhooks;

use crate::{
    background::{ClockWatch, Retention},
    config::Config,
    coordination::{RateLimiter, RedisNode},
    dispatch::{Dispatch, DispatchError},
    effects::SmartKey,
    engine::{
        Command, Define, Extend, Limits, Refusal, Reservation, ReserveDraft, Resource, ResourceId, Status,
        Token, Ttl,
    },
    lock::{LockCounts, Locks},
    store::{Database, Page, StoreError},
    supervision::{Ends, Supervisor, TaskFailure},
    telemetry,
};

/// The shortest time between two queries of the database for metrics.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

pub use background::StartError;
pub use events::{EventPipelineError, dead_letters};
use reply::{booked, defined};
pub use start_telemetry::{TelemetryError, start_telemetry};

/// A running engine: the entry point of servers, functions and commands.
///
/// # Examples
/// ```no_run
/// use bespeak::{
///     app::{Access, App, open_store},
///     config::{Config, Values},
///     engine::{Define, ResourceId},
/// };
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::parse(&Values::from_environment())?;
/// let store = open_store(&config, Access::Serve).await?;
/// store.migrate().await?;
/// let app = App::start(store, &config);
/// app.start_background(&config).await?;
///
/// let room = ResourceId::new("resourceId", "room-101")?;
/// let defined = app.define(Define { resource_id: room.clone(), total: 3, fulfilment: None }).await;
/// println!("{defined:?}, {:?}", app.resource(&room).await?);
/// app.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct App {
    database: Arc<dyn Database>,
    webhooks: Webhooks,
    dispatch: Arc<Dispatch>,
    locks: Option<Arc<Locks>>,
    redis: Option<Arc<RedisNode>>,
    rate_limiter: Option<RateLimiter>,
    limits: Limits,
    retention: Retention,
    supervisor: Supervisor,
    readiness: Readiness,
    clock_watch: Arc<ClockWatch>,
    refreshed: Mutex<Option<Instant>>,
}

impl App {
    /// Starts an engine on books that are migrated already. Starts no background task: see [`App::start_background`].
    pub fn start(database: Arc<dyn Database>, config: &Config) -> Self {
        telemetry::set_build_info(config.database.scheme());
        let locks = open_locks(database.clone(), config);
        let (plan, queue) = (config.dispatch_plan(), config.lane_queue);
        let supervisor = Supervisor::new();
        let dispatch = Dispatch::start_with(database.clone(), plan, queue, locks.clone(), supervisor.clone());
        let dispatch = Arc::new(dispatch);
        let coordination = &config.coordination;
        let redis = RedisNode::from_options(coordination);
        let limiter = |rate| RateLimiter::new(rate, coordination.scope.clone(), redis.clone(), &supervisor);
        Self {
            webhooks: Webhooks::new(database.clone(), &config.webhooks, &config.events_source),
            database,
            dispatch,
            locks,
            rate_limiter: coordination.rate_limit.map(limiter),
            redis,
            limits: config.limits.clone(),
            retention: config.retention,
            readiness: Readiness::default(),
            clock_watch: Arc::new(ClockWatch::of(&config.database)),
            refreshed: Mutex::default(),
            supervisor,
        }
    }

    /// The limits of one request.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Holds units within the rate limit of the holder, or returns the reservation that the same key made. A retry
    /// does not count against the limit, whether its reservation lasts or has ended. Cancel-safe: see
    /// [`Dispatch::submit`].
    pub async fn reserve_within_limit(&self, draft: ReserveDraft) -> Reply<Booked, ReserveRefusal> {
        let allowed = match &self.rate_limiter {
            Some(limiter) => {
                let limited = |limited| Rejected::Refused(ReserveRefusal::RateLimited(limited));
                limiter.take(draft.holder.as_ref()).await.map_err(limited)?
            }
            None => None,
        };
        let reply = self.reserve(draft).await;
        let is_retry = matches!(
            &reply,
            Ok(Booked { replayed: true, .. }) | Err(Rejected::Refused(Refusal::ReservationEnded { .. }))
        );
        if let (Some(limiter), Some(allowed), true) = (&self.rate_limiter, allowed, is_retry) {
            limiter.give_back(allowed).await;
        }
        reply.map_err(|rejected| match rejected {
            Rejected::Refused(refusal) => Rejected::Refused(ReserveRefusal::Engine(refusal)),
            Rejected::Failed(error) => Rejected::Failed(error),
        })
    }

    /// Holds units, or returns the reservation that an earlier request with the same idempotency key made; if that
    /// has ended, refuses with it. Cancel-safe: see [`Dispatch::submit`].
    pub async fn reserve(&self, draft: ReserveDraft) -> Reply<Booked> {
        booked(self.dispatch.submit(Command::Reserve(draft.with_token(draw_token()))).await)
    }

    /// Makes a hold final. Cancel-safe: see [`Dispatch::submit`].
    pub async fn commit(&self, token: Token) -> Reply<Booked> {
        booked(self.dispatch.submit(Command::Commit(token)).await)
    }

    /// Gives a hold back. Cancel-safe: see [`Dispatch::submit`].
    pub async fn release(&self, token: Token) -> Reply<Booked> {
        booked(self.dispatch.submit(Command::Release(token)).await)
    }

    /// Lengthens a hold. Cancel-safe: see [`Dispatch::submit`].
    pub async fn extend(&self, token: Token, ttl: Ttl) -> Reply<Booked> {
        let life_max_seconds = self.limits.life_max_seconds;
        booked(self.dispatch.submit(Command::Extend(Extend { token, ttl, life_max_seconds })).await)
    }

    /// Gives a committed reservation back. Cancel-safe: see [`Dispatch::submit`].
    pub async fn cancel(&self, token: Token) -> Reply<Booked> {
        booked(self.dispatch.submit(Command::Cancel(token)).await)
    }

    /// Creates a resource or changes it. Cancel-safe: see [`Dispatch::submit`].
    pub async fn define(&self, define: Define) -> Reply<Defined> {
        defined(self.dispatch.submit(Command::Define(define)).await)
    }

    /// A resource as a customer sees it. Cancel-safe.
    pub async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        self.dispatch.read(self.database.resource(id)).await
    }

    /// A page of resources in id order. Cancel-safe.
    pub async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError> {
        self.dispatch.read(self.database.resources(page)).await
    }

    /// A reservation as a customer sees it, with its SmartKey if one was issued. Cancel-safe.
    pub async fn reservation(
        &self,
        token: Token,
    ) -> Result<Option<(Reservation, Option<SmartKey>)>, StoreError> {
        let Some(reservation) = self.dispatch.read(self.database.reservation(token)).await? else {
            return Ok(None);
        };
        let may_have_key = matches!(reservation.status, Status::Committed | Status::Cancelled);
        let key = if may_have_key { self.dispatch.read(self.database.smart_key(token)).await? } else { None };
        Ok(Some((reservation, key)))
    }

    /// Checks whether commands can be served now: not while the process drains, and not if the database accepts no
    /// writes. However many callers ask, one check is in flight, and its result serves for a second. Cancel-safe.
    pub async fn ready(&self) -> Result<(), DispatchError> {
        self.readiness.check(|| self.dispatch.ping()).await
    }

    /// Answers from now on that the process is not ready, and serves all the same, so that load balancers send their
    /// requests elsewhere before it stops.
    pub fn drain(&self) {
        self.readiness.drain();
    }

    /// The first background task that ended although it should not have, if there is one. The process should end.
    pub fn task_failure(&self) -> Option<&TaskFailure> {
        self.supervisor.failure()
    }

    /// Wraps the work of a task that the caller spawns and waits for, so that a panic of it counts as a failure of the
    /// process.
    pub fn watch(
        &self,
        task: &'static str,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.supervisor.watch(task, Ends::WhenDone, run)
    }

    /// Waits until a background task ends that should not. Cancel-safe.
    pub async fn task_failed(&self) -> TaskFailure {
        self.supervisor.failed().await
    }

    /// Updates the gauges: queues and pools each time, and the counts of the database at most every five seconds,
    /// because counting costs more as the outbox grows. Cancel-safe.
    pub async fn refresh_metrics(&self) {
        telemetry::set_queue(self.dispatch.waiting());
        for pool in self.database.pools() {
            telemetry::set_pool(pool);
        }
        {
            let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
            if refreshed.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
                return;
            }
            *refreshed = Some(Instant::now());
        }
        if let Ok(backlog) = self.dispatch.read(self.database.backlog()).await {
            telemetry::set_backlog(backlog.unpublished, backlog.lag(), backlog.blocked, backlog.parked);
        }
        self.refresh_webhook_metrics().await;
        if let Ok(due) = self.dispatch.read(self.database.due(0)).await {
            let overdue = due.next.map_or(Duration::ZERO, |next| {
                Duration::try_from(due.now.duration_since(next)).unwrap_or_default()
            });
            telemetry::set_overdue_hold(overdue);
        }
        if let Ok(Some(last)) = self.dispatch.read(self.database.last_verification()).await {
            let age = Duration::try_from(last.now.duration_since(last.at)).unwrap_or_default();
            telemetry::set_verification(last.findings, age);
        }
    }

    /// Audits the books, records the number of findings in the database, and returns it.
    pub async fn verify(&self) -> Result<u64, DispatchError> {
        let audit = self.dispatch.read(self.database.audit()).await?;
        for finding in &audit.findings {
            tracing::error!(
                invariant = finding.invariant,
                id = finding.id,
                problem = finding.problem,
                "the audit found a violation"
            );
        }
        let findings = audit.findings.len() as u64;
        self.dispatch.run_maintenance(self.database.record_verification(findings)).await?;
        Ok(findings)
    }

    /// The numbers of attempts to acquire distributed locks; `None` if the strategy uses no such lock.
    pub fn lock_counts(&self) -> Option<LockCounts> {
        self.locks.as_ref().map(|locks| locks.counts())
    }

    /// Shuts down: accepted commands finish, then the store is closed.
    pub async fn stop(&self) {
        self.supervisor.stop();
        self.dispatch.stop().await;
        self.supervisor.wait().await;
        self.database.close().await;
    }
}

/// Draws a token. Every random bit is drawn afresh: most `UUIDv7` generators keep a counter within a millisecond,
/// with which the owner of one token could guess its neighbours.
fn draw_token() -> Token {
    Token::from_uuid(draw_uuid())
}

fn draw_uuid() -> Uuid {
    let now = jiff::Timestamp::now();
    // Before 1970 the clock is certainly wrong; the token is still unique and unguessable.
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}
