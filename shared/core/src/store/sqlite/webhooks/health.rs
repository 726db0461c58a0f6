//! The health of endpoints: what their receivers answered lately, and which have too many deliveries pending.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::bytes;
use crate::{
    engine::Timestamp,
    store::{
        batch::Session,
        decode::webhooks as decode,
        sqlite::{SqliteStore, StoreError, error::failed, session::SqliteSession},
        webhooks::HealthUpdate,
    },
    webhooks::{EndpointHealth, EndpointId},
};

const HEALTH: &str = "SELECT endpoint_id, failures, failing_since, paused_until, gone, gone_since, is_full
    FROM webhook_health";
const WRITE: &str =
    "INSERT INTO webhook_health (endpoint_id, failures, failing_since, paused_until, gone, gone_since)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (endpoint_id) DO UPDATE SET failures = ?2, failing_since = ?3,
    paused_until = ?4, gone = ?5, gone_since = ?6";
const DISABLE: &str = "UPDATE webhook_endpoints SET disabled_reason = ?2, disabled_at = ?3, updated_at = ?3
    WHERE id = ?1 AND disabled_at IS NULL";
/// Each endpoint, whether it is noted as full, and whether it is.
const FULL: &str = "SELECT e.id, coalesce(h.is_full, 0),
        ?1 <= (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries d
            WHERE d.endpoint_id = e.id AND d.status = 'PENDING' LIMIT ?1))
    FROM webhook_endpoints e LEFT JOIN webhook_health h ON h.endpoint_id = e.id";
const NOTE: &str = "INSERT INTO webhook_health (endpoint_id, is_full) VALUES (?1, ?2)
    ON CONFLICT (endpoint_id) DO UPDATE SET is_full = ?2";

/// Reads the health of all endpoints.
pub(super) async fn read(
    connection: &mut SqliteConnection,
) -> Result<HashMap<EndpointId, EndpointHealth>, StoreError> {
    let rows = sqlx::query(HEALTH).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(decode::health).collect()
}

/// Writes an update, and returns whether it disabled the endpoint.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    update: &HealthUpdate,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let health = &update.health;
    let write = sqlx::query(WRITE)
        .bind(bytes(update.endpoint))
        .bind(health.failures)
        .bind(health.failing_since.map(Timestamp::as_microsecond))
        .bind(health.paused_until.map(Timestamp::as_microsecond))
        .bind(health.gone)
        .bind(health.gone_since.map(Timestamp::as_microsecond));
    write.execute(&mut *connection).await.map_err(failed)?;
    let Some(reason) = &update.disabled else { return Ok(false) };
    let disable = sqlx::query(DISABLE).bind(bytes(update.endpoint)).bind(reason).bind(now.as_microsecond());
    Ok(disable.execute(connection).await.map_err(failed)?.rows_affected() > 0)
}

/// Notes which endpoints have `pending_max` pending deliveries or more. Takes no lock if nothing changed.
pub(super) async fn review(store: &SqliteStore, pending_max: u32) -> Result<u64, StoreError> {
    let rows = sqlx::query(FULL)
        .bind(pending_max)
        .fetch_all(&mut *store.readers.background.acquire().await?)
        .await
        .map_err(failed)?;
    let mut changed = Vec::new();
    let mut count = 0;
    for row in &rows {
        let (was_full, is_full): (bool, bool) = (row.get(1), row.get(2));
        count += u64::from(is_full);
        if is_full != was_full {
            changed.push((decode::id(row)?, is_full));
        }
    }
    if !changed.is_empty() {
        let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
        for (endpoint, is_full) in changed {
            let note = sqlx::query(NOTE).bind(bytes(endpoint)).bind(is_full);
            note.execute(session.connection()).await.map_err(failed)?;
        }
        session.commit().await?;
    }
    Ok(count)
}
