//! Wires the parts: the one place where back ends are named, and what triggers (HTTP, commands, schedules) call.
//!
//! Never: rules, SQL, HTTP. Next: `app/webhooks.rs` for what it does about webhooks, `app/chores.rs` for processes that are
//! frozen between invocations.

mod chores;
mod events;
mod webhooks;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::{NoContext, Uuid};
pub use webhooks::{Tested, WebhookAnswer};

use webhooks::Webhooks;

use crate::{
    config::{Config, EventLog, SecretUrl, Strategy},
    effects::SmartKey,
    engine::{
        Accepted, Change, Command, Define, Extend, Limits, Outcome, Refusal, Reservation, ReserveDraft,
        Resource, ResourceChange, ResourceId, Status, Token, Ttl,
    },
    expiry::Expiry,
    fleet::{Gate, Limited, Node, RateLimiter},
    lanes::{Dispatch, DispatchError},
    lock::{DatabaseLock, DistributedLock, LockCounts, LockKind, Locks},
    retention::{Purger, Retention},
    store::{Database, Mode, Page, StoreError},
    telemetry,
    until::Until,
};

/// Commands per transaction of an import: others wait no longer for it than for a full lane.
const IMPORT_BATCH: usize = 500;
/// How often the metrics ask the database.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

use events::EventsWay;
pub use events::{EventsError, dead_letters};

/// How the books are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To serve: created if missing.
    Serve,
    /// To look after them: must exist.
    Tend,
    /// To look: must exist, nothing is written.
    Audit,
}

/// Opens the books that a configuration names; does not migrate them.
///
/// # Errors
/// The database cannot be opened, or this build has no back end for it.
pub async fn open_store(config: &Config, access: Access) -> Result<Arc<dyn Database>, StoreError> {
    #[cfg(feature = "sqlite")]
    if config.database_url.starts_with("sqlite:") {
        use crate::store::{
            Clock,
            sqlite::{SqliteOptions, SqliteStore},
        };
        let options = SqliteOptions {
            create: access == Access::Serve,
            read_only: access == Access::Audit,
            readers: config.read_connections,
            clock: Clock::Own,
        };
        return Ok(Arc::new(SqliteStore::open(&config.database_url, options).await?));
    }
    #[cfg(feature = "mysql")]
    if config.database_url.starts_with("mysql:") {
        use crate::store::{
            Clock,
            mysql::{MysqlOptions, MysqlStore},
        };
        let options = MysqlOptions {
            writers: config.write_connections,
            readers: config.read_connections,
            guard: config.strategy.guard(),
            clock: Clock::Own,
        };
        return Ok(Arc::new(MysqlStore::new(&config.database_url, options)?));
    }
    let _ = access;
    let source = format!("no back end for {:?} in this build", config.database_url.split(':').next());
    Err(StoreError::Unavailable {
        reason: "the URL names a database that this build does not have",
        source: source.into(),
    })
}

/// Creates the database that a configuration names, if it is not there; whether it was not. A file of `SQLite` is made by
/// whoever opens it to serve.
///
/// # Errors
/// The server is away, or the account may not create databases.
pub async fn create_database(config: &Config) -> Result<bool, StoreError> {
    #[cfg(feature = "mysql")]
    if config.database_url.starts_with("mysql:") {
        return crate::store::mysql::create_database(&config.database_url).await;
    }
    let _ = config;
    Ok(false)
}

/// The locks that a configuration's strategy takes around its transactions. Connects when first asked.
pub fn open_locks(database: Arc<dyn Database>, config: &Config) -> Option<Arc<Locks>> {
    let lock: Arc<dyn DistributedLock> = match config.strategy.lock()? {
        LockKind::Database => Arc::new(DatabaseLock::new(database)),
        LockKind::Redlock => Arc::new(crate::lock::Redlock::new(crate::lock::RedlockOptions {
            urls: config.locks.redis_urls.iter().map(|url| url.to_string()).collect(),
            node_timeout: config.locks.node_timeout,
        })),
    };
    Some(Arc::new(Locks::new(lock, config.locks.timeout, config.locks.lease)))
}

/// A running engine.
pub struct App {
    database: Arc<dyn Database>,
    webhooks: Webhooks,
    dispatch: Arc<Dispatch>,
    locks: Option<Arc<Locks>>,
    redis: Option<Arc<Node>>,
    rate_limiter: Option<RateLimiter>,
    limits: Limits,
    retention: Retention,
    background: CancellationToken,
    tasks: TaskTracker,
    refreshed: Mutex<Option<Instant>>,
}

/// A reservation, and whether an earlier request under the same key made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The reservation as it is now.
    pub reservation: Reservation,
    /// Whether this is the answer to a retry.
    pub replayed: bool,
}

/// A resource, and what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// The resource as it is now.
    pub resource: Resource,
    /// What was done.
    pub change: ResourceChange,
}

/// What became of a request: an answer, a refusal, or a failure that the operator must know of.
pub type Answer<T> = Result<Result<T, Refusal>, DispatchError>;

impl App {
    /// Starts an engine on migrated books.
    pub fn start(database: Arc<dyn Database>, config: &Config) -> Self {
        telemetry::note_build(if config.database_url.starts_with("mysql:") { "mysql" } else { "sqlite" });
        let locks = open_locks(database.clone(), config);
        let (plan, queue) = (config.dispatch_plan(), config.lane_queue);
        let dispatch = Arc::new(Dispatch::start_with(database.clone(), plan, queue, locks.clone()));
        let fleet = &config.fleet;
        let shared_through = |url: &SecretUrl| Node::new(url, fleet.timeout);
        let redis = fleet.redis_url.as_ref().map(shared_through);
        let limiter = |rate| RateLimiter::new(rate, fleet.scope.clone(), redis.clone());
        let app = Self {
            webhooks: Webhooks::new(database.clone(), &config.webhooks),
            database,
            dispatch,
            locks,
            rate_limiter: fleet.rate_limit.map(limiter),
            redis,
            limits: config.limits.clone(),
            retention: config.retention,
            background: CancellationToken::new(),
            tasks: TaskTracker::new(),
            refreshed: Mutex::default(),
        };
        app.tasks.close();
        app
    }

    /// Starts the timer that ends holds on time.
    pub fn start_timer(&self) {
        let expiry = Expiry::new(self.database.clone(), self.dispatch.clone());
        self.tasks.spawn(expiry.run(Until::Stopped, self.background.clone()));
    }

    /// Starts the task that forgets what is old.
    pub fn start_purger(&self) {
        let mut purger = Purger::new(self.database.clone(), self.dispatch.clone(), self.retention);
        let stop = self.background.clone();
        self.tasks.spawn(async move { purger.run(Until::Stopped, stop).await });
    }

    /// Starts to tell other processes what is sold out, and to learn it from them, where a Redis is there for it. Only lanes
    /// refuse by it, and SQLite's books have no fleet.
    pub fn start_gate(&self, config: &Config) {
        let in_fleet = config.strategy == Strategy::Lanes && config.database_url.starts_with("mysql:");
        if let (Some(node), true) = (&self.redis, in_fleet) {
            let channel = format!("{}:gate:v1", config.fleet.scope);
            let gate = Gate::new(node.clone(), channel, self.dispatch.sold_out());
            gate.start(&self.tasks, &self.background);
        }
    }

    /// Starts the way of events: the relay, and the consumer of what it publishes, as far as this process has them.
    ///
    /// Where no broker answers yet, both start when one does; until then events wait in the outbox.
    ///
    /// # Errors
    /// The configuration cannot be right, whatever the brokers do: see [`EventsError`].
    pub async fn start_events(&self, config: &Config) -> Result<(), EventsError> {
        let way = EventsWay {
            store: self.database.clone(),
            written: self.dispatch.written(),
            deliveries: self.webhooks_due(),
            stop: self.background.clone(),
            tasks: self.tasks.clone(),
        };
        match &config.events {
            EventLog::Embedded => way.start_embedded(config),
            EventLog::Kafka(kafka) => way.start_kafka(config, kafka).await?,
        }
        Ok(())
    }

    /// What one request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Holds units, or finds the reservation that its key made, if its holder does not ask too often. The answer to a retry is
    /// not counted. Cancel-safe: see [`Dispatch::submit`].
    ///
    /// # Errors
    /// Its holder asks more often than the rate limit allows.
    pub async fn reserve_within_limit(&self, draft: ReserveDraft) -> Result<Answer<Booked>, Limited> {
        let Some(limiter) = &self.rate_limiter else { return Ok(self.reserve(draft).await) };
        let allowed = limiter.take(draft.holder.as_ref()).await?;
        let answer = self.reserve(draft).await;
        if let (Some(allowed), Ok(Ok(Booked { replayed: true, .. }))) = (allowed, &answer) {
            limiter.give_back(allowed).await;
        }
        Ok(answer)
    }

    /// Holds units, or finds the reservation that its key made, however often its holder asks. Cancel-safe: see
    /// [`Dispatch::submit`].
    pub async fn reserve(&self, draft: ReserveDraft) -> Answer<Booked> {
        booked(self.dispatch.submit(Command::Reserve(draft.with_token(draw_token()))).await)
    }

    /// Makes a hold final. Cancel-safe: see [`Dispatch::submit`].
    pub async fn commit(&self, token: Token) -> Answer<Booked> {
        booked(self.dispatch.submit(Command::Commit(token)).await)
    }

    /// Gives a hold back. Cancel-safe: see [`Dispatch::submit`].
    pub async fn release(&self, token: Token) -> Answer<Booked> {
        booked(self.dispatch.submit(Command::Release(token)).await)
    }

    /// Lengthens a hold. Cancel-safe: see [`Dispatch::submit`].
    pub async fn extend(&self, token: Token, ttl: Ttl) -> Answer<Booked> {
        let life_max_seconds = self.limits.life_max_seconds;
        booked(self.dispatch.submit(Command::Extend(Extend { token, ttl, life_max_seconds })).await)
    }

    /// Gives a committed reservation back. Cancel-safe: see [`Dispatch::submit`].
    pub async fn cancel(&self, token: Token) -> Answer<Booked> {
        booked(self.dispatch.submit(Command::Cancel(token)).await)
    }

    /// Creates a resource or changes it. Cancel-safe: see [`Dispatch::submit`].
    pub async fn define(&self, define: Define) -> Answer<Defined> {
        defined(self.dispatch.submit(Command::Define(define)).await)
    }

    /// Creates and changes many resources, some hundred per transaction, and says what became of each; with `DryRun`,
    /// what would. The transaction under way is finished even if the caller goes away; the rest is not begun.
    ///
    /// # Errors
    /// The store failed; what was imported until then stays.
    pub async fn import(
        &self,
        defines: Vec<Define>,
        mode: Mode,
    ) -> Result<Vec<Result<Defined, Refusal>>, DispatchError> {
        let mut results = Vec::with_capacity(defines.len());
        let mut commands = defines.into_iter().map(Command::Define).peekable();
        while commands.peek().is_some() {
            let batch = commands.by_ref().take(IMPORT_BATCH).collect();
            for outcome in self.dispatch.submit_batch(batch, mode).await? {
                results.push(defined(Ok(outcome))?);
            }
        }
        Ok(results)
    }

    /// A resource as a customer sees it. Cancel-safe.
    pub async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, DispatchError> {
        self.dispatch.read(self.database.resource(id)).await
    }

    /// A page of resources, in id order. Cancel-safe.
    pub async fn resources(&self, page: &Page) -> Result<Vec<Resource>, DispatchError> {
        self.dispatch.read(self.database.resources(page)).await
    }

    /// A reservation as a customer sees it, with its key where one was issued. Cancel-safe.
    pub async fn reservation(
        &self,
        token: Token,
    ) -> Result<Option<(Reservation, Option<SmartKey>)>, DispatchError> {
        let Some(reservation) = self.dispatch.read(self.database.reservation(token)).await? else {
            return Ok(None);
        };
        let may_have_key = matches!(reservation.status, Status::Committed | Status::Cancelled);
        let key = if may_have_key { self.dispatch.read(self.database.smart_key(token)).await? } else { None };
        Ok(Some((reservation, key)))
    }

    /// Whether commands can be served now. Cancel-safe.
    pub async fn ready(&self) -> Result<(), DispatchError> {
        self.dispatch.ping().await
    }

    /// Brings the metrics up to date: queues and pools as they are now, and what only the database knows; that not more
    /// often than every five seconds, because counting costs the more the longer the outbox is. Cancel-safe.
    pub async fn refresh_metrics(&self) {
        telemetry::note_queue(self.dispatch.waiting());
        telemetry::note_pools(&self.database.pools());
        {
            let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
            if refreshed.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
                return;
            }
            *refreshed = Some(Instant::now());
        }
        if let Ok(backlog) = self.dispatch.read(self.database.backlog()).await {
            telemetry::note_backlog(&backlog);
        }
        self.refresh_webhook_metrics().await;
    }

    /// What became of attempts to take distributed locks; none where the strategy takes no such lock. All that is needed to
    /// tell how many waited.
    pub fn lock_counts(&self) -> Option<LockCounts> {
        self.locks.as_ref().map(|locks| locks.counts())
    }

    /// Lets what was accepted finish, then closes the store.
    pub async fn stop(&self) {
        self.background.cancel();
        self.dispatch.stop().await;
        self.tasks.wait().await;
        self.database.close().await;
    }
}

/// Draws a token. Every random bit is drawn anew: the counter that most `UUIDv7` generators keep within a millisecond
/// would let whoever holds one token guess its neighbours.
fn draw_token() -> Token {
    Token::from_uuid(draw_uuid())
}

fn draw_uuid() -> Uuid {
    let now = jiff::Timestamp::now();
    // Before 1970 the clock is wrong anyhow; the token stays unique and unguessable.
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}

fn booked(outcome: Result<Outcome, DispatchError>) -> Answer<Booked> {
    Ok(match outcome? {
        Ok(Accepted::Reservation { reservation, change }) => {
            Ok(Booked { reservation, replayed: change == Change::Replayed })
        }
        Ok(Accepted::Resource { resource, .. }) => return Err(another_answer(&resource.id)),
        Err(refusal) => Err(refusal),
    })
}

fn defined(outcome: Result<Outcome, DispatchError>) -> Answer<Defined> {
    Ok(match outcome? {
        Ok(Accepted::Resource { resource, change }) => Ok(Defined { resource, change }),
        Ok(Accepted::Reservation { reservation, .. }) => return Err(another_answer(&reservation.token)),
        Err(refusal) => Err(refusal),
    })
}

/// The engine answers every command in kind; anything else means that somebody got another's answer.
fn another_answer(about: &dyn std::fmt::Display) -> DispatchError {
    debug_assert!(false, "an answer about {about} reached another's caller");
    StoreError::Corrupt { what: format!("an answer about {about} reached another's caller") }.into()
}
