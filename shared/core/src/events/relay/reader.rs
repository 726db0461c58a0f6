//! Which events a step publishes: the oldest ones, and those behind rows that cannot be published now.
//!
//! Usually the oldest rows are all there is. But a key may have more rows than a step takes, wait after a failure, or
//! belong to a part of the log that is away, and its rows may be millions. So a step looks at the front of the outbox
//! first, and if that is full of such rows, reads on behind them. Reading on starts where the last step came to,
//! because it would otherwise look at the same rows in every step; from time to time it starts again at the front, for
//! rows whose key is free again.
//!
//! That position is only a hint. It would be wrong to trust it: a row with a lower id may become visible later. So an
//! event that is found behind the front is taken only if the index of keys shows no earlier unpublished event of its
//! key (I8). Never: an unbounded read.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{Publisher, RelayOptions};
use crate::{
    engine::Timestamp,
    envelope::OutboxEvent,
    store::{OutboxRead, OutboxStore, StoreError, Unpublished},
};

/// The most rows of one read behind the front, and the most such reads of a step.
const WINDOW_ROWS: u32 = 16_384;
const WINDOWS: usize = 4;
/// The shortest time between two passes. It is also at least ten times as long as the last pass took.
const PASS_EVERY: Duration = Duration::from_secs(1);

/// The position of a relay behind the front of the outbox.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The pass through all rows that is under way.
    pass: Option<Pass>,
    /// Where new rows appear: the beginning of the last read of the last pass. `None` before the first pass ended.
    tail: Option<i64>,
    /// When the next pass may begin.
    next_pass: Option<Instant>,
}

/// A pass through all rows behind the front.
#[derive(Debug)]
struct Pass {
    began: Instant,
    after: i64,
}

/// The events of a step.
#[derive(Debug)]
pub(super) struct Batch {
    /// The time of the store's clock.
    pub(super) now: Timestamp,
    /// The events; those of one key are in order and without gaps.
    pub(super) events: Vec<OutboxEvent>,
    /// Whether more events may be ready to be published.
    pub(super) more: bool,
}

impl Batch {
    fn bytes(&self) -> u64 {
        self.events.iter().map(|event| event.payload.len() as u64).sum()
    }
}

impl Reader {
    /// Reads the events of a step.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(super) async fn read(
        &mut self,
        store: &dyn OutboxStore,
        publisher: &dyn Publisher,
        shards: &[u8],
        options: &RelayOptions,
    ) -> Result<Batch, StoreError> {
        let front = OutboxRead {
            shards,
            after: 0,
            rows: options.batch,
            events: options.batch as usize,
            of_one_key: options.of_one_key,
            bytes: options.bytes,
            admits: &|key| publisher.admits(key),
        };
        let Unpublished { now, events, left, next, cut } = store.unpublished(&front).await?;
        let mut batch = Batch { now, events, more: cut || next.is_some() };
        let Some(front_end) = next else {
            *self = Self::default();
            return Ok(batch);
        };
        let mut behind = Behind { store, publisher, shards, options, left };
        let now = Instant::now();
        if self.pass.is_none() && self.next_pass.is_none_or(|at| now >= at) {
            self.pass = Some(Pass { began: now, after: front_end });
        }
        // New rows first: they must not wait for a pass.
        if let Some(tail) = self.tail
            && let Some(next) = behind.read(tail.max(front_end), &mut batch).await?
        {
            self.tail = Some(next);
        }
        for _ in 0..WINDOWS {
            let Some(pass) = &mut self.pass else { break };
            pass.after = pass.after.max(front_end);
            let window = pass.after;
            match behind.read(window, &mut batch).await? {
                Some(next) if self.tail.is_none_or(|tail| next < tail) => pass.after = next,
                end => {
                    let took = pass.began.elapsed();
                    self.next_pass = Some(Instant::now() + PASS_EVERY.max(10 * took));
                    if end.is_none() {
                        self.tail = Some(window);
                    }
                    self.pass = None;
                }
            }
        }
        batch.more = !batch.events.is_empty() || self.pass.is_some();
        Ok(batch)
    }
}

/// Reads behind the front.
struct Behind<'a> {
    store: &'a dyn OutboxStore,
    publisher: &'a dyn Publisher,
    shards: &'a [u8],
    options: &'a RelayOptions,
    /// The keys that have earlier rows which this step does not take.
    left: HashSet<String>,
}

impl Behind<'_> {
    /// Adds the events after a row to the batch, and returns where to read on: `None` at the end. If the batch has no
    /// room, it reads on at the same row in the next step.
    async fn read(&mut self, after: i64, batch: &mut Batch) -> Result<Option<i64>, StoreError> {
        let (room, bytes) = (self.options.batch as usize - batch.events.len(), batch.bytes());
        if room == 0 || bytes >= self.options.bytes {
            return Ok(Some(after));
        }
        let (left, publisher) = (&self.left, self.publisher);
        let wanted = OutboxRead {
            shards: self.shards,
            after,
            rows: WINDOW_ROWS,
            events: room,
            of_one_key: self.options.of_one_key,
            bytes: self.options.bytes - bytes,
            admits: &|key| !left.contains(key) && publisher.admits(key),
        };
        let Unpublished { events, left, next, cut, .. } = self.store.unpublished(&wanted).await?;
        // The same rows are read again if some of them had no room, because their keys are not to be passed over.
        let next = if cut && events.len() >= room { Some(after) } else { next };
        self.left.extend(left);
        let found = self.first_of_their_keys(events, batch).await?;
        batch.events.extend(found);
        Ok(next)
    }

    /// Keeps the events that begin with the first unpublished one of their key. A key that has events in the batch
    /// already may have others in between that no read of this step has seen, so it continues in the next step.
    async fn first_of_their_keys(
        &mut self,
        mut events: Vec<OutboxEvent>,
        batch: &Batch,
    ) -> Result<Vec<OutboxEvent>, StoreError> {
        let begun: HashSet<&str> = batch.events.iter().map(|event| event.key.as_str()).collect();
        events.retain(|event| !begun.contains(event.key.as_str()));
        let keys: HashSet<&str> = events.iter().map(|event| event.key.as_str()).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&str> = keys.into_iter().collect();
        let first = self.store.first_unpublished(&keys).await?;
        let mut ready: HashSet<String> = HashSet::new();
        events.retain(|event| {
            if first.get(&event.key) == Some(&event.id) {
                ready.insert(event.key.clone());
            }
            ready.contains(&event.key)
        });
        Ok(events)
    }
}
