//! The inbox: three round trips for each batch. Known events are looked up without locks. The transaction then
//! records the events, which waits for any other consumer that is applying one of them, and fails if that consumer
//! commits. Effects are written in the packet of the COMMIT.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Clock, MysqlStore, StoreError,
    connect::Pool,
    purge, read as views,
    round_trip::{TrackedConnection, clock_of, read, rows},
    sql::{Script, Sql},
    statements::{self, CLOCK, instant},
};
use crate::{
    effects::{EffectChanges, NewDelivery, SmartKey},
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
    store::{
        Applied, InboxStore, KeyMismatch, Purged, decode,
        inbox::{self, InboxClaim, InboxLookup},
        purge::before,
    },
    trace::Traceparent,
    webhooks::DELETED,
};

const SMART_KEYS: &str =
    "SELECT token, version, code, issued_at, revoked_at FROM smart_keys FORCE INDEX (PRIMARY)
    WHERE token IN ";
const RESOURCES: &str = "SELECT id, version, fulfilment FROM resources FORCE INDEX (PRIMARY) WHERE id IN ";
const RESERVATIONS: &str =
    "SELECT token, status, version FROM reservations FORCE INDEX (PRIMARY) WHERE item_no = 0 AND token IN ";
const KEYS: &str = "INSERT INTO smart_keys (token, version, code, issued_at, revoked_at) VALUES";
const KEYS_CHANGED: &str = " ON DUPLICATE KEY UPDATE version = VALUES(version), code = VALUES(code),
    issued_at = VALUES(issued_at), revoked_at = VALUES(revoked_at)";

/// Every endpoint that is not being deleted: the events of a disabled one are kept for it.
const SUBSCRIPTIONS: &str = "SELECT id, event_types FROM webhook_endpoints FORCE INDEX (PRIMARY)
    WHERE id > '' AND (disabled_reason IS NULL OR disabled_reason <> ";
const FULL: &str =
    "SELECT endpoint_id FROM webhook_health FORCE INDEX (PRIMARY) WHERE endpoint_id > '' AND is_full = 1";
const DELIVERIES: &str = "INSERT INTO webhook_deliveries
    (endpoint_id, event_id, type, event_at, payload, status, next_attempt_at, finished_at, last_error, created_at,
    updated_at, traceparent) VALUES";

/// Committed reservations of something that a key opens, without one. A key that was issued has both a code and
/// `issued_at`; the audit reads `issued_at`, so that its account needs no right to read codes.
const KEYS_MISSING: &str = "SELECT DISTINCT r.token FROM reservations r
    JOIN resources s ON s.id = r.resource_id AND s.fulfilment = 'SMART_KEY'
    LEFT JOIN smart_keys k ON k.token = r.token
    WHERE r.status = 'COMMITTED' AND (k.issued_at IS NULL OR k.revoked_at IS NOT NULL) LIMIT 1000";
/// Keys that open something, of reservations that are not committed (or are not there).
const KEYS_UNWARRANTED: &str = "SELECT k.token FROM smart_keys k
    LEFT JOIN reservations r ON r.token = k.token AND r.item_no = 0
    WHERE k.issued_at IS NOT NULL AND k.revoked_at IS NULL
        AND (r.status IS NULL OR r.status <> 'COMMITTED') LIMIT 1000";
const EVENTS_KEPT_SINCE: &str = "SELECT kept_since FROM retention WHERE what = 'outbox' AND kept_since > 0";

#[async_trait]
impl InboxStore for MysqlStore {
    async fn apply(&self, consumer: &str, events: &[Incoming]) -> Result<Applied, StoreError> {
        inbox::apply(|| MysqlInbox::open(&self.writers, self.options.clock.clone()), consumer, events).await
    }

    async fn smart_key(&self, token: Token) -> Result<Option<SmartKey>, StoreError> {
        let mut script = Script::default();
        script.add_lists([&token], statements::token, || Sql::new(SMART_KEYS), "");
        rows(&read(&self.readers.views, script).await?, 0).first().map(decode::smart_key).transpose()
    }

    async fn applied(&self, consumer: &str, events: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let mut script = Script::default();
        let places = applied(&mut script, consumer, events);
        let results = read(&self.readers.views, script).await?;
        places.iter().flat_map(|place| rows(&results, *place)).map(|row| decode::uuid(row, 0)).collect()
    }

    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError> {
        let mut script = Script::default();
        let missing = script.add(Sql::new(KEYS_MISSING));
        let unwarranted = script.add(Sql::new(KEYS_UNWARRANTED));
        let results = read(&self.readers.views, script).await?;
        let missing = rows(&results, missing).iter().map(|row| (row, KeyMismatch::Missing));
        let unwarranted = rows(&results, unwarranted).iter().map(|row| (row, KeyMismatch::Unwarranted));
        missing.chain(unwarranted).map(|(row, how)| Ok((decode::token(row)?, how))).collect()
    }

    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut script = Script::default();
        let place = script.add(Sql::new(EVENTS_KEPT_SINCE));
        rows(&read(&self.readers.views, script).await?, place)
            .first()
            .map(|row| decode::timestamp(row, 0))
            .transpose()
    }

    async fn purge_inbox(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        let now = views::now(&self.readers.background, &self.options.clock).await?;
        purge::inbox(&self.writers, before(now, kept_for), limit).await
    }
}

/// A connection; its transaction begins when there is something to write.
struct MysqlInbox {
    connection: TrackedConnection,
    clock: Clock,
}

impl MysqlInbox {
    async fn open(writers: &Pool, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self { connection: TrackedConnection::open(writers).await?, clock })
    }
}

impl inbox::InboxSession for MysqlInbox {
    async fn look_up(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        reservations: &BTreeSet<Token>,
        resources: &BTreeSet<ResourceId>,
    ) -> Result<InboxLookup, StoreError> {
        let mut script = Script::default();
        let applied = applied(&mut script, consumer, events);
        let head = || Sql::new(RESOURCES);
        let resources = script.add_lists(resources, statements::id, head, "");
        let head = || Sql::new(RESERVATIONS);
        let reservations = script.add_lists(reservations, statements::token, head, "");
        let results = self.connection.run(script).await?;
        self.connection.mark_clean();
        let mut known = InboxLookup::default();
        for row in applied.iter().flat_map(|place| rows(&results, *place)) {
            known.applied.insert(decode::uuid(row, 0)?);
        }
        for row in resources.iter().flat_map(|place| rows(&results, *place)) {
            let (id, version, opened) = decode::known_resource(row)?;
            if opened {
                known.opened_by_key.insert(id.clone());
            }
            known.books.resources.insert(id, version);
        }
        for row in reservations.iter().flat_map(|place| rows(&results, *place)) {
            known.books.reservations.extend(decode::known_reservation(row)?);
        }
        Ok(known)
    }

    async fn reservations_kept_since(&mut self) -> Result<Timestamp, StoreError> {
        let mut script = Script::default();
        let place = script.add(Sql::new("SELECT kept_since FROM retention WHERE what = 'reservations'"));
        let results = self.connection.run(script).await?;
        self.connection.mark_clean();
        let kept = rows(&results, place).first().map(|row| decode::timestamp(row, 0)).transpose()?;
        Ok(kept.unwrap_or_default())
    }

    async fn claim(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        tokens: &BTreeSet<Token>,
    ) -> Result<InboxClaim, StoreError> {
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION READ WRITE"));
        let row = |sql: Sql, id: &Uuid| {
            let sql = sql.text(consumer).push(", ").bytes(id.as_bytes()).push(", ");
            instant(sql, &self.clock)
        };
        script.add_rows(
            events,
            row,
            "INSERT INTO processed_events (consumer, event_id, processed_at) VALUES",
        );
        let head = || Sql::new(SMART_KEYS);
        let keys = script.add_lists(tokens, statements::token, head, " ORDER BY token FOR UPDATE");
        let subscribed =
            script.add(Sql::new(SUBSCRIPTIONS).text(DELETED).push(") ORDER BY id LOCK IN SHARE MODE"));
        let full = script.add(Sql::new(FULL));
        let now = script.add(Sql::new(CLOCK));
        let results = self.connection.run(script).await?;
        let keys = keys.iter().flat_map(|place| rows(&results, *place));
        Ok(InboxClaim {
            now: clock_of(&results, now, &self.clock)?,
            smart_keys: keys.map(decode::smart_key).collect::<Result<_, _>>()?,
            subscriptions: decode::subscriptions(rows(&results, subscribed), rows(&results, full))?,
        })
    }

    async fn commit(mut self, changes: EffectChanges) -> Result<(), StoreError> {
        let mut script = Script::default();
        script.add_rows(&changes.created_keys, smart_key, KEYS);
        script.add_rows_then(&changes.updated_keys, smart_key, KEYS, KEYS_CHANGED);
        enqueue(&mut script, &changes.deliveries, &self.clock);
        script.add(Sql::new("COMMIT"));
        self.connection.run(script).await?;
        self.connection.mark_clean();
        Ok(())
    }

    async fn end(self) -> Result<(), StoreError> {
        // No transaction was begun.
        Ok(())
    }
}

/// Adds queries for the events that a consumer has applied, and returns the places of their results.
fn applied(script: &mut Script, consumer: &str, events: &[Uuid]) -> Vec<usize> {
    let head = || {
        Sql::new("SELECT event_id FROM processed_events FORCE INDEX (PRIMARY) WHERE consumer = ")
            .text(consumer)
            .push(" AND event_id IN ")
    };
    script.add_lists(events, |sql, id| sql.bytes(id.as_bytes()), head, "")
}

fn smart_key(sql: Sql, key: &SmartKey) -> Sql {
    let sql = statements::token(sql, &key.token).push(", ").unsigned(key.version).push(", ");
    let sql = match key.issued {
        Some((code, at)) => sql.bytes(&code).push(", ").integer(at.as_microsecond()),
        None => sql.push("NULL, NULL"),
    };
    match key.revoked_at {
        Some(at) => sql.push(", ").integer(at.as_microsecond()),
        None => sql.push(", NULL"),
    }
}

/// Adds the statements that enqueue deliveries. A delivery exists already only if the inbox has forgotten the event or
/// if it was backfilled, and then the first delivery is enough.
pub(super) fn enqueue<'a>(
    script: &mut Script,
    deliveries: impl IntoIterator<Item = &'a NewDelivery>,
    clock: &Clock,
) {
    let row = |sql: Sql, delivery: &NewDelivery| self::delivery(sql, delivery, clock);
    script.add_rows_then(deliveries, row, DELIVERIES, " ON DUPLICATE KEY UPDATE id = id");
}

fn delivery(sql: Sql, delivery: &NewDelivery, clock: &Clock) -> Sql {
    let sql = sql
        .bytes(delivery.endpoint_id.as_bytes())
        .push(", ")
        .bytes(delivery.event_id.as_bytes())
        .push(", ")
        .text(delivery.kind.as_str())
        .push(", ")
        .integer(delivery.event_at.as_microsecond())
        .push(", ")
        .text(&delivery.body);
    let sql = match delivery.refused {
        None => instant(sql.push(", 'PENDING', "), clock).push(", NULL, NULL, "),
        Some(reason) => instant(sql.push(", 'FAILED', NULL, "), clock).push(", ").text(reason).push(", "),
    };
    let sql = instant(sql, clock).push(", ");
    let sql = instant(sql, clock).push(", ");
    sql.optional_text(delivery.trace.map(|trace| trace.traceparent()).as_ref().map(Traceparent::as_str))
}
