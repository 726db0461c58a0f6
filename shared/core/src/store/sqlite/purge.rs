//! Purges old records, in small transactions.

use std::collections::HashSet;

use sqlx::sqlite::SqliteRow;

use super::{StoreError, connect::Pool, error::failed, json, session::SqliteSession};
use crate::{
    engine::{Timestamp, Token},
    store::{
        Clock, batch,
        purge::{self, Purged, UNPUBLISHED_MAX},
    },
};

const PUBLISHED: &str = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox
    WHERE published_at < ?1 AND published_at IS NOT NULL ORDER BY published_at LIMIT ?2)";
const SKIPPED: &str = "DELETE FROM outbox_skipped WHERE skipped_at < ?1";
const KEPT_SINCE: &str = "UPDATE retention SET kept_since = max(kept_since, ?1) WHERE what = 'outbox'";
const ENDED_SINCE: &str = "UPDATE retention SET kept_since = max(kept_since, ?1) WHERE what = 'reservations'";
const UNPUBLISHED: &str =
    "SELECT event_key, created_at FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT ?1";
const PAGE: &str = "SELECT token, status, created_at, updated_at FROM reservations
    WHERE token > ?1 AND item_no = 0 ORDER BY token LIMIT ?2";
const ENDED: &str = "DELETE FROM reservations WHERE token IN (SELECT unhex(j.value) FROM json_each(?1) j)
    AND status IN ('RELEASED', 'EXPIRED', 'CANCELLED') AND updated_at < ?2";

/// Deletes events that were published before `cutoff`, oldest first, and records that older ones may be missing.
pub(super) async fn events(
    writer: &Pool,
    clock: Clock,
    cutoff: Timestamp,
    limit: u32,
) -> Result<Purged, StoreError> {
    let mut session = SqliteSession::begin(writer, clock).await?;
    let cutoff = cutoff.as_microsecond();
    let purge = sqlx::query(PUBLISHED).bind(cutoff).bind(limit);
    let deleted = purge.execute(session.connection()).await.map_err(failed)?.rows_affected();
    if deleted == 0 {
        batch::Session::rollback(session).await?;
    } else {
        sqlx::query(KEPT_SINCE).bind(cutoff).execute(session.connection()).await.map_err(failed)?;
        // Their events were published, or counted as such, no later than that.
        sqlx::query(SKIPPED).bind(cutoff).execute(session.connection()).await.map_err(failed)?;
        batch::Session::commit(session).await?;
    }
    Ok(Purged { deleted, ..Purged::default() })
}

/// Deletes reservations that ended before `cutoff`, among the next `limit`.
pub(super) async fn reservations(
    (writer, readers): (&Pool, &Pool),
    clock: Clock,
    cutoff: Timestamp,
    after: Option<Token>,
    limit: u32,
) -> Result<Purged, StoreError> {
    let Some(unpublished) = unpublished(readers, cutoff).await? else { return Ok(Purged::default()) };
    let after = after.map(|token| token.uuid().as_bytes().to_vec()).unwrap_or_default();
    let rows: Vec<SqliteRow> = sqlx::query(PAGE)
        .bind(after)
        .bind(limit)
        .fetch_all(&mut *readers.acquire().await?)
        .await
        .map_err(failed)?;
    let page = purge::page(&rows, limit, cutoff, &unpublished)?;
    if page.tokens.is_empty() {
        return Ok(page.purged());
    }
    let mut session = SqliteSession::begin(writer, clock).await?;
    let purge = sqlx::query(ENDED).bind(json::tokens_json(&page.tokens)?).bind(cutoff.as_microsecond());
    purge.execute(session.connection()).await.map_err(failed)?;
    let record = sqlx::query(ENDED_SINCE).bind(cutoff.as_microsecond());
    record.execute(session.connection()).await.map_err(failed)?;
    batch::Session::commit(session).await?;
    Ok(page.purged())
}

/// The keys of old unpublished events; `None` if there are too many to list.
async fn unpublished(readers: &Pool, cutoff: Timestamp) -> Result<Option<HashSet<String>>, StoreError> {
    let rows: Vec<SqliteRow> = sqlx::query(UNPUBLISHED)
        .bind(UNPUBLISHED_MAX)
        .fetch_all(&mut *readers.acquire().await?)
        .await
        .map_err(failed)?;
    purge::unpublished(&rows, cutoff)
}

/// Deletes the records of events that were applied before `cutoff`.
pub(super) async fn inbox(
    writer: &Pool,
    clock: Clock,
    cutoff: Timestamp,
    limit: u32,
) -> Result<Purged, StoreError> {
    const APPLIED: &str = "DELETE FROM processed_events WHERE (consumer, event_id) IN
        (SELECT consumer, event_id FROM processed_events WHERE processed_at < ?1 ORDER BY processed_at LIMIT ?2)";
    let mut session = SqliteSession::begin(writer, clock).await?;
    let purge = sqlx::query(APPLIED).bind(cutoff.as_microsecond()).bind(limit);
    let deleted = purge.execute(session.connection()).await.map_err(failed)?.rows_affected();
    batch::Session::commit(session).await?;
    Ok(Purged { deleted, ..Purged::default() })
}
