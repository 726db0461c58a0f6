//! Deliveries for operators and the purge: listed, repeated, counted, deleted.

use sqlx::Row;

use super::bytes;
use crate::{
    effects::NewDelivery,
    engine::Timestamp,
    store::{
        batch::Session,
        decode::webhooks as decode,
        sqlite::{
            SqliteStore, StoreError, connect::Pool, error::failed, inbox::enqueue, session::SqliteSession,
        },
        webhooks::{DeliveryPage, PendingDeliveries, ReplayPage, Replayed},
    },
    webhooks::{DELETED, Delivery, DeliveryId, DeliveryStatus, EndpointId},
};

/// The columns that `decode::delivery` reads, up to the `WHERE`.
macro_rules! deliveries {
    () => {
        "SELECT id, endpoint_id, event_id, type, event_at, status, attempts, next_attempt_at, last_status, last_error,
        created_at, updated_at FROM webhook_deliveries "
    };
}

const PAGE: &str =
    concat!(deliveries!(), "WHERE endpoint_id = ?1 AND status = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4");
const ONE: &str = concat!(deliveries!(), "WHERE id = ?1 AND endpoint_id = ?2");
/// Incrementing the claim keeps an attempt in flight from recording its outcome.
const AGAIN: &str =
    "UPDATE webhook_deliveries SET status = 'PENDING', attempts = 0, finished_at = NULL, claim = claim + 1,
    next_attempt_at = ?3, updated_at = ?3 WHERE id = ?1 AND endpoint_id = ?2";
const IN_SPAN: &str =
    "SELECT id, event_at FROM webhook_deliveries WHERE endpoint_id = ?1 AND event_at >= ?2 AND event_at < ?3
    AND (event_at > ?2 OR id > ?4) ORDER BY event_at, id LIMIT ?5";
const PURGE: &str = "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries
    WHERE finished_at < ?1 AND finished_at IS NOT NULL ORDER BY finished_at LIMIT ?2)";
const FINISHED: &str =
    "SELECT EXISTS (SELECT 1 FROM webhook_deliveries WHERE finished_at < ?1 AND finished_at IS NOT NULL)";
const PENDING: &str = "SELECT disabled, count(*), NULL FROM (
        SELECT e.disabled_at IS NOT NULL AS disabled FROM webhook_endpoints e
        CROSS JOIN webhook_deliveries d ON d.endpoint_id = e.id AND d.status = 'PENDING' LIMIT 100000)
    GROUP BY disabled
    UNION ALL
    SELECT e.disabled_at IS NOT NULL, 0, (SELECT d.next_attempt_at FROM webhook_deliveries d
        WHERE d.endpoint_id = e.id AND d.status = 'PENDING' ORDER BY d.next_attempt_at LIMIT 1)
    FROM webhook_endpoints e";

pub(super) async fn page(readers: &Pool, page: DeliveryPage) -> Result<Vec<Delivery>, StoreError> {
    let mut found = Vec::new();
    // One query for each status, because within a status an index has the order of ids.
    let wanted = |status: &DeliveryStatus| page.status.is_none_or(|only| only == *status);
    for status in DeliveryStatus::ALL.into_iter().filter(wanted) {
        let rows = sqlx::query(PAGE)
            .bind(bytes(page.endpoint))
            .bind(status.as_str())
            .bind(page.after.map_or(i64::MAX, DeliveryId::number))
            .bind(page.limit)
            .fetch_all(&mut *readers.acquire().await?)
            .await
            .map_err(failed)?;
        for row in &rows {
            found.push(decode::delivery(row)?);
        }
    }
    Ok(decode::page(found, &page))
}

pub(super) async fn redeliver(
    store: &SqliteStore,
    endpoint: EndpointId,
    delivery: DeliveryId,
) -> Result<Option<Delivery>, StoreError> {
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    again(&mut session, endpoint, delivery, store.now()).await?;
    let found = sqlx::query(ONE).bind(delivery.number()).bind(bytes(endpoint));
    let row = found.fetch_optional(session.connection()).await.map_err(failed)?;
    let found = row.as_ref().map(decode::delivery).transpose()?;
    session.commit().await?;
    Ok(found)
}

pub(super) async fn replay(store: &SqliteStore, page: ReplayPage) -> Result<Replayed, StoreError> {
    let (from, after) = page.after.map_or((page.from, 0), |(at, id)| (at, id.number()));
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let rows = sqlx::query(IN_SPAN)
        .bind(bytes(page.endpoint))
        .bind(from.as_microsecond())
        .bind(page.to.as_microsecond())
        .bind(after)
        .bind(page.limit)
        .fetch_all(session.connection())
        .await
        .map_err(failed)?;
    let found = rows.iter().map(decode::place).collect::<Result<Vec<_>, _>>()?;
    let now = store.now();
    let mut replayed = Replayed::default();
    for (id, _) in &found {
        replayed.deliveries += again(&mut session, page.endpoint, *id, now).await?;
    }
    session.commit().await?;
    let last = found.last().filter(|_| found.len() == page.limit as usize);
    replayed.next = last.map(|(id, at)| (*at, *id));
    Ok(replayed)
}

async fn again(
    session: &mut SqliteSession,
    endpoint: EndpointId,
    delivery: DeliveryId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let again = sqlx::query(AGAIN).bind(delivery.number()).bind(bytes(endpoint)).bind(now.as_microsecond());
    Ok(again.execute(session.connection()).await.map_err(failed)?.rows_affected())
}

/// Enqueues deliveries for an endpoint that has none for these events yet.
pub(super) async fn backfill(
    store: &SqliteStore,
    endpoint: EndpointId,
    new: &[NewDelivery],
) -> Result<u64, StoreError> {
    const EXISTS: &str =
        "SELECT EXISTS (SELECT 1 FROM webhook_endpoints WHERE id = ?1 AND disabled_reason IS NOT ?2)";
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let exists = sqlx::query(EXISTS).bind(bytes(endpoint)).bind(DELETED);
    let exists: bool = exists.fetch_one(session.connection()).await.map_err(failed)?.get(0);
    let mut count = 0;
    for delivery in new.iter().filter(|_| exists) {
        count += u64::from(enqueue(&mut session, delivery).await?);
    }
    session.commit().await?;
    Ok(count)
}

/// Deletes pending deliveries of endpoints that were disabled before `cutoff`, of events before it.
pub(super) async fn purge_disabled(
    store: &SqliteStore,
    cutoff: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    const OLD: &str = "SELECT d.id FROM webhook_endpoints e CROSS JOIN webhook_deliveries d
            INDEXED BY webhook_deliveries_replayed
            ON d.endpoint_id = e.id AND d.event_at < ?1 AND d.status = 'PENDING'
        WHERE e.disabled_at < ?1 LIMIT ?2";
    let cutoff = cutoff.as_microsecond();
    let old = sqlx::query(OLD).bind(cutoff).bind(limit);
    let rows = old.fetch_all(&mut *store.readers.background.acquire().await?).await.map_err(failed)?;
    // Without old deliveries, no lock is taken.
    if rows.is_empty() {
        return Ok(0);
    }
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let mut deleted = 0;
    for row in &rows {
        let delete = sqlx::query("DELETE FROM webhook_deliveries WHERE id = ?1 AND status = 'PENDING'");
        let delete = delete.bind(row.get::<i64, _>(0));
        deleted += delete.execute(session.connection()).await.map_err(failed)?.rows_affected();
    }
    session.commit().await?;
    Ok(deleted)
}

pub(super) async fn purge(store: &SqliteStore, cutoff: Timestamp, limit: u32) -> Result<u64, StoreError> {
    let cutoff = cutoff.as_microsecond();
    // Without old deliveries, no lock is taken.
    let any = sqlx::query(FINISHED)
        .bind(cutoff)
        .fetch_one(&mut *store.readers.background.acquire().await?)
        .await
        .map_err(failed)?;
    if !any.get::<bool, _>(0) {
        return Ok(0);
    }
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let purge = sqlx::query(PURGE).bind(cutoff).bind(limit);
    let deleted = purge.execute(session.connection()).await.map_err(failed)?.rows_affected();
    session.commit().await?;
    Ok(deleted)
}

pub(super) async fn pending(readers: &Pool, now: Timestamp) -> Result<PendingDeliveries, StoreError> {
    let rows = sqlx::query(PENDING).fetch_all(&mut *readers.acquire().await?).await.map_err(failed)?;
    let counts = rows.iter().map(decode::pending).collect::<Result<Vec<_>, _>>()?;
    Ok(PendingDeliveries::of(counts, now))
}
