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
    effects::{self, EffectChanges, EffectOutcome, EffectSet, SmartKey, Subscription},
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
    telemetry::spans,
};

/// The result of applying a batch of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that took effect (or have none).
    pub applied: u64,
    /// Events that had been applied before.
    pub duplicates: u64,
    /// Events that arrived after newer ones of their subject: recorded, and without effect.
    pub stale: u64,
    /// Webhook deliveries that the events caused.
    pub deliveries: u64,
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
    }
}

/// The inbox. Each method is one whole transaction.
#[async_trait]
pub trait InboxStore: Send + Sync + 'static {
    /// Applies events in order: those that `consumer` has not applied before take effect, all or none. Not
    /// cancel-safe.
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
}

/// The locked records.
#[derive(Debug)]
pub(super) struct InboxClaim {
    pub(super) now: Timestamp,
    pub(super) smart_keys: Vec<SmartKey>,
    /// Enabled webhook endpoints. None of them is deleted before its deliveries are written.
    pub(super) subscriptions: Vec<Subscription>,
}

/// A transaction of a back end. If it is dropped without [`InboxSession::commit`], it must roll back.
pub(super) trait InboxSession: Send + Sized {
    /// Looks up which events were applied before, without locks.
    fn look_up(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        resources: &BTreeSet<ResourceId>,
    ) -> impl Future<Output = Result<InboxLookup, StoreError>> + Send;

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
    let all: Vec<&Incoming> = events.iter().collect();
    let known = session.look_up(consumer, &ids, &effects::resources_of(&all)).await?;
    let mut seen = known.applied;
    let fresh: Vec<&Incoming> = events.iter().filter(|event| seen.insert(event.event_id)).collect();
    let mut applied = Applied { duplicates: (events.len() - fresh.len()) as u64, ..Applied::default() };
    if fresh.is_empty() {
        session.end().await?;
        return Ok(applied);
    }
    let mut ids: Vec<Uuid> = fresh.iter().map(|event| event.event_id).collect();
    // All consumers lock in the same order, so they wait for each other instead of deadlocking.
    ids.sort_unstable();
    let tokens = effects::tokens_of(&fresh);
    let InboxClaim { now, smart_keys, subscriptions } = session.claim(consumer, &ids, &tokens).await?;
    let mut set = EffectSet::new(now, known.opened_by_key, smart_keys, subscriptions);
    let became: Vec<EffectOutcome> =
        fresh.iter().map(|event| effects::apply(event, rand::random(), &mut set)).collect();
    applied.stale = became.iter().filter(|became| **became == EffectOutcome::Stale).count() as u64;
    applied.applied = became.len() as u64 - applied.stale;
    let changes = set.into_changes();
    applied.deliveries = changes.deliveries.len() as u64;
    session.commit(changes).await?;
    for (event, became) in fresh.iter().zip(became) {
        log_effect(event, became);
        spans::applied(event, consumer, began);
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
