//! The inbox: three round trips a batch. What is known is looked up without locks; the transaction then notes the events,
//! which waits for, and fails after, anybody who is applying one of them; effects are written with the COMMIT.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use super::connect::Pool;
use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Clock, MysqlStore, StoreError, purge,
    read::{self, instant},
    session::{self, CLOCK, clock_of, rows},
    sql::{Script, Sql},
    wire::{Wire, read as ask},
};
use crate::{
    effects::{EffectChanges, NewDelivery, SmartKey},
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
    store::{
        Applied, InboxStore, KeyMismatch, Purged, decode,
        inbox::{self, EVENTS_KEPT_SINCE, KEYS_MISSING, KEYS_UNWARRANTED, Known, Taken},
        purge::before,
    },
    trace::Traceparent,
};

const SMART_KEYS: &str =
    "SELECT token, version, code, issued_at, revoked_at FROM smart_keys FORCE INDEX (PRIMARY)
    WHERE token IN ";
const KEYS: &str = "INSERT INTO smart_keys (token, version, code, issued_at, revoked_at) VALUES";
const KEYS_CHANGED: &str = " ON DUPLICATE KEY UPDATE version = VALUES(version), code = VALUES(code),
    issued_at = VALUES(issued_at), revoked_at = VALUES(revoked_at)";

const SUBSCRIPTIONS: &str = "SELECT id, event_types FROM webhook_endpoints
    WHERE disabled_at IS NULL ORDER BY id LOCK IN SHARE MODE";
const DELIVERIES: &str = "INSERT INTO webhook_deliveries
    (endpoint_id, event_id, type, event_at, payload, status, next_attempt_at, created_at, updated_at, traceparent) VALUES";

#[async_trait]
impl InboxStore for MysqlStore {
    async fn apply(&self, consumer: &str, events: &[Incoming]) -> Result<Applied, StoreError> {
        inbox::apply(|| MysqlInbox::open(&self.writers, self.options.clock.clone()), consumer, events).await
    }

    async fn smart_key(&self, token: Token) -> Result<Option<SmartKey>, StoreError> {
        let mut script = Script::default();
        script.add_lists([&token], session::token, || Sql::new(SMART_KEYS), "");
        rows(&ask(&self.readers, script).await?, 0).first().map(decode::smart_key).transpose()
    }

    async fn applied(&self, consumer: &str, events: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let mut script = Script::default();
        let places = applied(&mut script, consumer, events);
        let answers = ask(&self.readers, script).await?;
        places.iter().flat_map(|place| rows(&answers, *place)).map(|row| decode::uuid(row, 0)).collect()
    }

    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError> {
        let mut script = Script::default();
        let missing = script.add(Sql::new(KEYS_MISSING));
        let unwarranted = script.add(Sql::new(KEYS_UNWARRANTED));
        let answers = ask(&self.readers, script).await?;
        let missing = rows(&answers, missing).iter().map(|row| (row, KeyMismatch::Missing));
        let unwarranted = rows(&answers, unwarranted).iter().map(|row| (row, KeyMismatch::Unwarranted));
        missing.chain(unwarranted).map(|(row, how)| Ok((decode::token(row)?, how))).collect()
    }

    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut script = Script::default();
        let place = script.add(Sql::new(EVENTS_KEPT_SINCE));
        rows(&ask(&self.readers, script).await?, place)
            .first()
            .map(|row| decode::timestamp(row, 0))
            .transpose()
    }

    async fn purge_inbox(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        let now = read::now(&self.readers, &self.options.clock).await?;
        purge::inbox(&self.writers, before(now, kept_for), limit).await
    }
}

/// A connection; the transaction begins when there is something to write.
struct MysqlInbox {
    wire: Wire,
    clock: Clock,
}

impl MysqlInbox {
    async fn open(writers: &Pool, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self { wire: Wire::open(writers).await?, clock })
    }
}

impl inbox::InboxSession for MysqlInbox {
    async fn look(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        resources: &BTreeSet<ResourceId>,
    ) -> Result<Known, StoreError> {
        let mut script = Script::default();
        let applied = applied(&mut script, consumer, events);
        let head = || {
            Sql::new(
                "SELECT id FROM resources FORCE INDEX (PRIMARY) WHERE fulfilment = 'SMART_KEY' AND id IN ",
            )
        };
        let opened = script.add_lists(resources, session::id, head, "");
        let answers = self.wire.ask(script).await?;
        self.wire.mark_clean();
        let mut known = Known::default();
        for row in applied.iter().flat_map(|place| rows(&answers, *place)) {
            known.applied.insert(decode::uuid(row, 0)?);
        }
        for row in opened.iter().flat_map(|place| rows(&answers, *place)) {
            known.opened_by_key.insert(decode::resource_id(row, 0)?);
        }
        Ok(known)
    }

    async fn take(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        tokens: &BTreeSet<Token>,
    ) -> Result<Taken, StoreError> {
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION"));
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
        let keys = script.add_lists(tokens, session::token, head, " ORDER BY token FOR UPDATE");
        let subscribed = script.add(Sql::new(SUBSCRIPTIONS));
        let now = script.add(Sql::new(CLOCK));
        let answers = self.wire.ask(script).await?;
        let keys = keys.iter().flat_map(|place| rows(&answers, *place));
        Ok(Taken {
            now: clock_of(&answers, now, &self.clock)?,
            smart_keys: keys.map(decode::smart_key).collect::<Result<_, _>>()?,
            subscriptions: decode::subscriptions(rows(&answers, subscribed))?,
        })
    }

    async fn commit(mut self, changes: EffectChanges) -> Result<(), StoreError> {
        let mut script = Script::default();
        script.add_rows(&changes.created_keys, smart_key, KEYS);
        script.add_rows_then(&changes.updated_keys, smart_key, KEYS, KEYS_CHANGED);
        let row = |sql: Sql, delivery: &NewDelivery| self::delivery(sql, delivery, &self.clock);
        // Enqueued twice only where the inbox has forgotten the event: once is enough.
        script.add_rows_then(&changes.deliveries, row, DELIVERIES, " ON DUPLICATE KEY UPDATE id = id");
        script.add(Sql::new("COMMIT"));
        self.wire.ask(script).await?;
        self.wire.mark_clean();
        Ok(())
    }

    async fn end(self) -> Result<(), StoreError> {
        // Nothing was begun.
        Ok(())
    }
}

/// Asks which events a consumer has applied; where the answers will be.
fn applied(script: &mut Script, consumer: &str, events: &[Uuid]) -> Vec<usize> {
    let head = || {
        Sql::new("SELECT event_id FROM processed_events FORCE INDEX (PRIMARY) WHERE consumer = ")
            .text(consumer)
            .push(" AND event_id IN ")
    };
    script.add_lists(events, |sql, id| sql.bytes(id.as_bytes()), head, "")
}

fn smart_key(sql: Sql, key: &SmartKey) -> Sql {
    let sql = session::token(sql, &key.token).push(", ").unsigned(key.version).push(", ");
    let sql = match key.issued {
        Some((code, at)) => sql.bytes(&code).push(", ").integer(at.as_microsecond()),
        None => sql.push("NULL, NULL"),
    };
    match key.revoked_at {
        Some(at) => sql.push(", ").integer(at.as_microsecond()),
        None => sql.push(", NULL"),
    }
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
        .text(&delivery.body)
        .push(", 'PENDING', ");
    let sql = instant(sql, clock).push(", ");
    let sql = instant(sql, clock).push(", ");
    let sql = instant(sql, clock).push(", ");
    sql.optional_text(delivery.trace.map(|trace| trace.traceparent()).as_ref().map(Traceparent::as_str))
}
