//! Audits the way of events: what was ever written to the outbox against the event log, the inbox and the SmartKeys.
//!
//! I7 and I8: every published event is in the log, and nothing else is; per key, first appearances are in the order of
//! versions. I9: SmartKeys are those of committed and not cancelled reservations. What is still under way is counted, and
//! no finding. Never: a change of anything. Next: `store/inbox.rs`.

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;
use uuid::Uuid;

use crate::{
    config::Config,
    engine::EventType,
    events::EventLog,
    store::{
        Database, Finding, KeyMismatch, OutboxFilter, OutboxRow, OutboxState, StoreError, StoredDeadLetter,
    },
};

/// Rows of the outbox that are read at once.
const PAGE: u32 = 10_000;
/// Findings of each kind that are told.
const FINDINGS_MAX: usize = 1_000;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsAudit {
    /// Events in the outbox.
    pub events: u64,
    /// Of these, those that await publication.
    pub unpublished: u64,
    /// Records in the event log; the inbox where there is no log.
    pub records: u64,
    /// Of these, those that had been there before.
    pub repeated: u64,
    /// Published events that the consumer has not applied yet.
    pub unconsumed: u64,
    /// What is wrong; empty when all is in order.
    pub findings: Vec<Finding>,
}

/// Why the way of events cannot be audited.
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
        let told = self.findings.iter().filter(|finding| finding.invariant == invariant).count();
        if told < FINDINGS_MAX {
            self.findings.push(Finding { invariant, id: id.to_string(), problem: problem.into() });
        }
    }
}

/// What the log says: which events, and per key in which order they first appeared.
#[derive(Default)]
struct Log {
    seen: HashSet<Uuid>,
    #[cfg(feature = "kafka")]
    versions: std::collections::HashMap<String, u64>,
    records: u64,
    repeated: u64,
    /// Key, the version that came first, and the lower one that came after it.
    disordered: Vec<(String, u64, u64)>,
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

/// Audits the way of events of a configuration. Cancel-safe.
///
/// # Errors
/// The database or the event log is away.
pub async fn audit(config: &Config, store: &Arc<dyn Database>) -> Result<EventsAudit, AuditError> {
    // The outbox first, then the log, then what the outbox got meanwhile: so nothing is missed that is under way.
    let amiss: Vec<_> = store.key_mismatches().await?;
    let skipped = store.skipped().await?;
    let consumer = match &config.events {
        EventLog::Embedded => super::embedded::CONSUMER.to_owned(),
        EventLog::Kafka(kafka) => kafka.group.clone(),
    };
    let kept_since = store.events_kept_since().await?;
    let mut audit = EventsAudit::default();
    let mut written = HashSet::new();
    let mut under_way = HashSet::new();
    let mut published = Vec::new();
    let mut filter = OutboxFilter { limit: PAGE, ..OutboxFilter::default() };
    loop {
        let rows = store.outbox_rows(&filter).await?;
        let Some(last) = rows.last() else { break };
        filter.after = last.event.id;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.event.event_id).collect();
        let applied = store.applied(&consumer, &ids).await?;
        audit.records += applied.len() as u64;
        for row in &rows {
            let id = row.event.event_id;
            written.insert(id);
            if look_at(row, applied.contains(&id), &mut audit, &mut under_way) && !skipped.contains(&id) {
                published.push((id, applied.contains(&id)));
            }
        }
    }
    let log = read_log(config).await?;
    let set_aside = set_aside(config, store).await?;
    for (id, applied) in published {
        match &log {
            Some(log) if !log.seen.contains(&id) => {
                audit.add("I8", id, "counts as published, and is not in the event log");
            }
            None if !applied && !set_aside.contains(&id) => {
                audit.add("I8", id, "counts as published, and its consumer has not applied it");
            }
            _ => audit.unconsumed += u64::from(!applied),
        }
    }
    for (token, mismatch) in store.key_mismatches().await? {
        // Amiss before and after, and with no event between that had still to be applied.
        if under_way.contains(&token.to_string()) || !amiss.contains(&(token, mismatch)) {
            continue;
        }
        audit.add(
            "I9",
            token,
            match mismatch {
                KeyMismatch::Missing => "is committed, and no SmartKey was issued that opens it",
                KeyMismatch::Unwarranted => "is not committed, and has a SmartKey that was not revoked",
            },
        );
    }
    let Some(log) = log else { return Ok(audit) };
    loop {
        let rows = store.outbox_rows(&filter).await?;
        let Some(last) = rows.last() else { break };
        filter.after = last.event.id;
        written.extend(rows.iter().map(|row| row.event.event_id));
    }
    (audit.records, audit.repeated) = (log.records, log.repeated);
    // Events of before the outbox was last purged may be missing from it.
    let unwritten =
        log.seen.difference(&written).filter(|id| !kept_since.is_some_and(|kept| drawn_before(**id, kept)));
    for id in unwritten {
        audit.add("I7", id, "is in the event log, and was never in the outbox");
    }
    for (key, first, after) in log.disordered {
        audit.add("I8", key, format!("version {after} first appears in the event log after version {first}"));
    }
    for place in log.foreign {
        audit.add("I7", place, "is a record in the event log that is no event of this product");
    }
    Ok(audit)
}

/// Counts a row; whether it counts as published.
fn look_at(row: &OutboxRow, applied: bool, audit: &mut EventsAudit, under_way: &mut HashSet<String>) -> bool {
    audit.events += 1;
    let changes_key =
        [EventType::Committed, EventType::Cancelled].iter().any(|kind| kind.as_str() == row.event.kind);
    if !applied && changes_key {
        under_way.insert(row.event.key.clone());
    }
    let published = row.state == OutboxState::Published;
    audit.unpublished += u64::from(!published);
    published
}

/// The events that the consumer beside the outbox could not apply; with a topic, it is the topic that must have them.
async fn set_aside(config: &Config, store: &Arc<dyn Database>) -> Result<HashSet<Uuid>, StoreError> {
    let mut ids = HashSet::new();
    let mut after = 0;
    if config.events != EventLog::Embedded {
        return Ok(ids);
    }
    loop {
        let letters = store.letters(after, PAGE).await?;
        let Some(last) = letters.last() else { break };
        after = last.id.offset;
        let id = |kept: &StoredDeadLetter| Uuid::try_parse(&kept.letter.record.header("ce_id")?).ok();
        ids.extend(letters.iter().filter_map(id));
    }
    Ok(ids)
}

/// Whether a UUIDv7 was drawn before an instant, to the millisecond.
fn drawn_before(id: Uuid, instant: crate::engine::Timestamp) -> bool {
    id.get_timestamp().is_some_and(|drawn| {
        let (seconds, nanos) = drawn.to_unix();
        i64::try_from(seconds).is_ok_and(|seconds| {
            (seconds, i64::from(nanos)) < (instant.as_second(), i64::from(instant.subsec_nanosecond()))
        })
    })
}

/// Reads the whole topic; `None` where there is none.
async fn read_log(config: &Config) -> Result<Option<Log>, AuditError> {
    match &config.events {
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
        EventLog::Kafka(_) => Err(AuditError::Log("this build has no Kafka".to_owned())),
    }
}
