//! The port of consumers: the inbox records the events that a consumer has applied, in the transaction of their
//! effects. Also how every back end applies a batch of events.

use std::{
    collections::{BTreeSet, HashSet},
    future::Future,
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Purged, StoreError, batch};
use crate::{
    effects::{
        self, BooksVerdict, EffectChanges, EffectOutcome, EffectSet, KnownBooks, SmartKey, Subscription,
    },
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
    telemetry::{self, spans},
};

/// The result of applying a batch of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that took effect (or have none).
    pub applied: u64,
    /// Events that had been applied before.
    pub duplicates: u64,
    /// Events that arrived after newer ones of their subject, or whose reservation was purged: recorded, and without
    /// effect.
    pub stale: u64,
    /// Webhook deliveries that the events caused.
    pub deliveries: u64,
    /// Events that the books contradict: without effect, and not recorded.
    pub refused: Vec<RefusedEvent>,
}

/// An event that did not happen according to the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEvent {
    /// Its position in the batch.
    pub at: usize,
    /// The contradiction.
    pub reason: String,
}

/// The ways in which a SmartKey can differ from the status of its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMismatch {
    /// The reservation is committed, and has no valid key.
    Missing,
    /// The reservation is not committed, and has a key that was not revoked.
    Unwarranted,
}

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, other: Self) {
        self.applied += other.applied;
        self.duplicates += other.duplicates;
        self.stale += other.stale;
        self.deliveries += other.deliveries;
        self.refused.extend(other.refused);
    }
}

/// The inbox. Each method is one whole transaction.
#[async_trait]
pub trait InboxStore: Send + Sync + 'static {
    /// Applies events in order: those that `consumer` has not applied before, and that the books confirm, take effect,
    /// all or none. Not cancel-safe.
    async fn apply(&self, consumer: &str, events: &[Incoming]) -> Result<Applied, StoreError>;

    /// Reads the SmartKey of a reservation. Cancel-safe.
    async fn smart_key(&self, token: Token) -> Result<Option<SmartKey>, StoreError>;

    /// Returns those of these events that `consumer` has applied. Cancel-safe.
    async fn applied(&self, consumer: &str, events: &[Uuid]) -> Result<HashSet<Uuid>, StoreError>;

    /// Finds reservations whose SmartKey does not match their status, including those whose event is still in flight.
    /// At most a thousand of each kind. Cancel-safe.
    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError>;

    /// The instant since which the outbox has every event that was ever written; `None` if no event was ever purged.
    /// Cancel-safe.
    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Deletes the records of events that were applied longer than `kept_for` ago, at most `limit` of them. Not
    /// cancel-safe.
    async fn purge_inbox(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError>;
}

/// The result of the lookup before anything is locked.
#[derive(Debug, Default)]
pub(super) struct InboxLookup {
    /// Events that were applied before.
    pub(super) applied: HashSet<Uuid>,
    /// Those of the requested resources that issue a SmartKey.
    pub(super) opened_by_key: HashSet<ResourceId>,
    /// What the books say about the requested reservations and resources.
    pub(super) books: KnownBooks,
}

/// The locked records.
#[derive(Debug)]
pub(super) struct InboxClaim {
    pub(super) now: Timestamp,
    pub(super) smart_keys: Vec<SmartKey>,
    /// Webhook endpoints, enabled or not. None of them is deleted before its deliveries are written.
    pub(super) subscriptions: Vec<Subscription>,
}

/// A transaction of a back end. If it is dropped without [`InboxSession::commit`], it must roll back.
pub(super) trait InboxSession: Send + Sized {
    /// Looks up which events were applied before, and what the books say about their subjects, without locks.
    /// Leaves `kept_since` of the books as it is.
    fn look_up(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        reservations: &BTreeSet<Token>,
        resources: &BTreeSet<ResourceId>,
    ) -> impl Future<Output = Result<InboxLookup, StoreError>> + Send;

    /// The instant before which reservations may have been purged.
    fn reservations_kept_since(&mut self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;

    /// Records events as applied, which fails if another consumer has done so meanwhile; then locks SmartKeys in the
    /// order of their tokens, and reads them and the clock.
    fn claim(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        tokens: &BTreeSet<Token>,
    ) -> impl Future<Output = Result<InboxClaim, StoreError>> + Send;

    /// Writes the changes and commits.
    fn commit(self, changes: EffectChanges) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a transaction that has nothing to write.
    fn end(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Applies a batch of events with [`batch::with_retries`].
pub(super) async fn apply<S, Begun>(
    begin: impl Fn() -> Begun + Send + Sync,
    consumer: &str,
    events: &[Incoming],
) -> Result<Applied, StoreError>
where
    S: InboxSession,
    Begun: Future<Output = Result<S, StoreError>> + Send,
{
    batch::with_retries(|_| async { apply_once(begin().await?, consumer, events).await }).await
}

async fn apply_once<S: InboxSession>(
    mut session: S,
    consumer: &str,
    events: &[Incoming],
) -> Result<Applied, StoreError> {
    let began = spans::now();
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    let (reservations, resources) = (effects::reservations_of(events), effects::resources_of(events));
    let InboxLookup { applied: mut seen, opened_by_key, mut books } =
        session.look_up(consumer, &ids, &reservations, &resources).await?;
    let fresh: Vec<(usize, &Incoming)> =
        events.iter().enumerate().filter(|(_, event)| seen.insert(event.event_id)).collect();
    let mut applied = Applied { duplicates: (events.len() - fresh.len()) as u64, ..Applied::default() };
    if books.misses_any(fresh.iter().map(|(_, event)| *event)) {
        books.kept_since = session.reservations_kept_since().await?;
    }
    let (mut known, mut purged) = (Vec::new(), Vec::new());
    for (at, event) in fresh {
        match books.judge(event) {
            BooksVerdict::Known => known.push(event),
            BooksVerdict::Purged => purged.push(event),
            BooksVerdict::Contradicted(reason) => applied.refused.push(RefusedEvent { at, reason }),
        }
    }
    if known.is_empty() && purged.is_empty() {
        session.end().await?;
        return Ok(applied);
    }
    let mut ids: Vec<Uuid> = known.iter().chain(&purged).map(|event| event.event_id).collect();
    // All consumers lock in the same order, so they wait for each other instead of deadlocking.
    ids.sort_unstable();
    let tokens = effects::tokens_of(&known);
    let InboxClaim { now, smart_keys, subscriptions } = session.claim(consumer, &ids, &tokens).await?;
    let mut set = EffectSet::new(now, opened_by_key, smart_keys, subscriptions);
    let became: Vec<EffectOutcome> =
        known.iter().map(|event| effects::apply(event, rand::random(), &mut set)).collect();
    applied.stale = became.iter().filter(|became| **became == EffectOutcome::Stale).count() as u64;
    applied.applied = became.len() as u64 - applied.stale;
    applied.stale += purged.len() as u64;
    let changes = set.into_changes();
    applied.deliveries = changes.deliveries.len() as u64;
    let refused = changes.deliveries.iter().filter(|delivery| delivery.refused.is_some()).count() as u64;
    session.commit(changes).await?;
    telemetry::count_webhook_unsent("full", refused);
    for (event, became) in known.iter().zip(became) {
        log_effect(event, became);
        spans::applied(event, consumer, began);
    }
    for event in purged {
        let (event_id, kind) = (event.event_id, event.kind.as_str());
        tracing::warn!(%event_id, kind, "ignored an event of a reservation that was purged");
    }
    Ok(applied)
}

/// Logs the effect of an event with the ids of the event and its trace.
fn log_effect(event: &Incoming, became: EffectOutcome) {
    let (event_id, kind) = (event.event_id, event.kind.as_str());
    let trace_id = event.trace.map(|trace| trace.trace_id()).map(tracing::field::display);
    match became {
        EffectOutcome::Done => tracing::debug!(%event_id, kind, trace_id, "an event is applied"),
        EffectOutcome::Stale => {
            tracing::info!(%event_id, kind, trace_id, "ignored an event that arrived after newer ones of its subject");
        }
    }
}
