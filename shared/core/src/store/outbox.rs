//! The outbox: the ports of the relay and of operators.
//!
//! The lease is the claim: no row is locked, and no transaction is open, while events are in flight. A relay that was
//! frozen past its lease is refused by its fencing number when it marks events as published, and another relay sends
//! those events again. Never: an order by ids alone. The ids of one key are in commit order, because they are drawn
//! under the row lock of that key; the ids of different keys are not, so unpublished events are selected as such,
//! never as "after the last id". Next: `shards.rs` for which relay holds what, [`crate::events`] for the relay.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, shards::Leases};
use crate::{
    effects::Subscription,
    engine::{Event, Timestamp},
    envelope::OutboxEvent,
};

/// The largest payload that is read before it is known that its event is selected, in bytes.
pub(super) const PAYLOAD_BYTES_READ: i64 = 8 * 1024;

/// Which unpublished events a relay wants to read.
#[derive(Clone, Copy)]
pub struct OutboxRead<'a> {
    /// The shards that it holds.
    pub shards: &'a [u8],
    /// Only rows after this id.
    pub after: i64,
    /// The most rows to look at, whether or not they are selected. It bounds the time of the read.
    pub rows: u32,
    /// The most events to select.
    pub events: usize,
    /// The most events of one key to select.
    pub of_one_key: usize,
    /// The most bytes of payloads to select; the first event is selected whatever its size.
    pub bytes: u64,
    /// Whether a key may be selected at all.
    pub admits: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

impl<'a> OutboxRead<'a> {
    /// Reads the oldest rows of these shards, with all limits at this number of events.
    pub fn oldest(shards: &'a [u8], events: u32) -> Self {
        let of_one_key = events as usize;
        Self {
            shards,
            after: 0,
            rows: events,
            events: of_one_key,
            of_one_key,
            bytes: u64::MAX,
            admits: &|_| true,
        }
    }
}

/// Unpublished events, oldest first.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// The time of the store's clock.
    pub now: Timestamp,
    /// The events that were selected: those of one key are in order and without gaps.
    pub events: Vec<OutboxEvent>,
    /// The keys of rows that were looked at and not selected: they are blocked, not admitted, or beyond a limit. A
    /// later event of such a key must not be published before them.
    pub left: HashSet<String>,
    /// Whether events that could be published now were left out because of a limit.
    pub cut: bool,
    /// The id of the last row that was looked at; `None` if there are no more rows.
    pub next: Option<i64>,
}

/// A row that a relay looks at.
#[derive(Debug)]
pub(super) struct WaitingRow {
    /// The event. Its payload is empty if it is large or if the key is blocked.
    pub(super) event: OutboxEvent,
    /// Whether its key waits after a failure.
    pub(super) waits: bool,
    /// The size of its payload, in bytes.
    pub(super) bytes: u64,
}

/// Selects events from rows in the order of their ids, within the limits of a read. Once an event of a key was left
/// out, all later ones of that key are.
pub(super) fn select(rows: Vec<WaitingRow>, now: Timestamp, read: &OutboxRead<'_>) -> Unpublished {
    let looked_at = rows.len();
    let next = rows.last().map(|row| row.event.id);
    let (mut events, mut left, mut cut) = (Vec::new(), HashSet::new(), false);
    let (mut of_key, mut bytes) = (HashMap::<String, usize>::new(), 0_u64);
    for WaitingRow { event, waits, bytes: size } in rows {
        if left.contains(&event.key) {
            continue;
        }
        let count = of_key.get(&event.key).copied().unwrap_or(0);
        let fits = events.len() < read.events
            && count < read.of_one_key
            && (events.is_empty() || bytes.saturating_add(size) <= read.bytes);
        if waits || !fits || !(read.admits)(&event.key) {
            cut |= !waits && !fits;
            left.insert(event.key);
            continue;
        }
        bytes = bytes.saturating_add(size);
        of_key.insert(event.key.clone(), count + 1);
        events.push(event);
    }
    Unpublished { now, events, left, cut, next: next.filter(|_| looked_at == read.rows as usize) }
}

/// The ids of selected events whose payload was not read, because it is large.
pub(super) fn without_payload(events: &[OutboxEvent]) -> Vec<i64> {
    events.iter().filter(|event| event.payload.is_empty()).map(|event| event.id).collect()
}

/// Fills in payloads that were read afterwards. An event that is gone meanwhile is removed with those behind it of its
/// key.
pub(super) fn fill_payloads(unpublished: &mut Unpublished, mut payloads: HashMap<i64, String>) {
    let left = &mut unpublished.left;
    unpublished.events.retain_mut(|event| {
        if left.contains(&event.key) {
            return false;
        }
        if event.payload.is_empty() {
            let Some(payload) = payloads.remove(&event.id) else {
                left.insert(event.key.clone());
                return false;
            };
            event.payload = payload;
        }
        true
    });
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

    /// Reads unpublished events whose keys are not blocked, oldest first. Cancel-safe.
    async fn unpublished(&self, read: &OutboxRead<'_>) -> Result<Unpublished, StoreError>;

    /// The ids of the first unpublished event of each of these keys that has one. Cancel-safe.
    async fn first_unpublished(&self, keys: &[&str]) -> Result<HashMap<String, i64>, StoreError>;

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

    /// Finds keys that are blocked for an event which does not await publication: the key and the event. At most a
    /// thousand. Cancel-safe.
    async fn needless_blocks(&self) -> Result<Vec<(String, Uuid)>, StoreError>;

    /// Finds, for those of these events that `consumer` has applied, enabled webhook endpoints that have no delivery of
    /// the event: the event and the endpoint, whose filter is left to the caller. Only of events that were applied less
    /// than `kept_for` ago, so that no delivery was purged, and of endpoints that were not changed since. Cancel-safe.
    async fn missing_deliveries(
        &self,
        consumer: &str,
        events: &[Uuid],
        kept_for: Duration,
    ) -> Result<Vec<(Uuid, Subscription)>, StoreError>;

    /// Marks published events as unpublished, so that they are published again: those that happened in `since..until`
    /// and were not skipped, among the next `limit` rows after `after`. They keep the instant of their first
    /// publication, which decides when they are purged.
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
