//! The inbox: what a consumer has applied, and what that set off, in one transaction. The port of consumers, and the one
//! way in which every back end applies a batch.

use std::{
    collections::{BTreeSet, HashSet},
    future::Future,
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Purged, StoreError, batch};
use crate::{
    effects::{self, EffectChanges, EffectSet, Effected, SmartKey, Subscription},
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
    telemetry::spans,
};

/// What became of a batch of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that took effect (or have none).
    pub applied: u64,
    /// Events that had been applied before.
    pub duplicates: u64,
    /// Events that came after newer ones of their subject: noted, and without effect.
    pub stale: u64,
    /// Webhook deliveries that they set off.
    pub deliveries: u64,
}

/// How a SmartKey is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMismatch {
    /// The reservation is committed, and has none that opens it.
    Missing,
    /// It is not, and has one that was not revoked.
    Unwarranted,
}

/// Committed reservations of something that a key opens, without one.
pub(super) const KEYS_MISSING: &str = "SELECT DISTINCT r.token FROM reservations r
    JOIN resources s ON s.id = r.resource_id AND s.fulfilment = 'SMART_KEY'
    LEFT JOIN smart_keys k ON k.token = r.token
    WHERE r.status = 'COMMITTED' AND (k.code IS NULL OR k.revoked_at IS NOT NULL) LIMIT 1000";
/// Keys that open something, of reservations that are not committed (or are not there).
pub(super) const KEYS_UNWARRANTED: &str = "SELECT k.token FROM smart_keys k
    LEFT JOIN reservations r ON r.token = k.token AND r.item_no = 0
    WHERE k.code IS NOT NULL AND k.revoked_at IS NULL AND (r.status IS NULL OR r.status <> 'COMMITTED') LIMIT 1000";
pub(super) const EVENTS_KEPT_SINCE: &str =
    "SELECT kept_since FROM retention WHERE what = 'outbox' AND kept_since > 0";

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, other: Self) {
        self.applied += other.applied;
        self.duplicates += other.duplicates;
        self.stale += other.stale;
        self.deliveries += other.deliveries;
    }
}

/// The inbox. A method is one whole transaction.
#[async_trait]
pub trait InboxStore: Send + Sync + 'static {
    /// Applies events in their order: those that `consumer` has not applied before take effect, all or none. Not
    /// cancel-safe.
    async fn apply(&self, consumer: &str, events: &[Incoming]) -> Result<Applied, StoreError>;

    /// The key of a reservation. Cancel-safe.
    async fn smart_key(&self, token: Token) -> Result<Option<SmartKey>, StoreError>;

    /// Those of these events that `consumer` has applied. Cancel-safe.
    async fn applied(&self, consumer: &str, events: &[Uuid]) -> Result<HashSet<Uuid>, StoreError>;

    /// Reservations whose SmartKey is not what their status says it must be; also those whose event is still under way. At
    /// most a thousand of each kind. Cancel-safe.
    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError>;

    /// From when on every event that was ever written is in the outbox; `None` where none was ever purged. Cancel-safe.
    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Forgets which events were applied longer than `kept_for` ago: at most `limit` of them. Not cancel-safe.
    async fn purge_inbox(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError>;
}

/// What is known before anything is locked.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Events that were applied before.
    pub(super) applied: HashSet<Uuid>,
    /// The resources among those asked for that a key opens.
    pub(super) opened_by_key: HashSet<ResourceId>,
}

/// What is locked.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) now: Timestamp,
    pub(super) smart_keys: Vec<SmartKey>,
    /// Webhook endpoints that are enabled: none goes before its deliveries are written.
    pub(super) subscriptions: Vec<Subscription>,
}

/// One transaction of a back end; dropped without [`InboxSession::commit`], it must roll back.
pub(super) trait InboxSession: Send + Sized {
    /// Looks up what is known, without locks.
    fn look(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        resources: &BTreeSet<ResourceId>,
    ) -> impl Future<Output = Result<Known, StoreError>> + Send;

    /// Notes events as applied, which fails where somebody else has done so meanwhile; then locks the keys of
    /// reservations, in token order, and reads them and the clock.
    fn take(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        tokens: &BTreeSet<Token>,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send;

    /// Writes what changed, and makes it last.
    fn commit(self, changes: EffectChanges) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends it where there was nothing to do.
    fn end(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Applies a batch; whole again, bounded and jittered, where it lost to another consumer or its connection broke.
pub(super) async fn apply<S, Begun>(
    begin: impl Fn() -> Begun + Send + Sync,
    consumer: &str,
    events: &[Incoming],
) -> Result<Applied, StoreError>
where
    S: InboxSession,
    Begun: Future<Output = Result<S, StoreError>> + Send,
{
    batch::with_retries(|_| async { settle(begin().await?, consumer, events).await }).await
}

async fn settle<S: InboxSession>(
    mut session: S,
    consumer: &str,
    events: &[Incoming],
) -> Result<Applied, StoreError> {
    let began = spans::now();
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    let all: Vec<&Incoming> = events.iter().collect();
    let known = session.look(consumer, &ids, &effects::resources_of(&all)).await?;
    let mut seen = known.applied;
    let fresh: Vec<&Incoming> = events.iter().filter(|event| seen.insert(event.event_id)).collect();
    let mut applied = Applied { duplicates: (events.len() - fresh.len()) as u64, ..Applied::default() };
    if fresh.is_empty() {
        session.end().await?;
        return Ok(applied);
    }
    let mut ids: Vec<Uuid> = fresh.iter().map(|event| event.event_id).collect();
    // In one order everywhere, so that consumers wait for each other and do not deadlock.
    ids.sort_unstable();
    let tokens = effects::tokens_of(&fresh);
    let Taken { now, smart_keys, subscriptions } = session.take(consumer, &ids, &tokens).await?;
    let mut set = EffectSet::new(now, known.opened_by_key, smart_keys, subscriptions);
    let became: Vec<Effected> = fresh.iter().map(|event| set.apply(event)).collect();
    applied.stale = became.iter().filter(|became| **became == Effected::Stale).count() as u64;
    applied.applied = became.len() as u64 - applied.stale;
    let changes = set.into_changes();
    applied.deliveries = changes.deliveries.len() as u64;
    session.commit(changes).await?;
    for (event, became) in fresh.iter().zip(became) {
        tell(event, became);
        spans::applied(event, consumer, began);
    }
    Ok(applied)
}

/// Says what became of an event, by the ids that its request and its relay are found by.
fn tell(event: &Incoming, became: Effected) {
    let (event_id, kind) = (event.event_id, event.kind.as_str());
    let trace_id = event.trace.map(|trace| trace.trace_id()).map(tracing::field::display);
    match became {
        Effected::Done => tracing::debug!(%event_id, kind, trace_id, "an event is applied"),
        Effected::Stale => {
            tracing::info!(%event_id, kind, trace_id, "an event comes after newer ones of its subject and changes nothing");
        }
    }
}
