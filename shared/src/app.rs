//! Wires the parts: the one place where back ends are named, and what triggers (HTTP, commands, schedules) call.
//!
//! Never: rules, SQL, HTTP.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::{NoContext, Uuid};

use crate::{
    config::Config,
    engine::{
        Accepted, Change, Command, Define, Extend, Limits, Outcome, Refusal, Reservation, ReserveDraft,
        Resource, ResourceChange, ResourceId, Token, Ttl,
    },
    expiry::Expiry,
    lanes::{Dispatch, DispatchError},
    store::{
        Clock, Mode, Page, Store, StoreError,
        sqlite::{SqliteOptions, SqliteStore},
    },
    telemetry,
};

/// Commands per transaction of an import: others wait no longer for it than for a full lane.
const IMPORT_BATCH: usize = 500;

/// How the books are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To serve: created if missing.
    Serve,
    /// To look: must exist, nothing is written.
    Audit,
}

/// Opens the books that a configuration names; does not migrate them.
///
/// # Errors
/// The database cannot be opened.
pub async fn open_store(config: &Config, access: Access) -> Result<Arc<dyn Store>, StoreError> {
    let options = SqliteOptions {
        create: access == Access::Serve,
        read_only: access == Access::Audit,
        readers: config.read_connections,
        clock: Clock::Own,
    };
    Ok(Arc::new(SqliteStore::open(&config.database_url, options).await?))
}

/// A running engine.
pub struct App {
    store: Arc<dyn Store>,
    dispatch: Arc<Dispatch>,
    limits: Limits,
    timer: CancellationToken,
    tasks: TaskTracker,
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
    pub fn start(store: Arc<dyn Store>, config: &Config) -> Self {
        let dispatch = Arc::new(Dispatch::start(&store, config.dispatch_plan(), config.lane_queue));
        let app = Self {
            store,
            dispatch,
            limits: config.limits.clone(),
            timer: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        app.tasks.close();
        app
    }

    /// Starts the timer that ends holds on time.
    pub fn start_timer(&self) {
        let expiry = Expiry::new(self.store.clone(), self.dispatch.clone());
        let stop = self.timer.clone();
        self.tasks.spawn(async move { expiry.run(stop).await });
    }

    /// What one request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Holds units, or finds the reservation that its key made. Cancel-safe: see [`Dispatch::submit`].
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
            let batch: Vec<Command> = commands.by_ref().take(IMPORT_BATCH).collect();
            let store = self.store.clone();
            let executed = self.tasks.spawn(async move { store.execute(&batch, mode).await }).await;
            for outcome in executed.map_err(|_panicked| DispatchError::Panicked)??.outcomes {
                results.push(defined(Ok(outcome))?);
            }
        }
        Ok(results)
    }

    /// A resource as a customer sees it. Cancel-safe.
    pub async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, DispatchError> {
        Ok(self.store.resource(id).await?)
    }

    /// A page of resources, in id order. Cancel-safe.
    pub async fn resources(&self, page: &Page) -> Result<Vec<Resource>, DispatchError> {
        Ok(self.store.resources(page).await?)
    }

    /// A reservation as a customer sees it. Cancel-safe.
    pub async fn reservation(&self, token: Token) -> Result<Option<Reservation>, DispatchError> {
        Ok(self.store.reservation(token).await?)
    }

    /// Whether commands can be served now. Cancel-safe.
    pub async fn ready(&self) -> Result<(), DispatchError> {
        let store = self.store.clone();
        let ping = self.tasks.spawn(async move { store.ping().await });
        Ok(ping.await.map_err(|_panicked| DispatchError::Panicked)??)
    }

    /// Reads what only the database knows into the metrics. Cancel-safe.
    pub async fn refresh_metrics(&self) {
        match self.store.outbox().await {
            Ok(outbox) => telemetry::outbox_backlog(outbox.unpublished),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "the outbox could not be counted; its metric is stale");
            }
        }
    }

    /// Lets what was accepted finish, then closes the store.
    pub async fn stop(&self) {
        self.timer.cancel();
        self.dispatch.stop().await;
        self.tasks.wait().await;
        self.store.close().await;
    }
}

/// Draws a token. Every random bit is drawn anew: the counter that most `UUIDv7` generators keep within a millisecond
/// would let whoever holds one token guess its neighbours.
fn draw_token() -> Token {
    let now = jiff::Timestamp::now();
    // Before 1970 the clock is wrong anyhow; the token stays unique and unguessable.
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Token::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos)))
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
