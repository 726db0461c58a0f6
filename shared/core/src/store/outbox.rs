//! The outbox, as those see it who publish it: the port of relays, and of operators who look after it.
//!
//! The lease is the claim: no row is locked, and no transaction is open, while events are on their way. A relay that froze
//! past its lease finds its marks refused, by its fencing number; what it had sent is sent again by another. Never: an
//! order over ids alone. Ids of one key are in commit order, because they are drawn under its row lock; those of different
//! keys are not, so what is unpublished is asked for as such, never as "after the last id". Next: `shards.rs` for who
//! holds what, [`crate::events`] for the relay.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, shards::Leases};
use crate::{engine::Timestamp, envelope::OutboxEvent};

/// Events that wait, oldest first.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// The store's clock.
    pub now: Timestamp,
    /// The events: per key in order, and without gaps.
    pub events: Vec<OutboxEvent>,
}

/// An event that could not be published, and for how long its key waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Its place in the outbox: the key waits only as long as this event does.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// The shard of the key.
    pub shard: u8,
    /// The event.
    pub event_id: Uuid,
    /// How often in a row it has failed now.
    pub attempts: u32,
    /// Why.
    pub reason: String,
    /// For how long the key waits; `None` parks it until somebody looks after it.
    pub retry_after: Option<Duration>,
}

impl Blocked {
    /// RunUntil when the key waits; a parked one waits for somebody.
    pub(super) fn until(&self, now: Timestamp) -> Timestamp {
        self.retry_after.and_then(|wait| now.checked_add(wait).ok()).unwrap_or(now)
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Events whose delivery was reported good: id, and shard.
    pub published: Vec<(i64, u8)>,
    /// Keys that had failed before and whose first event is now published.
    pub unblocked: Vec<(String, u8)>,
    /// Keys that failed.
    pub blocked: Vec<Blocked>,
}

impl Sent {
    /// What concerns shards that are still held.
    pub(super) fn only(mut self, held: impl Fn(u8) -> bool) -> Self {
        self.published.retain(|(_, shard)| held(*shard));
        self.unblocked.retain(|(_, shard)| held(*shard));
        self.blocked.retain(|blocked| held(blocked.shard));
        self
    }
}

/// What a step of replaying did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Events that will be sent again.
    pub events: u64,
    /// Where to go on; `None` at the end of the outbox.
    pub next: Option<i64>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The store's clock.
    pub now: Timestamp,
    /// Events that await publication.
    pub unpublished: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
    /// Keys that wait after a failure.
    pub blocked: u64,
    /// Keys that wait for somebody to look after them.
    pub parked: u64,
}

impl Backlog {
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
    /// Not yet published.
    Waiting,
    /// Its key failed, and is tried again later.
    Blocked,
    /// Its key failed too often.
    Parked,
    /// In the event log (or skipped).
    Published,
}

impl OutboxState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Blocked, Self::Parked, Self::Published];

    /// The word for it.
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
    /// Its state, which its key shares.
    pub state: OutboxState,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// When its key is tried again.
    pub blocked_until: Option<Timestamp>,
    /// Why its key failed.
    pub reason: Option<String>,
}

/// Which rows an operator wants to see, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct OutboxFilter {
    /// Only those in this state.
    pub state: Option<OutboxState>,
    /// Only those of this key.
    pub key: Option<String>,
    /// Only this event.
    pub event_id: Option<Uuid>,
    /// Start after this id.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// The part of the outbox that relays use. Each method is one whole transaction.
///
/// None but those that say so is cancel-safe.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Renews what a relay holds, gives up what is too much for it, takes what is free, and says what it holds now. Also how
    /// it joins: with no fencing number, or one whose lease has run out, it gets a new one.
    async fn lease(
        &self,
        relay: Uuid,
        fencing: Option<u64>,
        lease_for: Duration,
    ) -> Result<Leases, StoreError>;

    /// Gives up all that a relay holds.
    async fn leave(&self, relay: Uuid) -> Result<(), StoreError>;

    /// The oldest unpublished events of shards whose keys are not blocked, at most `limit`. Cancel-safe.
    async fn unpublished(&self, shards: &[u8], limit: u32) -> Result<Unpublished, StoreError>;

    /// Notes what became of a batch, as far as the relay still holds the shards under this fencing number; how many events
    /// were marked as published. What it no longer holds is left as it is, for whoever holds it now.
    async fn settle(&self, relay: Uuid, fencing: u64, sent: &Sent) -> Result<u64, StoreError>;

    /// How much waits. Cancel-safe.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}

/// The part of the outbox that operators use. Each method is one whole transaction.
///
/// Only the methods that say so are cancel-safe.
#[async_trait]
pub trait OutboxAdmin: Send + Sync + 'static {
    /// Rows, for operators. Cancel-safe.
    async fn outbox_rows(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError>;

    /// Has keys tried again now: one, or all that are blocked or parked. Says how many.
    async fn retry_blocked(&self, key: Option<&str>) -> Result<u64, StoreError>;

    /// Gives an event up: it counts as published, and its key goes on. Says whether it was waiting.
    async fn skip(&self, event: &OutboxEvent) -> Result<bool, StoreError>;

    /// The events that were given up. Cancel-safe.
    async fn skipped(&self) -> Result<HashSet<Uuid>, StoreError>;

    /// Has published events sent again, but for those that were skipped, that happened in `since..until`, among the next `limit` rows after `after`.
    async fn republish(
        &self,
        since: Timestamp,
        until: Timestamp,
        after: i64,
        limit: u32,
    ) -> Result<Replayed, StoreError>;
}
