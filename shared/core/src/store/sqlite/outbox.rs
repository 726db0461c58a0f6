//! The outbox for relays and operators: leases, unpublished events, results.
//!
//! A file has few relays, usually one; the rules are the same nevertheless.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    SqliteStore, StoreError, error::failed, json::hex_list, leases, number::integer, session::SqliteSession,
};
use crate::{
    effects::Subscription,
    engine::Timestamp,
    envelope::OutboxEvent,
    store::{
        Backlog, Leases, OutboxAdmin, OutboxFilter, OutboxRead, OutboxRow, OutboxState, OutboxStore,
        Republished, Sent, Unpublished,
        batch::Session,
        decode::{self, Columns},
        outbox::{self, PAYLOAD_BYTES_READ},
        purge::before,
        shards,
    },
};

macro_rules! event_columns {
    () => {
        "SELECT o.id, o.event_id, o.shard, o.event_key, o.key_version, o.type, o.payload, o.created_at,
        o.traceparent, b.attempts"
    };
}

/// A blocked key may have millions of rows, and a payload may be large: neither is read in vain.
const UNPUBLISHED: &str = "WITH w AS (SELECT o.*, b.attempts,
        (b.event_key IS NOT NULL AND (b.parked = 1 OR b.blocked_until > ?2)) AS waits,
        length(CAST(o.payload AS BLOB)) AS bytes
    FROM outbox o INDEXED BY outbox_unpublished LEFT JOIN outbox_blocked b ON b.event_key = o.event_key
    WHERE o.published_at IS NULL AND o.id > ?3 AND o.shard IN (SELECT value FROM json_each(?1))
    ORDER BY o.id LIMIT ?4)
    SELECT id, event_id, shard, event_key, key_version, type,
        CASE WHEN waits OR bytes > ?5 THEN '' ELSE payload END, created_at, traceparent, attempts, waits, bytes
    FROM w ORDER BY id";
const PAYLOADS: &str = "SELECT id, payload FROM outbox WHERE id IN (SELECT value FROM json_each(?1))";
const ROWS: &str = concat!(
    event_columns!(),
    ", o.published_at, b.parked, b.blocked_until, b.reason
    FROM outbox o LEFT JOIN outbox_blocked b ON b.event_key = o.event_key
    WHERE o.id > ?1 AND (?2 IS NULL OR o.event_key = ?2) AND (?3 IS NULL OR o.event_id = ?3)
        AND (?4 IS NULL OR ?4 = CASE
            WHEN o.published_at IS NOT NULL THEN 'published'
            WHEN b.parked = 1 THEN 'parked'
            WHEN b.blocked_until > ?5 THEN 'blocked'
            ELSE 'waiting' END)
    ORDER BY o.id LIMIT ?6"
);
const LEASES: &str = "SELECT name, owner, fencing, expires_at FROM leases
    WHERE name >= 'relay' AND name < 'relay0' ORDER BY name";
const HELD: &str = "SELECT name FROM leases WHERE name >= 'relay/shard/' AND name < 'relay/shard0'
    AND owner = ?1 AND fencing = ?2 AND expires_at > ?3";
const PUBLISHED: &str = "UPDATE outbox SET published_at = coalesce(first_published_at, ?2)
    FROM json_each(?1) j WHERE outbox.id = j.value AND outbox.published_at IS NULL";
const BLOCKED: &str = "INSERT INTO outbox_blocked
        (event_key, event_id, blocked_until, attempts, parked, reason, updated_at)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 FROM outbox WHERE published_at IS NULL AND id = ?8
    ON CONFLICT (event_key) DO UPDATE SET event_id = ?2, blocked_until = ?3, attempts = ?4, parked = ?5, reason = ?6,
        updated_at = ?7";

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn lease(
        &self,
        relay: Uuid,
        fencing: Option<u64>,
        lease_for: Duration,
    ) -> Result<Leases, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let rows = sqlx::query(LEASES).fetch_all(session.connection()).await.map_err(failed)?;
        let rows = rows.iter().map(decode::lease).collect::<Result<Vec<_>, _>>()?;
        let decision = shards::renew(rows, relay, fencing, self.now(), lease_for);
        for row in &decision.write {
            leases::write(session.connection(), row).await?;
        }
        for name in &decision.delete {
            let delete = sqlx::query("DELETE FROM leases WHERE name = ?1").bind(name);
            delete.execute(session.connection()).await.map_err(failed)?;
        }
        session.commit().await?;
        Ok(decision.leases)
    }

    async fn leave(&self, relay: Uuid) -> Result<(), StoreError> {
        const FREE: &str =
            "UPDATE leases SET owner = NULL, expires_at = 0 WHERE name LIKE 'relay/shard/%' AND owner = ?1";
        const GONE: &str = "DELETE FROM leases WHERE name LIKE 'relay/member/%' AND owner = ?1";
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        for sql in [FREE, GONE] {
            let query = sqlx::query(sql).bind(relay.as_bytes().to_vec());
            query.execute(session.connection()).await.map_err(failed)?;
        }
        session.commit().await
    }

    async fn unpublished(&self, wanted: &OutboxRead<'_>) -> Result<Unpublished, StoreError> {
        let now = self.now();
        let query = sqlx::query(UNPUBLISHED)
            .bind(json!(wanted.shards).to_string())
            .bind(now.as_microsecond())
            .bind(wanted.after)
            .bind(wanted.rows)
            .bind(PAYLOAD_BYTES_READ);
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.background.acquire().await?).await.map_err(failed)?;
        let waiting = rows.iter().map(decode::waiting_row).collect::<Result<_, _>>()?;
        let mut found = outbox::select(waiting, now, wanted);
        let large = outbox::without_payload(&found.events);
        if !large.is_empty() {
            let query = sqlx::query(PAYLOADS).bind(json!(large).to_string());
            let rows: Vec<SqliteRow> =
                query.fetch_all(&mut *self.readers.background.acquire().await?).await.map_err(failed)?;
            let payloads = rows.iter().map(|row| Ok((row.integer(0)?, row.text(1)?.to_owned())));
            outbox::fill_payloads(&mut found, payloads.collect::<Result<_, StoreError>>()?);
        }
        Ok(found)
    }

    async fn first_unpublished(&self, keys: &[&str]) -> Result<HashMap<String, i64>, StoreError> {
        const FIRST: &str = "SELECT o.event_key, min(o.id) FROM json_each(?1) j
            CROSS JOIN outbox o INDEXED BY outbox_key ON o.event_key = j.value AND o.published_at IS NULL
            GROUP BY o.event_key";
        let query = sqlx::query(FIRST).bind(json!(keys).to_string());
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.background.acquire().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.integer(1)?))).collect()
    }

    async fn record_results(&self, relay: Uuid, fencing: u64, sent: &Sent) -> Result<u64, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let now = self.now();
        let held = sqlx::query(HELD)
            .bind(relay.as_bytes().to_vec())
            .bind(integer(fencing))
            .bind(now.as_microsecond())
            .fetch_all(session.connection())
            .await
            .map_err(failed)?;
        let held = held.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
        let sent = sent.clone().only(|shard| held.contains(&shards::shard_name(shard).as_str()));
        let ids: Vec<i64> = sent.published.iter().map(|(id, _)| *id).collect();
        let mark = sqlx::query(PUBLISHED).bind(json!(ids).to_string()).bind(now.as_microsecond());
        let marked = mark.execute(session.connection()).await.map_err(failed)?.rows_affected();
        for (key, _) in &sent.unblocked {
            let delete = sqlx::query("DELETE FROM outbox_blocked WHERE event_key = ?1").bind(key);
            delete.execute(session.connection()).await.map_err(failed)?;
        }
        for blocked in &sent.blocked {
            sqlx::query(BLOCKED)
                .bind(&blocked.key)
                .bind(blocked.event_id.as_bytes().to_vec())
                .bind(blocked.until(now).as_microsecond())
                .bind(blocked.attempts)
                .bind(blocked.retry_after.is_none())
                .bind(&blocked.reason)
                .bind(now.as_microsecond())
                .bind(blocked.id)
                .execute(session.connection())
                .await
                .map_err(failed)?;
        }
        session.commit().await?;
        Ok(marked)
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        const WAITING: &str = "SELECT count(*), (SELECT created_at FROM outbox INDEXED BY outbox_unpublished
                WHERE published_at IS NULL ORDER BY id LIMIT 1)
            FROM (SELECT 1 FROM outbox INDEXED BY outbox_unpublished WHERE published_at IS NULL LIMIT 100000)";
        const BLOCKED: &str =
            "SELECT count(*), sum(parked) FROM (SELECT parked FROM outbox_blocked LIMIT 100000)";
        let unpublished = sqlx::query(WAITING)
            .fetch_one(&mut *self.readers.metrics.acquire().await?)
            .await
            .map_err(failed)?;
        let blocked = sqlx::query(BLOCKED)
            .fetch_one(&mut *self.readers.metrics.acquire().await?)
            .await
            .map_err(failed)?;
        decode::backlog(&unpublished, &blocked, self.now())
    }
}

#[async_trait]
impl OutboxAdmin for SqliteStore {
    async fn skipped(&self) -> Result<HashSet<Uuid>, StoreError> {
        let rows: Vec<SqliteRow> = sqlx::query("SELECT event_id FROM outbox_skipped")
            .fetch_all(&mut *self.readers.views.acquire().await?)
            .await
            .map_err(failed)?;
        rows.iter().map(|row| decode::uuid(row, 0)).collect()
    }

    async fn outbox_rows(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError> {
        let now = self.now();
        let query = sqlx::query(ROWS)
            .bind(filter.after)
            .bind(filter.key.as_deref())
            .bind(filter.event_id.map(|id| id.as_bytes().to_vec()))
            .bind(filter.state.map(OutboxState::as_str))
            .bind(now.as_microsecond())
            .bind(filter.limit);
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().map(|row| decode::outbox_row(row, now)).collect()
    }

    async fn retry_blocked(&self, key: Option<&str>) -> Result<u64, StoreError> {
        const RETRY: &str = "DELETE FROM outbox_blocked WHERE ?1 IS NULL OR event_key = ?1";
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let retry = sqlx::query(RETRY).bind(key).execute(session.connection()).await.map_err(failed)?;
        session.commit().await?;
        Ok(retry.rows_affected())
    }

    async fn skip(&self, event: &OutboxEvent) -> Result<bool, StoreError> {
        const SKIP: &str = "UPDATE outbox SET published_at = ?1 WHERE published_at IS NULL AND id = ?2";
        const RECORD: &str = "INSERT OR IGNORE INTO outbox_skipped (event_id, skipped_at)
            SELECT event_id, ?1 FROM outbox WHERE published_at IS NULL AND id = ?2";
        const UNBLOCK: &str = "DELETE FROM outbox_blocked WHERE event_key = ?1 AND event_id = ?2";
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let record = sqlx::query(RECORD).bind(self.now().as_microsecond()).bind(event.id);
        record.execute(session.connection()).await.map_err(failed)?;
        let skip = sqlx::query(SKIP).bind(self.now().as_microsecond()).bind(event.id);
        let skipped = skip.execute(session.connection()).await.map_err(failed)?.rows_affected();
        let delete = sqlx::query(UNBLOCK).bind(&event.key).bind(event.event_id.as_bytes().to_vec());
        delete.execute(session.connection()).await.map_err(failed)?;
        session.commit().await?;
        Ok(skipped == 1)
    }

    async fn needless_blocks(&self) -> Result<Vec<(String, Uuid)>, StoreError> {
        const BLOCKS: &str = "SELECT b.event_key, b.event_id FROM outbox_blocked b
            WHERE NOT EXISTS (SELECT 1 FROM outbox o WHERE o.event_key = b.event_key
                AND o.published_at IS NULL AND o.event_id = b.event_id) LIMIT 1000";
        let rows: Vec<SqliteRow> =
            sqlx::query(BLOCKS).fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), decode::uuid(row, 1)?))).collect()
    }

    async fn missing_deliveries(
        &self,
        consumer: &str,
        events: &[Uuid],
        kept_for: Duration,
    ) -> Result<Vec<(Uuid, Subscription)>, StoreError> {
        // An endpoint that was changed shortly before is left out, as on MySQL.
        const MISSING: &str = "SELECT e.id, e.event_types, p.event_id FROM json_each(?2) j
            CROSS JOIN processed_events p ON p.consumer = ?1 AND p.event_id = unhex(j.value)
            JOIN webhook_endpoints e ON e.disabled_at IS NULL AND e.updated_at < p.processed_at - 30000000
            LEFT JOIN webhook_deliveries d ON d.endpoint_id = e.id AND d.event_id = p.event_id
            WHERE d.id IS NULL AND p.processed_at > ?3";
        let query = sqlx::query(MISSING).bind(consumer).bind(hex_list(events)?);
        let query = query.bind(before(self.now(), kept_for).as_microsecond());
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().filter_map(|row| decode::missing_delivery(row).transpose()).collect()
    }

    async fn republish(
        &self,
        since: Timestamp,
        until: Timestamp,
        after: i64,
        limit: u32,
    ) -> Result<Republished, StoreError> {
        const PAGE: &str = "SELECT o.id, o.created_at, CASE WHEN s.event_id IS NULL THEN o.published_at END
            FROM outbox o LEFT JOIN outbox_skipped s ON s.event_id = o.event_id
            WHERE o.id > ?1 ORDER BY o.id LIMIT ?2";
        const AGAIN: &str = "UPDATE outbox
            SET published_at = NULL, first_published_at = coalesce(first_published_at, published_at)
            FROM json_each(?1) j WHERE outbox.id = j.value AND outbox.published_at IS NOT NULL";
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let page = sqlx::query(PAGE).bind(after).bind(limit);
        let page: Vec<SqliteRow> = page.fetch_all(session.connection()).await.map_err(failed)?;
        let page = decode::republish_page(&page, since..until, limit)?;
        let again = sqlx::query(AGAIN).bind(json!(page.ids).to_string());
        let events = again.execute(session.connection()).await.map_err(failed)?.rows_affected();
        session.commit().await?;
        Ok(Republished { events, next: page.next })
    }
}
