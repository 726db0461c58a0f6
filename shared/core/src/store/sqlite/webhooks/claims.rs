//! Claims due deliveries for a dispatcher, and records the outcomes of attempts.
//!
//! A query outside any transaction finds whether anything is due, so a dispatcher that finds nothing takes no lock.
//! Each claim has a number, which fences its record: a dispatcher that was frozen past its claim cannot overwrite a
//! newer one.

use std::{collections::HashMap, time::Duration};

use sqlx::SqliteConnection;

use super::{bytes, endpoints::endpoints, health, micros};
use crate::{
    engine::Timestamp,
    store::{
        batch::Session,
        decode::webhooks as decode,
        sqlite::{SqliteStore, StoreError, error::failed, session::SqliteSession},
        webhooks::{Attempt, AttemptOutcome, ClaimCapacity, Claimed, DueEndpoint, Recorded, health_after},
    },
    webhooks::{DeliveryId, DeliveryStatus, EndpointId, Receiver},
};

/// Each enabled endpoint, when its first delivery is or was due, and the state of its circuit.
const DUE_ENDPOINTS: &str = "SELECT e.id, (SELECT d.next_attempt_at FROM webhook_deliveries d
        WHERE d.endpoint_id = e.id AND d.status = 'PENDING' ORDER BY d.next_attempt_at LIMIT 1),
        h.paused_until, h.failing_since
    FROM webhook_endpoints e LEFT JOIN webhook_health h ON h.endpoint_id = e.id WHERE e.disabled_at IS NULL";
/// Reserves the probe of an endpoint whose circuit is half open: until the claim expires, its circuit is open for other
/// dispatchers.
const PROBE: &str =
    "UPDATE webhook_health SET paused_until = ?3 WHERE endpoint_id = ?1 AND paused_until <= ?2";
const ENDPOINT: &str = concat!(endpoints!(), "WHERE id = ?1");
const DUE: &str = "SELECT id, claim, endpoint_id, event_id, payload, attempts, traceparent FROM webhook_deliveries
    WHERE endpoint_id = ?1 AND status = 'PENDING' AND next_attempt_at <= ?2 ORDER BY next_attempt_at LIMIT ?3";
const CLAIM: &str = "UPDATE webhook_deliveries SET claim = claim + 1, next_attempt_at = ?2 WHERE id = ?1";
/// The claim ends with the record, so that a second try changes nothing.
const RECORD: &str =
    "UPDATE webhook_deliveries SET attempts = attempts + 1, claim = claim + 1, status = ?3, next_attempt_at = ?4,
    finished_at = ?5,
    last_status = ?6, last_error = ?7, updated_at = ?8 WHERE id = ?1 AND claim = ?2 AND status = 'PENDING'";
const GIVE_BACK: &str =
    "UPDATE webhook_deliveries SET next_attempt_at = ?3 WHERE id = ?1 AND claim = ?2 AND status = 'PENDING'";

pub(super) async fn claim(
    store: &SqliteStore,
    room: &ClaimCapacity,
    lease: Duration,
) -> Result<Vec<Claimed>, StoreError> {
    let rows = sqlx::query(DUE_ENDPOINTS)
        .fetch_all(&mut *store.readers.background.acquire().await?)
        .await
        .map_err(failed)?;
    let allotted = room.allot(decode::due(&rows, store.now())?);
    if allotted.is_empty() {
        return Ok(Vec::new());
    }
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let now = store.now();
    let until = now.as_microsecond().saturating_add(micros(lease));
    let mut claimed = Vec::new();
    for (endpoint, count) in allotted {
        if endpoint.is_probe {
            let probe = sqlx::query(PROBE).bind(bytes(endpoint.id)).bind(now.as_microsecond()).bind(until);
            if probe.execute(session.connection()).await.map_err(failed)?.rows_affected() == 0 {
                // Another dispatcher probes it.
                continue;
            }
        }
        claimed.extend(due_of(session.connection(), &endpoint, count, now).await?);
    }
    for claimed in &claimed {
        let claim = sqlx::query(CLAIM).bind(claimed.delivery.number()).bind(until);
        claim.execute(session.connection()).await.map_err(failed)?;
    }
    session.commit().await?;
    Ok(claimed)
}

/// Due deliveries of an endpoint, the oldest first; none if it was disabled meanwhile.
async fn due_of(
    connection: &mut SqliteConnection,
    endpoint: &DueEndpoint,
    count: u32,
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    let found = sqlx::query(ENDPOINT).bind(bytes(endpoint.id)).fetch_all(&mut *connection).await;
    let to: HashMap<EndpointId, std::sync::Arc<Receiver>> = decode::receivers(&found.map_err(failed)?, now);
    let due = sqlx::query(DUE).bind(bytes(endpoint.id)).bind(now.as_microsecond()).bind(count);
    let rows = due.fetch_all(connection).await.map_err(failed)?;
    rows.iter().filter_map(|row| decode::claimed(row, endpoint, &to).transpose()).collect()
}

pub(super) async fn record(
    store: &SqliteStore,
    attempts: &[Attempt],
    disable_after: Duration,
) -> Result<Recorded, StoreError> {
    let mut recorded = Recorded::default();
    if attempts.is_empty() {
        return Ok(recorded);
    }
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let now = store.now();
    let mut concerned = Vec::new();
    for attempt in attempts {
        if attempted(session.connection(), attempt, now.as_microsecond()).await? {
            recorded.recorded += 1;
            concerned.extend(Some(attempt).filter(|attempt| attempt.changes_health()));
        }
    }
    if !concerned.is_empty() {
        let stored = health::read(session.connection()).await?;
        for update in health_after(&stored, &concerned, now, disable_after) {
            if health::write(session.connection(), &update, now).await? {
                recorded.disabled.extend(update.disabled.map(|reason| (update.endpoint, reason)));
            }
            recorded.opened.extend(update.opened.then_some(update.endpoint));
        }
    }
    session.commit().await?;
    Ok(recorded)
}

/// Records the outcome of an attempt, and returns whether its claim was still valid.
async fn attempted(
    connection: &mut SqliteConnection,
    attempt: &Attempt,
    now: i64,
) -> Result<bool, StoreError> {
    let (status, next, finished) = match attempt.outcome {
        AttemptOutcome::Delivered => (DeliveryStatus::Delivered, None, Some(now)),
        AttemptOutcome::Retry { after } => {
            (DeliveryStatus::Pending, Some(now.saturating_add(micros(after))), None)
        }
        AttemptOutcome::GivenUp => (DeliveryStatus::Failed, None, Some(now)),
    };
    let record = sqlx::query(RECORD)
        .bind(attempt.delivery.number())
        .bind(attempt.claim)
        .bind(status.as_str())
        .bind(next)
        .bind(finished)
        .bind(attempt.status)
        .bind(attempt.error.as_deref())
        .bind(now);
    Ok(record.execute(connection).await.map_err(failed)?.rows_affected() > 0)
}

pub(super) async fn give_back(store: &SqliteStore, claims: &[(DeliveryId, i64)]) -> Result<(), StoreError> {
    if claims.is_empty() {
        return Ok(());
    }
    let mut session = SqliteSession::begin(&store.writer, store.clock.clone()).await?;
    let now = store.now().as_microsecond();
    for (delivery, claim) in claims {
        let give_back = sqlx::query(GIVE_BACK).bind(delivery.number()).bind(*claim).bind(now);
        give_back.execute(session.connection()).await.map_err(failed)?;
    }
    session.commit().await
}
