//! The outbox for relays and operators: leases, unpublished events, results.
//!
//! Never: a locked row, or an open transaction, while events are in flight.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Clock, MysqlStore, StoreError,
    connect::Pool,
    leases,
    outbox_filter::filtered,
    read as views,
    round_trip::{TrackedConnection, affected, clock_of, in_transaction, read, rows},
    sql::{Script, Sql},
    statements::{CLOCK, instant},
};
use crate::{
    effects::Subscription,
    engine::Timestamp,
    envelope::OutboxEvent,
    store::{
        Backlog, Blocked, Leases, OutboxAdmin, OutboxFilter, OutboxRead, OutboxRow, OutboxStore, Republished,
        Sent, Unpublished, batch,
        decode::{self, Columns, corrupt},
        outbox::{self, PAYLOAD_BYTES_READ},
        purge::before,
        shards,
    },
};

const WAITING: &str = "SELECT o.id, o.event_id, o.shard, o.event_key, o.key_version, o.type, ";
/// Locked, so that a relay that takes over a shard waits until this mark is made or refused.
const HELD: &str = "SELECT name FROM leases FORCE INDEX (PRIMARY)
    WHERE name >= 'relay/shard/' AND name < 'relay/shard0' AND owner = ";
/// The second assignment must come last: MySQL evaluates them in their order.
const REPUBLISH: &str = "UPDATE outbox FORCE INDEX (PRIMARY)
    SET first_published_at = COALESCE(first_published_at, published_at), published_at = NULL
    WHERE published_at IS NOT NULL AND id IN ";
const NEEDLESS_BLOCKS: &str = "SELECT b.event_key, b.event_id FROM outbox_blocked b
    WHERE NOT EXISTS (SELECT 1 FROM outbox o FORCE INDEX (outbox_key)
        WHERE o.event_key = b.event_key AND o.published_at IS NULL AND o.event_id = b.event_id) LIMIT 1000";
/// A transaction that applies events may have read the endpoints some seconds after it recorded the events.
const MISSING_DELIVERIES: &str = "SELECT e.id, e.event_types, p.event_id
    FROM processed_events p FORCE INDEX (PRIMARY)
    JOIN webhook_endpoints e ON e.disabled_at IS NULL AND e.updated_at < p.processed_at - 30000000
    LEFT JOIN webhook_deliveries d ON d.endpoint_id = e.id AND d.event_id = p.event_id
    WHERE d.id IS NULL AND p.processed_at > ";
const BLOCKED: &str = "INSERT INTO outbox_blocked
    (event_key, event_id, blocked_until, attempts, parked, reason, updated_at) SELECT ";
const BLOCKED_AGAIN: &str = " ON DUPLICATE KEY UPDATE event_id = VALUES(event_id),
    blocked_until = VALUES(blocked_until), attempts = VALUES(attempts), parked = VALUES(parked),
    reason = VALUES(reason), updated_at = VALUES(updated_at)";

#[async_trait]
impl OutboxStore for MysqlStore {
    async fn lease(
        &self,
        relay: Uuid,
        fencing: Option<u64>,
        lease_for: Duration,
    ) -> Result<Leases, StoreError> {
        batch::with_retries(|_| lease(&self.writers, &self.options.clock, relay, fencing, lease_for)).await
    }

    async fn leave(&self, relay: Uuid) -> Result<(), StoreError> {
        batch::with_retries(|_| async {
            // Locked in the same order as elsewhere.
            let mut script = Script::default();
            let gone = Sql::new("DELETE FROM leases WHERE name LIKE 'relay/member/%' AND owner = ");
            script.add(gone.bytes(relay.as_bytes()));
            let free =
                "UPDATE leases SET owner = NULL, expires_at = 0 WHERE name LIKE 'relay/shard/%' AND owner = ";
            script.add(Sql::new(free).bytes(relay.as_bytes()));
            in_transaction(&self.writers, script).await.map(drop)
        })
        .await
    }

    async fn unpublished(&self, wanted: &OutboxRead<'_>) -> Result<Unpublished, StoreError> {
        let mut script = Script::default();
        let clock = script.add(Sql::new(CLOCK));
        // A blocked key may have millions of rows, and a payload may be large: neither is read in vain.
        let waits = |sql: Sql| {
            let sql = sql.push("(b.event_key IS NOT NULL AND (b.parked = 1 OR b.blocked_until > ");
            instant(sql, &self.options.clock).push("))")
        };
        let select = waits(Sql::new(WAITING).push("CASE WHEN ")).push(" OR LENGTH(o.payload) > ");
        let select = select.integer(PAYLOAD_BYTES_READ);
        let select =
            waits(select.push(" THEN '' ELSE o.payload END, o.created_at, o.traceparent, b.attempts, "));
        let mut select = select
            .push(
                ", LENGTH(o.payload) FROM outbox o FORCE INDEX (outbox_unpublished)
                LEFT JOIN outbox_blocked b ON b.event_key = o.event_key
                WHERE o.published_at IS NULL AND o.id > ",
            )
            .integer(wanted.after);
        if wanted.shards.len() < usize::from(shards::SHARDS) {
            let shard = |sql: Sql, shard: &u8| sql.integer(i64::from(*shard));
            select = list(select.push(" AND o.shard IN ("), wanted.shards, shard);
        }
        let rows_read = script.add(select.push(" ORDER BY o.id LIMIT ").integer(i64::from(wanted.rows)));
        let results = read(&self.readers.background, script).await?;
        let waiting = rows(&results, rows_read).iter().map(decode::waiting_row).collect::<Result<_, _>>()?;
        let now = clock_of(&results, clock, &self.options.clock)?;
        let mut found = outbox::select(waiting, now, wanted);
        let large = outbox::without_payload(&found.events);
        if !large.is_empty() {
            let mut script = Script::default();
            let head = || Sql::new("SELECT id, payload FROM outbox FORCE INDEX (PRIMARY) WHERE id IN ");
            let places = script.add_lists(&large, |sql, id| sql.integer(*id), head, "");
            let results = read(&self.readers.background, script).await?;
            let payloads = places.iter().flat_map(|place| rows(&results, *place));
            let payloads = payloads.map(|row| Ok((row.integer(0)?, row.text(1)?.to_owned())));
            outbox::fill_payloads(&mut found, payloads.collect::<Result<_, StoreError>>()?);
        }
        Ok(found)
    }

    async fn first_unpublished(&self, keys: &[&str]) -> Result<HashMap<String, i64>, StoreError> {
        let mut script = Script::default();
        let head = || {
            Sql::new(
                "SELECT event_key, MIN(id) FROM outbox FORCE INDEX (outbox_key)
                WHERE published_at IS NULL AND event_key IN ",
            )
        };
        let places = script.add_lists(keys, |sql, key| sql.text(key), head, " GROUP BY event_key");
        let results = read(&self.readers.background, script).await?;
        let found = places.iter().flat_map(|place| rows(&results, *place));
        found.map(|row| Ok((row.text(0)?.to_owned(), row.integer(1)?))).collect()
    }

    async fn record_results(&self, relay: Uuid, fencing: u64, sent: &Sent) -> Result<u64, StoreError> {
        batch::with_retries(|_| record_results(&self.writers, &self.options.clock, relay, fencing, sent))
            .await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let mut script = Script::default();
        let clock = script.add(Sql::new(CLOCK));
        let unpublished = script.add(Sql::new(
            "SELECT COUNT(*), (SELECT created_at FROM outbox FORCE INDEX (outbox_unpublished)
                WHERE published_at IS NULL ORDER BY id LIMIT 1)
            FROM (SELECT 1 FROM outbox FORCE INDEX (outbox_unpublished)
                WHERE published_at IS NULL LIMIT 100000) counted",
        ));
        let blocked = script.add(Sql::new(
            "SELECT COUNT(*), CAST(SUM(parked) AS SIGNED)
            FROM (SELECT parked FROM outbox_blocked LIMIT 100000) counted",
        ));
        let results = read(&self.readers.metrics, script).await?;
        let [unpublished, blocked] = [unpublished, blocked].map(|place| rows(&results, place).first());
        let (Some(unpublished), Some(blocked)) = (unpublished, blocked) else {
            return Err(corrupt("a count has no row".to_owned()));
        };
        decode::backlog(unpublished, blocked, clock_of(&results, clock, &self.options.clock)?)
    }
}

#[async_trait]
impl OutboxAdmin for MysqlStore {
    async fn skipped(&self) -> Result<HashSet<Uuid>, StoreError> {
        let mut script = Script::default();
        let place = script.add(Sql::new("SELECT event_id FROM outbox_skipped"));
        rows(&read(&self.readers.views, script).await?, place)
            .iter()
            .map(|row| decode::uuid(row, 0))
            .collect()
    }

    async fn outbox_rows(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError> {
        let mut script = Script::default();
        let clock = script.add(Sql::new(CLOCK));
        let found = script.add(filtered(filter, &self.options.clock));
        let results = read(&self.readers.views, script).await?;
        let now = clock_of(&results, clock, &self.options.clock)?;
        rows(&results, found).iter().map(|row| decode::outbox_row(row, now)).collect()
    }

    async fn retry_blocked(&self, key: Option<&str>) -> Result<u64, StoreError> {
        let mut delete = Sql::new("DELETE FROM outbox_blocked");
        if let Some(key) = key {
            delete = delete.push(" WHERE event_key = ").text(key);
        }
        let mut script = Script::default();
        let place = script.add(delete);
        Ok(affected(&in_transaction(&self.writers, script).await?, place))
    }

    async fn skip(&self, event: &OutboxEvent) -> Result<bool, StoreError> {
        let mut script = Script::default();
        let record = Sql::new("INSERT IGNORE INTO outbox_skipped (event_id, skipped_at) SELECT event_id, ");
        let record = instant(record, &self.options.clock);
        script.add(record.push(" FROM outbox WHERE published_at IS NULL AND id = ").integer(event.id));
        let update = instant(Sql::new("UPDATE outbox SET published_at = "), &self.options.clock);
        let skipped = script.add(update.push(" WHERE published_at IS NULL AND id = ").integer(event.id));
        let delete = Sql::new("DELETE FROM outbox_blocked WHERE event_key = ").text(&event.key);
        script.add(delete.push(" AND event_id = ").bytes(event.event_id.as_bytes()));
        Ok(affected(&in_transaction(&self.writers, script).await?, skipped) == 1)
    }

    async fn needless_blocks(&self) -> Result<Vec<(String, Uuid)>, StoreError> {
        let mut script = Script::default();
        let place = script.add(Sql::new(NEEDLESS_BLOCKS));
        let results = read(&self.readers.views, script).await?;
        rows(&results, place).iter().map(|row| Ok((row.text(0)?.to_owned(), decode::uuid(row, 1)?))).collect()
    }

    async fn missing_deliveries(
        &self,
        consumer: &str,
        events: &[Uuid],
        kept_for: Duration,
    ) -> Result<Vec<(Uuid, Subscription)>, StoreError> {
        let now = views::now(&self.readers.views, &self.options.clock).await?;
        let since = before(now, kept_for).as_microsecond();
        let mut script = Script::default();
        let head = || {
            Sql::new(MISSING_DELIVERIES)
                .integer(since)
                .push(" AND p.consumer = ")
                .text(consumer)
                .push(" AND p.event_id IN ")
        };
        let places = script.add_lists(events, |sql, id| sql.bytes(id.as_bytes()), head, "");
        let results = read(&self.readers.views, script).await?;
        let found = places.iter().flat_map(|place| rows(&results, *place));
        found.filter_map(|row| decode::missing_delivery(row).transpose()).collect()
    }

    async fn republish(
        &self,
        since: Timestamp,
        until: Timestamp,
        after: i64,
        limit: u32,
    ) -> Result<Republished, StoreError> {
        let mut script = Script::default();
        let page = script.add(
            Sql::new(
                "SELECT o.id, o.created_at, CASE WHEN s.event_id IS NULL THEN o.published_at END
                FROM outbox o FORCE INDEX (PRIMARY) LEFT JOIN outbox_skipped s ON s.event_id = o.event_id
                WHERE o.id > ",
            )
            .integer(after)
            .push(" ORDER BY o.id LIMIT ")
            .integer(i64::from(limit)),
        );
        let results = read(&self.readers.views, script).await?;
        let page = decode::republish_page(rows(&results, page), since..until, limit)?;
        if page.ids.is_empty() {
            return Ok(Republished { events: 0, next: page.next });
        }
        let mut script = Script::default();
        let head = || Sql::new(REPUBLISH);
        let places = script.add_lists(&page.ids, |sql, id| sql.integer(*id), head, "");
        let results = in_transaction(&self.writers, script).await?;
        let events = places.iter().map(|place| affected(&results, *place)).sum();
        Ok(Republished { events, next: page.next })
    }
}

async fn lease(
    writers: &Pool,
    clock: &Clock,
    relay: Uuid,
    fencing: Option<u64>,
    lease_for: Duration,
) -> Result<Leases, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    // The first relay ever inserts the row that all relays lock. If it exists already, this locks it exclusively at
    // once, so a later upgrade cannot deadlock.
    let free = Sql::new(
        "INSERT INTO leases (name, owner, fencing, expires_at) VALUES ('relay', NULL, 0, 0)
        ON DUPLICATE KEY UPDATE name = VALUES(name)",
    );
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    script.add(free);
    let all =
        script.add(Sql::new(leases::LEASE).push(">= 'relay' AND name < 'relay0' ORDER BY name FOR UPDATE"));
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let found = rows(&results, all).iter().map(decode::lease).collect::<Result<Vec<_>, _>>()?;
    let decision = shards::renew(found, relay, fencing, clock_of(&results, now, clock)?, lease_for);
    let mut script = Script::default();
    leases::write(&mut script, &decision.write);
    let head = || Sql::new("DELETE FROM leases WHERE name IN ");
    script.add_lists(&decision.delete, |sql, name| sql.text(name), head, "");
    script.add(Sql::new("COMMIT"));
    connection.run(script).await?;
    connection.mark_clean();
    Ok(decision.leases)
}

async fn record_results(
    writers: &Pool,
    clock: &Clock,
    relay: Uuid,
    fencing: u64,
    sent: &Sent,
) -> Result<u64, StoreError> {
    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let held = Sql::new(HELD).bytes(relay.as_bytes()).push(" AND fencing = ").unsigned(fencing);
    let held = instant(held.push(" AND expires_at > "), clock).push(" LOCK IN SHARE MODE");
    let held = script.add(held);
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let now = clock_of(&results, now, clock)?;
    let held = rows(&results, held).iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
    let holds = |shard: u8| held.contains(&shards::shard_name(shard).as_str());
    let sent = sent.clone().only(holds);

    let mut script = Script::default();
    // An operator may have given up an event that failed. Its row is locked first, because the INSERT below reads it
    // without a lock and could otherwise block a key for an event that counts as published. Rows of the outbox are
    // locked before rows of blocked keys here and in `skip`.
    let head = || Sql::new("SELECT id FROM outbox FORCE INDEX (PRIMARY) WHERE id IN ");
    let failed = sent.blocked.iter().map(|blocked| blocked.id);
    script.add_lists(failed, Sql::integer, head, " ORDER BY id FOR UPDATE");
    let head = || {
        Sql::new("UPDATE outbox FORCE INDEX (PRIMARY) SET published_at = COALESCE(first_published_at, ")
            .integer(now.as_microsecond())
            .push(") WHERE published_at IS NULL AND id IN ")
    };
    let marks = script.add_lists(&sent.published, |sql, (id, _)| sql.integer(*id), head, "");
    let head = || Sql::new("DELETE FROM outbox_blocked WHERE event_key IN ");
    script.add_lists(&sent.unblocked, |sql, (key, _)| sql.text(key), head, "");
    for blocked in &sent.blocked {
        let row = blocked_row(Sql::new(BLOCKED), blocked, now);
        let row = row.push(" FROM outbox WHERE published_at IS NULL AND id = ").integer(blocked.id);
        script.add(row.push(BLOCKED_AGAIN));
    }
    script.add(Sql::new("COMMIT"));
    let results = connection.run(script).await?;
    connection.mark_clean();
    Ok(marks.iter().map(|place| affected(&results, *place)).sum())
}

fn blocked_row(sql: Sql, blocked: &Blocked, now: Timestamp) -> Sql {
    sql.text(&blocked.key)
        .push(", ")
        .bytes(blocked.event_id.as_bytes())
        .push(", ")
        .integer(blocked.until(now).as_microsecond())
        .push(", ")
        .integer(i64::from(blocked.attempts))
        .push(if blocked.retry_after.is_none() { ", 1, " } else { ", 0, " })
        .text(&blocked.reason)
        .push(", ")
        .integer(now.as_microsecond())
}

/// Writes the elements and closes the list.
fn list<T>(mut sql: Sql, elements: &[T], element: impl Fn(Sql, &T) -> Sql) -> Sql {
    for (n, value) in elements.iter().enumerate() {
        sql = element(if n == 0 { sql } else { sql.push(", ") }, value);
    }
    // A list must not be empty: no shard has this number.
    if elements.is_empty() { sql.push("-1)") } else { sql.push(")") }
}
