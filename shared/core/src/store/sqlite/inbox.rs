//! The inbox: one `BEGIN IMMEDIATE` transaction for each batch, so everything that it reads is locked.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    SqliteStore, StoreError,
    clock::now,
    error::failed,
    json::{hex_list, ids_json, tokens_json},
    purge,
    session::SqliteSession,
};
use crate::{
    effects::{EffectChanges, NewDelivery, SmartKey},
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
    store::{
        Applied, InboxStore, KeyMismatch, Purged, batch, decode,
        inbox::{self, InboxClaim, InboxLookup},
        purge::before,
    },
    webhooks::{DELETED, DeliveryStatus},
};

const APPLIED: &str = "SELECT p.event_id FROM json_each(?2) j
    CROSS JOIN processed_events p ON p.consumer = ?1 AND p.event_id = unhex(j.value)";
const RESOURCES: &str = "SELECT r.id, r.version, r.fulfilment FROM json_each(?1) j
    CROSS JOIN resources r ON r.id = j.value";
const RESERVATIONS: &str = "SELECT r.token, r.status, r.version FROM json_each(?1) j
    CROSS JOIN reservations r ON r.token = unhex(j.value) AND r.item_no = 0";
const RECORD: &str = "INSERT OR FAIL INTO processed_events (consumer, event_id, processed_at)
    SELECT ?1, unhex(j.value), ?3 FROM json_each(?2) j";
const SMART_KEYS: &str = "SELECT k.token, k.version, k.code, k.issued_at, k.revoked_at FROM json_each(?1) j
    CROSS JOIN smart_keys k ON k.token = unhex(j.value) ORDER BY k.token";
/// Every endpoint that is not being deleted: the events of a disabled one are kept for it.
const SUBSCRIPTIONS: &str = "SELECT id, event_types FROM webhook_endpoints WHERE disabled_reason IS NOT ?1";
const SMART_KEY: &str = "INSERT OR REPLACE INTO smart_keys (token, version, code, issued_at, revoked_at)
    VALUES (?1, ?2, ?3, ?4, ?5)";

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
impl InboxStore for SqliteStore {
    async fn apply(&self, consumer: &str, events: &[Incoming]) -> Result<Applied, StoreError> {
        inbox::apply(|| SqliteSession::begin(&self.writer, self.clock.clone()), consumer, events).await
    }

    async fn smart_key(&self, token: Token) -> Result<Option<SmartKey>, StoreError> {
        let query = sqlx::query(SMART_KEYS).bind(tokens_json([&token])?);
        query
            .fetch_optional(&mut *self.readers.views.acquire().await?)
            .await
            .map_err(failed)?
            .as_ref()
            .map(decode::smart_key)
            .transpose()
    }

    async fn applied(&self, consumer: &str, events: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let query = sqlx::query(APPLIED).bind(consumer).bind(hex_list(events)?);
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().map(|row| decode::uuid(row, 0)).collect()
    }

    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError> {
        let mut found = Vec::new();
        for (sql, how) in [(KEYS_MISSING, KeyMismatch::Missing), (KEYS_UNWARRANTED, KeyMismatch::Unwarranted)]
        {
            for row in &sqlx::query(sql)
                .fetch_all(&mut *self.readers.views.acquire().await?)
                .await
                .map_err(failed)?
            {
                found.push((decode::token(row)?, how));
            }
        }
        Ok(found)
    }

    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(EVENTS_KEPT_SINCE)
            .fetch_optional(&mut *self.readers.views.acquire().await?)
            .await
            .map_err(failed)?;
        row.map(|row| decode::timestamp(&row, 0)).transpose()
    }

    async fn purge_inbox(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        purge::inbox(&self.writer, self.clock.clone(), before(self.now(), kept_for), limit).await
    }
}

impl inbox::InboxSession for SqliteSession {
    async fn look_up(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        reservations: &BTreeSet<Token>,
        resources: &BTreeSet<ResourceId>,
    ) -> Result<InboxLookup, StoreError> {
        let mut known = InboxLookup::default();
        let applied = sqlx::query(APPLIED).bind(consumer).bind(hex_list(events)?);
        for row in &applied.fetch_all(self.connection()).await.map_err(failed)? {
            known.applied.insert(decode::uuid(row, 0)?);
        }
        if !resources.is_empty() {
            let query = sqlx::query(RESOURCES).bind(ids_json(resources)?);
            for row in &query.fetch_all(self.connection()).await.map_err(failed)? {
                let (id, version, opened) = decode::known_resource(row)?;
                if opened {
                    known.opened_by_key.insert(id.clone());
                }
                known.books.resources.insert(id, version);
            }
        }
        let query = sqlx::query(RESERVATIONS).bind(tokens_json(reservations)?);
        for row in &query.fetch_all(self.connection()).await.map_err(failed)? {
            known.books.reservations.extend(decode::known_reservation(row)?);
        }
        Ok(known)
    }

    async fn reservations_kept_since(&mut self) -> Result<Timestamp, StoreError> {
        const KEPT: &str = "SELECT kept_since FROM retention WHERE what = 'reservations'";
        let row = sqlx::query(KEPT).fetch_optional(self.connection()).await.map_err(failed)?;
        Ok(row.map(|row| decode::timestamp(&row, 0)).transpose()?.unwrap_or_default())
    }

    async fn claim(
        &mut self,
        consumer: &str,
        events: &[Uuid],
        tokens: &BTreeSet<Token>,
    ) -> Result<InboxClaim, StoreError> {
        let now = now(self.clock());
        let record = sqlx::query(RECORD).bind(consumer).bind(hex_list(events)?).bind(now.as_microsecond());
        record.execute(self.connection()).await.map_err(failed)?;
        let keys = sqlx::query(SMART_KEYS).bind(tokens_json(tokens)?);
        let keys: Vec<SqliteRow> = keys.fetch_all(self.connection()).await.map_err(failed)?;
        let subscribed = sqlx::query(SUBSCRIPTIONS).bind(DELETED);
        let subscribed: Vec<SqliteRow> = subscribed.fetch_all(self.connection()).await.map_err(failed)?;
        let full = sqlx::query("SELECT endpoint_id FROM webhook_health WHERE is_full = 1");
        let full: Vec<SqliteRow> = full.fetch_all(self.connection()).await.map_err(failed)?;
        Ok(InboxClaim {
            now,
            smart_keys: keys.iter().map(decode::smart_key).collect::<Result<_, _>>()?,
            subscriptions: decode::subscriptions(&subscribed, &full)?,
        })
    }

    async fn commit(mut self, changes: EffectChanges) -> Result<(), StoreError> {
        // Everything that this transaction reads is locked, so created and updated keys can be written alike.
        for key in changes.created_keys.iter().chain(&changes.updated_keys) {
            write(&mut self, key).await?;
        }
        for new in &changes.deliveries {
            enqueue(&mut self, new).await?;
        }
        batch::Session::commit(self).await
    }

    async fn end(self) -> Result<(), StoreError> {
        batch::Session::rollback(self).await
    }
}

async fn write(session: &mut SqliteSession, key: &SmartKey) -> Result<(), StoreError> {
    sqlx::query(SMART_KEY)
        .bind(key.token.uuid().as_bytes().to_vec())
        .bind(i64::try_from(key.version).unwrap_or(i64::MAX))
        .bind(key.issued.map(|(code, _)| code.to_vec()))
        .bind(key.issued.map(|(_, at)| at.as_microsecond()))
        .bind(key.revoked_at.map(Timestamp::as_microsecond))
        .execute(session.connection())
        .await
        .map(drop)
        .map_err(failed)
}

/// Enqueues a delivery, and returns whether it did not exist yet. It exists already only if the inbox has forgotten the
/// event or if it was backfilled, and then the first delivery is enough.
pub(super) async fn enqueue(session: &mut SqliteSession, delivery: &NewDelivery) -> Result<bool, StoreError> {
    const ENQUEUE: &str = "INSERT INTO webhook_deliveries
            (endpoint_id, event_id, type, event_at, payload, status, next_attempt_at, finished_at, last_error,
            created_at, updated_at, traceparent)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11) ON CONFLICT (endpoint_id, event_id) DO NOTHING";
    let now = now(session.clock()).as_microsecond();
    let (status, due, finished) = match delivery.refused {
        None => (DeliveryStatus::Pending, Some(now), None),
        Some(_) => (DeliveryStatus::Failed, None, Some(now)),
    };
    let enqueue = sqlx::query(ENQUEUE)
        .bind(delivery.endpoint_id.as_bytes().to_vec())
        .bind(delivery.event_id.as_bytes().to_vec())
        .bind(delivery.kind.as_str())
        .bind(delivery.event_at.as_microsecond())
        .bind(delivery.body.to_string())
        .bind(status.as_str())
        .bind(due)
        .bind(finished)
        .bind(delivery.refused)
        .bind(now)
        .bind(delivery.trace.map(|trace| trace.traceparent().as_str().to_owned()));
    Ok(enqueue.execute(session.connection()).await.map_err(failed)?.rows_affected() > 0)
}
