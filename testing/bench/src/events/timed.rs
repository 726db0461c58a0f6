//! Measures how a relay or consumer divides its time: wrappers of its ports that add up the time of each kind of call.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bespeak::{
    effects::SmartKey,
    engine::{Timestamp, Token},
    envelope::{Incoming, OutboxEvent},
    events::{PublishError, Publisher},
    store::{
        Applied, Backlog, InboxStore, KeyMismatch, Leases, OutboxRead, OutboxStore, Purged, Sent, StoreError,
        Unpublished,
    },
};
use uuid::Uuid;

/// The total time of one kind of work, in microseconds.
#[derive(Default)]
pub(super) struct Spent(AtomicU64);

impl Spent {
    /// Awaits work and adds the time that it took.
    async fn measure<T>(&self, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_add(micros, Ordering::Relaxed);
        done
    }

    /// Its share of a total time, between 0 and 1.
    pub(super) fn share_of(&self, whole: Duration) -> f64 {
        Duration::from_micros(self.0.load(Ordering::Relaxed)).as_secs_f64() / whole.as_secs_f64()
    }
}

/// An outbox that measures reading and marking.
pub(super) struct TimedOutbox {
    store: Arc<dyn OutboxStore>,
    pub(super) reading: Spent,
    pub(super) marking: Spent,
}

impl TimedOutbox {
    pub(super) fn new(store: Arc<dyn OutboxStore>) -> Self {
        Self { store, reading: Spent::default(), marking: Spent::default() }
    }
}

#[async_trait]
impl OutboxStore for TimedOutbox {
    async fn lease(
        &self,
        relay: Uuid,
        fencing: Option<u64>,
        lease_for: Duration,
    ) -> Result<Leases, StoreError> {
        self.store.lease(relay, fencing, lease_for).await
    }

    async fn leave(&self, relay: Uuid) -> Result<(), StoreError> {
        self.store.leave(relay).await
    }

    async fn unpublished(&self, wanted: &OutboxRead<'_>) -> Result<Unpublished, StoreError> {
        self.reading.measure(self.store.unpublished(wanted)).await
    }

    async fn first_unpublished(&self, keys: &[&str]) -> Result<HashMap<String, i64>, StoreError> {
        self.reading.measure(self.store.first_unpublished(keys)).await
    }

    async fn record_results(&self, relay: Uuid, fencing: u64, sent: &Sent) -> Result<u64, StoreError> {
        self.marking.measure(self.store.record_results(relay, fencing, sent)).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.store.backlog().await
    }
}

/// A publisher that measures publishing.
pub(super) struct TimedPublisher<P> {
    publisher: P,
    pub(super) publishing: Spent,
}

impl<P: Publisher> TimedPublisher<P> {
    pub(super) fn new(publisher: P) -> Self {
        Self { publisher, publishing: Spent::default() }
    }
}

#[async_trait]
impl<P: Publisher> Publisher for TimedPublisher<P> {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        self.publishing.measure(self.publisher.publish(events)).await
    }
}

/// An inbox that measures its transactions and records its progress.
pub(super) struct TimedInbox {
    store: Arc<dyn InboxStore>,
    pub(super) applying: Spent,
    progress: Mutex<Progress>,
}

/// The events that were applied, and the time of the batches.
#[derive(Clone, Default)]
pub(super) struct Progress {
    pub(super) applied: Applied,
    /// The start of the first batch and the end of the last.
    during: Option<(Instant, Instant)>,
}

impl Progress {
    /// The time from the start of the first batch to the end of the last.
    pub(super) fn took(&self) -> Duration {
        self.during.map_or(Duration::ZERO, |(first, last)| last - first)
    }
}

impl TimedInbox {
    pub(super) fn new(store: Arc<dyn InboxStore>) -> Self {
        Self { store, applying: Spent::default(), progress: Mutex::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl InboxStore for TimedInbox {
    async fn apply(&self, consumer: &str, events: &[Incoming]) -> Result<Applied, StoreError> {
        let began = Instant::now();
        let applied = self.applying.measure(self.store.apply(consumer, events)).await?;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.applied += applied.clone();
        let first = progress.during.map_or(began, |(first, _)| first);
        progress.during = Some((first, Instant::now()));
        Ok(applied)
    }

    async fn smart_key(&self, token: Token) -> Result<Option<SmartKey>, StoreError> {
        self.store.smart_key(token).await
    }

    async fn applied(&self, consumer: &str, events: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        self.store.applied(consumer, events).await
    }

    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError> {
        self.store.key_mismatches().await
    }

    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.events_kept_since().await
    }

    async fn purge_inbox(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        self.store.purge_inbox(kept_for, limit).await
    }
}
