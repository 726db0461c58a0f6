//! Audits the event pipeline: compares the outbox with the event log, the inbox and the SmartKeys.
//!
//! I7 and I8: every published event is in the log, and the log has no other records; the first appearances of a key's
//! events are in the order of their versions. I9: exactly the reservations that are committed and not cancelled have
//! a valid SmartKey. Events that are still under way are counted and are no finding. Never: a change of anything.
//! Next: `store/inbox.rs`.

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;
use uuid::Uuid;

use crate::{
    engine::{EventType, Timestamp, Token},
    events::EventLog,
    store::{
        AuditFinding, Database, KeyMismatch, OutboxFilter, OutboxRow, OutboxState, StoreError,
        StoredDeadLetter,
    },
};

/// Rows of the outbox per read.
const PAGE: u32 = 10_000;
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

/// The reason why the event pipeline cannot be audited.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log cannot be read.
    #[error("the event log cannot be read: {0}")]
    Log(String),
}

impl EventsAudit {
    fn add(&mut self, invariant: &'static str, id: impl ToString, problem: impl Into<String>) {
        let reported = self.findings.iter().filter(|finding| finding.invariant == invariant).count();
        if reported < FINDINGS_MAX {
            self.findings.push(AuditFinding { invariant, id: id.to_string(), problem: problem.into() });
        }
    }

    /// I8: every published event is in the log, or applied if there is no log.
    fn compare_published(&mut self, outbox: &OutboxScan, log: Option<&Log>, dead_letters: &HashSet<Uuid>) {
        for (id, applied) in &outbox.published {
            match log {
                Some(log) if !log.seen.contains(id) => {
                    self.add("I8", id, "is marked as published, and is not in the event log");
                }
                None if !applied && !dead_letters.contains(id) => {
                    self.add("I8", id, "is marked as published, and its consumer has not applied it");
                }
                _ => self.unconsumed += u64::from(!applied),
            }
        }
    }

    /// I9: reports a mismatch if it was there before and after the outbox was read, and no event that is still to be
    /// applied explains it.
    fn compare_keys(
        &mut self,
        outbox: &OutboxScan,
        before: &[(Token, KeyMismatch)],
        after: Vec<(Token, KeyMismatch)>,
    ) {
        for (token, mismatch) in after {
            if outbox.changes_under_way.contains(&token.to_string()) || !before.contains(&(token, mismatch)) {
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
        for id in log.seen.difference(written).filter(|id| !is_purged(**id)) {
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

/// The content of the event log: its events, and the order in which those of each key first appeared.
#[derive(Default)]
struct Log {
    seen: HashSet<Uuid>,
    #[cfg(feature = "kafka")]
    versions: std::collections::HashMap<String, u64>,
    records: u64,
    repeated: u64,
    /// Key, the version that appeared first, and the lower version that appeared after it.
    disordered: Vec<(String, u64, u64)>,
    /// The places of records that are no events of this product.
    foreign: Vec<String>,
}

#[cfg(feature = "kafka")]
impl Log {
    fn read(&mut self, record: &crate::envelope::Record) {
        self.records += 1;
        let id = record.header("ce_id").and_then(|id| Uuid::try_parse(&id).ok());
        let version = record.header("ce_keyversion").and_then(|version| version.parse::<u64>().ok());
        let key = record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        let (Some(id), Some(version), Some(key)) = (id, version, key) else {
            let origin = &record.origin;
            self.foreign.push(format!("{}:{}:{}", origin.topic, origin.partition, origin.offset));
            return;
        };
        if !self.seen.insert(id) {
            self.repeated += 1;
            return;
        }
        let last = self.versions.entry(key.clone()).or_default();
        if version < *last {
            self.disordered.push((key, *last, version));
        }
        *last = version.max(*last);
    }
}

/// The content of the outbox, as far as it was read.
#[derive(Default)]
struct OutboxScan {
    /// Every event.
    written: HashSet<Uuid>,
    /// The reservations whose SmartKey an event that is not applied yet will change.
    changes_under_way: HashSet<String>,
    /// Events that are marked as published and were not skipped, and whether the consumer has applied them.
    published: Vec<(Uuid, bool)>,
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

    /// Reads the outbox to its end, and counts its rows.
    async fn read(
        &mut self,
        store: &Arc<dyn Database>,
        consumer: &str,
        audit: &mut EventsAudit,
    ) -> Result<(), StoreError> {
        let skipped = store.skipped().await?;
        while let Some(rows) = self.next_page(store).await? {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.event.event_id).collect();
            let applied = store.applied(consumer, &ids).await?;
            audit.records += applied.len() as u64;
            for row in &rows {
                let id = row.event.event_id;
                let is_published = self.count(row, applied.contains(&id), audit);
                if is_published && !skipped.contains(&id) {
                    self.published.push((id, applied.contains(&id)));
                }
            }
        }
        Ok(())
    }

    /// Counts a row; returns whether it is marked as published.
    fn count(&mut self, row: &OutboxRow, applied: bool, audit: &mut EventsAudit) -> bool {
        audit.events += 1;
        let changes_key =
            [EventType::Committed, EventType::Cancelled].iter().any(|kind| kind.as_str() == row.event.kind);
        if !applied && changes_key {
            self.changes_under_way.insert(row.event.key.clone());
        }
        let is_published = row.state == OutboxState::Published;
        audit.unpublished += u64::from(!is_published);
        is_published
    }
}

/// Audits the event pipeline of a database and its event log. Cancel-safe.
///
/// # Errors
/// The database or the event log is unavailable.
pub async fn audit(event_log: &EventLog, store: &Arc<dyn Database>) -> Result<EventsAudit, AuditError> {
    let consumer = match event_log {
        EventLog::Embedded => super::embedded::CONSUMER,
        EventLog::Kafka(kafka) => &kafka.group,
    };
    let mut audit = EventsAudit::default();
    let mut outbox = OutboxScan::default();
    // The order of reads matters, because events move on meanwhile. The outbox is read before the log, so that every
    // event seen as published is in the log by the time the log is read; and the rest of the outbox is read after the
    // log, so that every event in the log is known to be written.
    let mismatches_before = store.key_mismatches().await?;
    let kept_since = store.events_kept_since().await?;
    outbox.read(store, consumer, &mut audit).await?;
    let log = read_log(event_log).await?;
    let dead_letters = dead_letters(event_log, store).await?;
    audit.compare_published(&outbox, log.as_ref(), &dead_letters);
    let mismatches_after = store.key_mismatches().await?;
    audit.compare_keys(&outbox, &mismatches_before, mismatches_after);
    if let Some(log) = log {
        while outbox.next_page(store).await?.is_some() {}
        audit.compare_log(log, &outbox.written, kept_since);
    }
    Ok(audit)
}

/// The events that the embedded consumer kept as dead letters. With a topic there are none to read, because there the
/// log must have every published event.
async fn dead_letters(event_log: &EventLog, store: &Arc<dyn Database>) -> Result<HashSet<Uuid>, StoreError> {
    let mut ids = HashSet::new();
    let mut after = 0;
    if *event_log != EventLog::Embedded {
        return Ok(ids);
    }
    loop {
        let letters = store.dead_letters(after, PAGE).await?;
        let Some(last) = letters.last() else { break };
        after = last.id.offset;
        let id = |kept: &StoredDeadLetter| Uuid::try_parse(&kept.letter.record.header("ce_id")?).ok();
        ids.extend(letters.iter().filter_map(id));
    }
    Ok(ids)
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

/// Reads the whole topic; `None` if there is no event log.
#[cfg_attr(not(feature = "kafka"), expect(clippy::unused_async, reason = "the same signature as with Kafka"))]
async fn read_log(event_log: &EventLog) -> Result<Option<Log>, AuditError> {
    match event_log {
        EventLog::Embedded => Ok(None),
        #[cfg(feature = "kafka")]
        EventLog::Kafka(kafka) => {
            let kafka = kafka.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut log = Log::default();
                let visit = |record: crate::envelope::Record| {
                    log.read(&record);
                    std::ops::ControlFlow::Continue(())
                };
                super::kafka::read_topic(&kafka, &kafka.topic, |_| Some(0), visit).map(|()| log)
            });
            match read.await {
                Ok(Ok(log)) => Ok(Some(log)),
                Ok(Err(error)) => Err(AuditError::Log(error.to_string())),
                Err(_) => Err(AuditError::Log("reading it panicked".to_owned())),
            }
        }
        #[cfg(not(feature = "kafka"))]
        EventLog::Kafka(_) => {
            Err(AuditError::Log("this build has no Kafka: build it with the feature kafka".to_owned()))
        }
    }
}
