//! The outbox: the ports of the relay and of operators.
//!
//! The lease is the claim: no row is locked, and no transaction is open, while events are in flight. A relay that was
//! frozen past its lease is refused by its fencing number when it marks events as published, and another relay sends
//! those events again. Never: an order by ids alone. The ids of one key are in commit order, because they are drawn
//! under the row lock of that key; the ids of different keys are not, so unpublished events are selected as such,
//! never as "after the last id". Next: `shards.rs` for which relay holds what, [`crate::events`] for the relay.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, shards::Leases};
use crate::{
    engine::{Event, Timestamp},
    envelope::OutboxEvent,
};

/// Unpublished events, oldest first.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// The time of the store's clock.
    pub now: Timestamp,
    /// The events: those of one key are in order and without gaps.
    pub events: Vec<OutboxEvent>,
}

/// An event that could not be published, and how long its key is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The id of its outbox row. The key is blocked only while this event is unpublished.
    pub id: i64,
    /// The ordering key of the event.
    pub key: String,
    /// The shard of the key.
    pub shard: u8,
    /// The id of the event.
    pub event_id: Uuid,
    /// The number of failed attempts in a row.
    pub attempts: u32,
    /// The reason of the last failure.
    pub reason: String,
    /// How long the key is blocked; `None` parks it until an operator acts.
    pub retry_after: Option<Duration>,
}

impl Blocked {
    /// The instant until which the key is blocked; a parked key waits for an operator.
    pub(super) fn until(&self, now: Timestamp) -> Timestamp {
        self.retry_after.and_then(|wait| now.checked_add(wait).ok()).unwrap_or(now)
    }
}

/// The results of publishing a batch.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Events whose publication was confirmed: id and shard.
    pub published: Vec<(i64, u8)>,
    /// Keys that had failed before, and whose first event is now published.
    pub unblocked: Vec<(String, u8)>,
    /// Keys whose event failed.
    pub blocked: Vec<Blocked>,
}

impl Sent {
    /// Keeps only the results of shards that are still held.
    pub(super) fn only(mut self, held: impl Fn(u8) -> bool) -> Self {
        self.published.retain(|(_, shard)| held(*shard));
        self.unblocked.retain(|(_, shard)| held(*shard));
        self.blocked.retain(|blocked| held(blocked.shard));
        self
    }
}

/// The result of a step of republishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Republished {
    /// Events that will be published again.
    pub events: u64,
    /// The id after which the next step starts; `None` at the end of the outbox.
    pub next: Option<i64>,
}

/// The size of the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The time of the store's clock.
    pub now: Timestamp,
    /// Events that await publication; counted up to [`Backlog::COUNTED_MAX`].
    pub unpublished: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
    /// Keys that are blocked after a failure, and will be retried; counted likewise.
    pub blocked: u64,
    /// Keys that are parked until an operator acts.
    pub parked: u64,
}

impl Backlog {
    /// Where counting stops, because it takes as long as there are rows. A longer backlog counts as this many.
    pub const COUNTED_MAX: u64 = 100_000;

    /// How long the oldest event has waited; zero if none waits.
    pub fn lag(&self) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| {
            Duration::try_from(self.now.duration_since(oldest)).unwrap_or_default()
        })
    }
}

/// The state of an outbox row, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// Not published yet.
    Waiting,
    /// Its key failed, and will be retried later.
    Blocked,
    /// Its key failed too often.
    Parked,
    /// In the event log, or skipped.
    Published,
}

impl OutboxState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Blocked, Self::Parked, Self::Published];

    /// The name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Parked => "parked",
            Self::Published => "published",
        }
    }
}

/// An outbox row, for operators.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// The event.
    pub event: OutboxEvent,
    /// The state, which all unpublished events of a key share.
    pub state: OutboxState,
    /// The instant of its publication.
    pub published_at: Option<Timestamp>,
    /// When its key is retried.
    pub blocked_until: Option<Timestamp>,
    /// The reason why its key failed.
    pub reason: Option<String>,
}

/// Selects the rows that an operator wants to see, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct OutboxFilter {
    /// Only rows in this state.
    pub state: Option<OutboxState>,
    /// Only rows of this key.
    pub key: Option<String>,
    /// Only the row of this event.
    pub event_id: Option<Uuid>,
    /// Only rows after this id.
    pub after: i64,
    /// The largest number of rows.
    pub limit: u32,
}

/// The part of the outbox that relays use. Each method is one whole transaction.
///
/// None but those that say so is cancel-safe.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Renews the shards that a relay holds, releases those beyond its share, acquires free ones, and returns what it
    /// holds now. Also joins a relay: without a fencing number, or with one whose lease has expired, it gets a new
    /// one.
    async fn lease(
        &self,
        relay: Uuid,
        fencing: Option<u64>,
        lease_for: Duration,
    ) -> Result<Leases, StoreError>;

    /// Releases everything that a relay holds.
    async fn leave(&self, relay: Uuid) -> Result<(), StoreError>;

    /// Reads the oldest unpublished events of shards whose keys are not blocked, at most `limit`. Cancel-safe.
    async fn unpublished(&self, shards: &[u8], limit: u32) -> Result<Unpublished, StoreError>;

    /// Records the results of a batch for the shards that the relay still holds under this fencing number, and
    /// returns how many events were marked as published. Other shards are left unchanged for their present holder.
    async fn record_results(&self, relay: Uuid, fencing: u64, sent: &Sent) -> Result<u64, StoreError>;

    /// Counts the backlog. Cancel-safe.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}

/// The part of the outbox that operators use. Each method is one whole transaction.
///
/// Only the methods that say so are cancel-safe.
#[async_trait]
pub trait OutboxAdmin: Send + Sync + 'static {
    /// Reads rows. Cancel-safe.
    async fn outbox_rows(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError>;

    /// Unblocks one key, or all keys that are blocked or parked, so that they are retried now. Returns how many.
    async fn retry_blocked(&self, key: Option<&str>) -> Result<u64, StoreError>;

    /// Gives an event up: it counts as published, and its key continues. Returns whether it was unpublished.
    async fn skip(&self, event: &OutboxEvent) -> Result<bool, StoreError>;

    /// Reads the events that were given up. Cancel-safe.
    async fn skipped(&self) -> Result<HashSet<Uuid>, StoreError>;

    /// Marks published events as unpublished, so that they are published again: those that happened in `since..until`
    /// and were not skipped, among the next `limit` rows after `after`.
    async fn republish(
        &self,
        since: Timestamp,
        until: Timestamp,
        after: i64,
        limit: u32,
    ) -> Result<Republished, StoreError>;
}

/// The `data` of an event as JSON text, as every dialect stores it.
pub(super) fn payload(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(&event.payload).map_err(|source| StoreError::Statement { source: source.into() })
}
