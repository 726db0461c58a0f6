//! Audits the event pipeline: compares the outbox with the event log, the inbox and the SmartKeys.
//!
//! I7 and I8: every published event is in the log, and the log has no other records; the first appearances of a key's
//! events are in the order of their versions. I9: the consumer passed over no event, exactly the reservations that are
//! committed and not cancelled have a valid SmartKey, and every applied event has the webhook deliveries that it
//! causes. I10: no key is blocked for an event that is not waiting.
//!
//! Events that are still under way are counted and are no finding: those that await publication, those that the
//! consumer group has not reached, and dead letters, which await an operator. Never: a change of anything. Next:
//! `store/inbox.rs`.

mod error;
mod log;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

pub use error::AuditError;
use log::{Log, read_log};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    engine::{EventType, Timestamp, Token},
    events::{EventLog, dead_letter::DeadLetterQueue},
    store::{AuditFinding, Database, KeyMismatch, OutboxFilter, OutboxRow, OutboxState, StoreError},
};

/// Rows of the outbox per read.
const PAGE: u32 = 10_000;
/// Dead letters per read, and events per look-up in the inbox.
const FEW: usize = 1_000;
/// The most findings that are reported per invariant.
const FINDINGS_MAX: usize = 1_000;

/// What an audit of the event pipeline looked at, and what it found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsAudit {
    /// Events in the outbox.
    pub events: u64,
    /// Events in the outbox that await publication.
    pub unpublished: u64,
    /// Records in the event log; without a log, events in the inbox.
    pub records: u64,
    /// Records whose event had appeared in the log before.
    pub repeated: u64,
    /// Published events that the consumer has not applied yet.
    pub unconsumed: u64,
    /// Violations of invariants; empty if the pipeline is consistent.
    pub findings: Vec<AuditFinding>,
}

impl EventsAudit {
    fn add(&mut self, invariant: &'static str, id: impl ToString, problem: impl Into<String>) {
        let reported = self.findings.iter().filter(|finding| finding.invariant == invariant).count();
        if reported < FINDINGS_MAX {
            self.findings.push(AuditFinding { invariant, id: id.to_string(), problem: problem.into() });
        }
    }

    /// I8: every published event is in the log, or applied if there is no log. I9: those that the consumer has passed
    /// by are applied. Returns the reservations whose SmartKey an event that is still under way will change.
    fn compare_published(
        &mut self,
        outbox: &OutboxScan,
        log: Option<&Log>,
        reached: &Reached,
    ) -> HashSet<String> {
        let mut under_way = outbox.awaiting.clone();
        for event in &outbox.published {
            if reached.skipped.contains(&event.id) {
                continue;
            }
            let place = log.map(|log| log.seen.get(&event.id));
            if place == Some(None) {
                self.add("I8", event.id, "is marked as published, and is not in the event log");
            }
            if event.applied || reached.applied.contains(&event.id) {
                continue;
            }
            self.unconsumed += 1;
            match place {
                _ if reached.dead_letters.contains(&event.id) => {}
                None => {
                    self.add("I8", event.id, "is marked as published, and its consumer has not applied it");
                    continue;
                }
                Some(Some((partition, offset)))
                    if reached.offsets.get(partition).is_some_and(|next| offset < next) =>
                {
                    let problem = format!(
                        "was passed over: the consumer group has committed a later offset than {partition}:{offset}, \
                         and the event is neither applied nor a dead letter"
                    );
                    self.add("I9", event.id, problem);
                    continue;
                }
                Some(_) => {}
            }
            if event.changes_key {
                under_way.insert(event.key.clone());
            }
        }
        under_way
    }

    /// I9: reports a mismatch if it was there before and after the outbox was read, and no event that is still to be
    /// applied explains it.
    fn compare_keys(
        &mut self,
        under_way: &HashSet<String>,
        before: &[(Token, KeyMismatch)],
        after: Vec<(Token, KeyMismatch)>,
    ) {
        for (token, mismatch) in after {
            if under_way.contains(&token.to_string()) || !before.contains(&(token, mismatch)) {
                continue;
            }
            self.add(
                "I9",
                token,
                match mismatch {
                    KeyMismatch::Missing => "is committed, and has no SmartKey that is valid",
                    KeyMismatch::Unwarranted => "is not committed, and has a SmartKey that was not revoked",
                },
            );
        }
    }

    /// I7 and the order of I8: the log has only events that were written, and those of a key in order.
    fn compare_log(&mut self, log: Log, written: &HashSet<Uuid>, kept_since: Option<Timestamp>) {
        (self.records, self.repeated) = (log.records, log.repeated);
        // The outbox is purged earlier than the log may be: an event from before the last purge may be missing from it.
        let is_purged = |id: Uuid| kept_since.is_some_and(|kept| drawn_before(id, kept));
        for id in log.seen.keys().filter(|id| !written.contains(id) && !is_purged(**id)) {
            self.add("I7", id, "is in the event log, and was never in the outbox");
        }
        for (key, first, after) in log.disordered {
            self.add(
                "I8",
                key,
                format!("version {after} first appears in the event log after version {first}"),
            );
        }
        for place in log.foreign {
            self.add("I7", place, "is a record in the event log that is no event of this product");
        }
    }
}

/// An event that is marked as published.
struct Published {
    id: Uuid,
    key: String,
    /// Whether the consumer had applied it when the outbox was read.
    applied: bool,
    /// Whether its effect may change a SmartKey.
    changes_key: bool,
}

/// What the consumer has reached. Read after the log, and in this order: an event that stands before an offset which
/// the group has committed was applied, or became a dead letter, before that.
struct Reached {
    /// The next offset of each partition; a partition is missing if the group never committed there.
    offsets: HashMap<i32, i64>,
    /// Events that were applied since the outbox was read.
    applied: HashSet<Uuid>,
    /// The events of dead letters that await an operator.
    dead_letters: HashSet<Uuid>,
    /// Events that an operator gave up.
    skipped: HashSet<Uuid>,
}

impl Reached {
    async fn read(
        event_log: &EventLog,
        store: &Arc<dyn Database>,
        queue: &dyn DeadLetterQueue,
        outbox: &OutboxScan,
    ) -> Result<Self, AuditError> {
        let offsets = committed_offsets(event_log).await?;
        let consumer = consumer_of(event_log);
        let unapplied: Vec<Uuid> =
            outbox.published.iter().filter(|event| !event.applied).map(|event| event.id).collect();
        let mut applied = HashSet::new();
        for ids in unapplied.chunks(FEW) {
            applied.extend(store.applied(consumer, ids).await?);
        }
        let (mut dead_letters, mut after) = (HashSet::new(), None);
        loop {
            let letters = queue.list(after, FEW).await?;
            let Some(last) = letters.last() else { break };
            after = Some(last.id);
            dead_letters.extend(letters.iter().filter_map(|kept| kept.letter.record.event_id()));
            if letters.len() < FEW {
                break;
            }
        }
        // A dead letter that is dropped counts as skipped from then on.
        let skipped = store.skipped().await?;
        Ok(Self { offsets, applied, dead_letters, skipped })
    }
}

/// The content of the outbox, as far as it was read.
#[derive(Default)]
struct OutboxScan {
    /// Every event.
    written: HashSet<Uuid>,
    /// The reservations whose SmartKey an event that awaits publication may change.
    awaiting: HashSet<String>,
    /// Events that are marked as published.
    published: Vec<Published>,
    /// The last id that was read.
    after: i64,
}

impl OutboxScan {
    /// Reads the next page; `None` at the end.
    async fn next_page(&mut self, store: &Arc<dyn Database>) -> Result<Option<Vec<OutboxRow>>, StoreError> {
        let filter = OutboxFilter { after: self.after, limit: PAGE, ..OutboxFilter::default() };
        let rows = store.outbox_rows(&filter).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.after = last.event.id;
        self.written.extend(rows.iter().map(|row| row.event.event_id));
        Ok(Some(rows))
    }

    /// Reads the outbox to its end, counts its rows, and compares webhook deliveries.
    async fn read(
        &mut self,
        store: &Arc<dyn Database>,
        consumer: &str,
        deliveries_kept: Duration,
        audit: &mut EventsAudit,
    ) -> Result<(), StoreError> {
        while let Some(rows) = self.next_page(store).await? {
            for rows in rows.chunks(FEW) {
                let ids: Vec<Uuid> = rows.iter().map(|row| row.event.event_id).collect();
                let applied = store.applied(consumer, &ids).await?;
                audit.records += applied.len() as u64;
                for row in rows {
                    self.count(row, applied.contains(&row.event.event_id), audit);
                }
                let kinds: HashMap<Uuid, &str> =
                    rows.iter().map(|row| (row.event.event_id, row.event.kind.as_str())).collect();
                for (event_id, endpoint) in store.missing_deliveries(consumer, &ids, deliveries_kept).await? {
                    if kinds.get(&event_id).is_some_and(|kind| endpoint.filter.wants(kind)) {
                        let problem =
                            format!("is applied, and webhook {} has no delivery of it", endpoint.endpoint_id);
                        audit.add("I9", event_id, problem);
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, row: &OutboxRow, applied: bool, audit: &mut EventsAudit) {
        audit.events += 1;
        let changes_key =
            [EventType::Committed, EventType::Cancelled].iter().any(|kind| kind.as_str() == row.event.kind);
        let (id, key) = (row.event.event_id, row.event.key.clone());
        if row.state == OutboxState::Published {
            self.published.push(Published { id, key, applied, changes_key });
            return;
        }
        audit.unpublished += 1;
        if !applied && changes_key {
            self.awaiting.insert(key);
        }
    }
}

/// The name of the consumer in the inbox.
fn consumer_of(event_log: &EventLog) -> &str {
    match event_log {
        EventLog::Embedded => super::embedded::CONSUMER,
        EventLog::Kafka(kafka) => &kafka.group,
    }
}

/// Audits the event pipeline of a database and its event log. `queue` has the dead letters; webhook deliveries are kept
/// for `deliveries_kept` after their end. Cancel-safe.
///
/// # Errors
/// The database or the event log is unavailable.
pub async fn audit(
    event_log: &EventLog,
    store: &Arc<dyn Database>,
    queue: &dyn DeadLetterQueue,
    deliveries_kept: Duration,
) -> Result<EventsAudit, AuditError> {
    let mut audit = EventsAudit::default();
    let mut outbox = OutboxScan::default();
    // The order of reads matters, because events move on meanwhile. The outbox is read before the log, so that every
    // event seen as published is in the log by the time the log is read; and what the consumer has reached is read
    // after the log.
    let mismatches_before = store.key_mismatches().await?;
    let kept_since = store.events_kept_since().await?;
    outbox.read(store, consumer_of(event_log), deliveries_kept, &mut audit).await?;
    crate::failpoint::reach("audit.outbox_read").await;
    let log = read_log(event_log).await?;
    let reached = Reached::read(event_log, store, queue, &outbox).await?;
    let under_way = audit.compare_published(&outbox, log.as_ref(), &reached);
    let mismatches_after = store.key_mismatches().await?;
    audit.compare_keys(&under_way, &mismatches_before, mismatches_after);
    for (key, event_id) in store.needless_blocks().await? {
        audit.add("I10", key, format!("is blocked for event {event_id}, which does not await publication"));
    }
    if let Some(log) = log {
        let written = written_until_now(store, outbox, &log).await?;
        audit.compare_log(log, &written, kept_since);
    }
    Ok(audit)
}

/// The events that were ever written to the outbox, as far as the log names them: those that were read, and the rest of
/// the outbox, because every event in the log is committed there by now.
async fn written_until_now(
    store: &Arc<dyn Database>,
    mut outbox: OutboxScan,
    log: &Log,
) -> Result<HashSet<Uuid>, StoreError> {
    while outbox.next_page(store).await?.is_some() {}
    if log.seen.keys().any(|id| !outbox.written.contains(id)) {
        // Ids are no cursor: a row with a lower id than the last that was read may have become visible since.
        let mut again = OutboxScan { written: outbox.written, ..OutboxScan::default() };
        while again.next_page(store).await?.is_some() {}
        return Ok(again.written);
    }
    Ok(outbox.written)
}

/// The offsets that the consumer group has committed; none if there is no event log.
#[cfg_attr(not(feature = "kafka"), expect(clippy::unused_async, reason = "the same signature as with Kafka"))]
async fn committed_offsets(event_log: &EventLog) -> Result<HashMap<i32, i64>, AuditError> {
    match event_log {
        #[cfg(feature = "kafka")]
        EventLog::Kafka(kafka) => {
            let kafka = kafka.clone();
            match tokio::task::spawn_blocking(move || super::kafka::committed_offsets(&kafka)).await {
                Ok(read) => read.map_err(|error| AuditError::Log(error.to_string())),
                Err(_) => Err(AuditError::Log("reading its offsets panicked".to_owned())),
            }
        }
        _ => Ok(HashMap::new()),
    }
}

/// Whether a UUIDv7 was drawn before an instant, to the millisecond.
fn drawn_before(id: Uuid, instant: Timestamp) -> bool {
    id.get_timestamp().is_some_and(|drawn| {
        let (seconds, nanos) = drawn.to_unix();
        i64::try_from(seconds).is_ok_and(|seconds| {
            (seconds, i64::from(nanos)) < (instant.as_second(), i64::from(instant.subsec_nanosecond()))
        })
    })
}
