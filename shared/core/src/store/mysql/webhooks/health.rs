//! The health of endpoints: what their receivers answered lately, and which have too many deliveries pending.

use std::collections::HashMap;

use super::endpoint_id;
use crate::{
    engine::Timestamp,
    store::{
        decode::{Columns, webhooks as decode},
        mysql::{
            Clock, StoreError,
            connect::Pool,
            round_trip::{clock_of, commit_with_retries, read, rows},
            sql::{Script, Sql},
            statements::{CLOCK, instant},
        },
        webhooks::{HealthReport, HealthUpdate},
    },
    webhooks::EndpointId,
};

/// The columns that `decode::health` reads.
const HEALTH: &str = "SELECT endpoint_id, failures, failing_since, paused_until, gone, gone_since, is_full
    FROM webhook_health FORCE INDEX (PRIMARY) ";
/// What follows the list of ids of [`locked`].
pub(super) const LOCK: &str = " ORDER BY endpoint_id FOR UPDATE";

/// Reads and locks rows, up to the list of ids.
pub(super) fn locked() -> Sql {
    Sql::new(HEALTH).push("WHERE endpoint_id IN ")
}

/// Adds the statements that write updates, and returns the places of those that disable an endpoint.
pub(super) fn write(
    script: &mut Script,
    updates: &[HealthUpdate],
    clock: &Clock,
) -> Vec<(EndpointId, usize)> {
    let mut disabled = Vec::new();
    for HealthUpdate { endpoint, health, disabled: reason, .. } in updates {
        let sql = Sql::new(
            "INSERT INTO webhook_health (endpoint_id, failures, failing_since, paused_until, gone, gone_since)
            VALUES (",
        );
        let sql = endpoint_id(sql, *endpoint).push(", ").unsigned(health.failures.into());
        let sql = optional_time(sql.push(", "), health.failing_since);
        let sql = optional_time(sql.push(", "), health.paused_until);
        let sql = sql.push(", ").unsigned(health.gone.into());
        let sql = optional_time(sql.push(", "), health.gone_since);
        script.add(sql.push(
            ") ON DUPLICATE KEY UPDATE failures = VALUES(failures), failing_since = VALUES(failing_since),
            paused_until = VALUES(paused_until), gone = VALUES(gone), gone_since = VALUES(gone_since)",
        ));
        if let Some(reason) = reason {
            let sql = Sql::new("UPDATE webhook_endpoints SET disabled_reason = ").text(reason);
            let sql = instant(sql.push(", disabled_at = "), clock);
            let sql =
                instant(sql.push(", updated_at = "), clock).push(" WHERE disabled_at IS NULL AND id = ");
            disabled.push((*endpoint, script.add(endpoint_id(sql, *endpoint))));
        }
    }
    disabled
}

pub(super) async fn report(readers: &Pool, clock: &Clock) -> Result<HealthReport, StoreError> {
    let mut script = Script::default();
    let now = script.add(Sql::new(CLOCK));
    let found = script.add(Sql::new(HEALTH).push("WHERE endpoint_id > ''"));
    let results = read(readers, script).await?;
    let endpoints = rows(&results, found).iter().map(decode::health).collect::<Result<_, _>>()?;
    Ok(HealthReport { now: clock_of(&results, now, clock)?, endpoints })
}

/// Notes which endpoints have `pending_max` pending deliveries or more.
pub(super) async fn review((writers, readers): (&Pool, &Pool), pending_max: u32) -> Result<u64, StoreError> {
    let mut script = Script::default();
    let full = script.add(Sql::new(
        "SELECT e.id, COALESCE(h.is_full, 0) FROM webhook_endpoints e FORCE INDEX (PRIMARY)
        LEFT JOIN webhook_health h FORCE INDEX (PRIMARY) ON h.endpoint_id = e.id WHERE e.id > ''",
    ));
    let results = read(readers, script).await?;
    let mut known: Vec<(EndpointId, bool)> = Vec::new();
    for row in rows(&results, full) {
        known.push((decode::id(row)?, row.integer(1)? != 0));
    }
    if known.is_empty() {
        return Ok(0);
    }
    let mut script = Script::default();
    for (endpoint, _) in &known {
        // There is such a row if at least `pending_max` are pending.
        let sql = Sql::new(
            "SELECT d.id FROM webhook_deliveries d FORCE INDEX (webhook_deliveries_due) WHERE d.endpoint_id = ",
        );
        let sql = endpoint_id(sql, *endpoint).push(" AND d.status = 'PENDING' ORDER BY d.next_attempt_at");
        script.add(sql.push(" LIMIT 1 OFFSET ").unsigned(u64::from(pending_max).saturating_sub(1)));
    }
    let results = read(readers, script).await?;
    let mut changed = HashMap::new();
    let mut count = 0;
    for (place, (endpoint, was_full)) in known.iter().enumerate() {
        let is_full = !rows(&results, place).is_empty();
        count += u64::from(is_full);
        if is_full != *was_full {
            changed.insert(*endpoint, is_full);
        }
    }
    if !changed.is_empty() {
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION READ WRITE"));
        let row = |sql: Sql, (endpoint, is_full): (&EndpointId, &bool)| {
            endpoint_id(sql, *endpoint).push(", ").integer(i64::from(*is_full))
        };
        script.add_rows_then(
            &changed,
            row,
            "INSERT INTO webhook_health (endpoint_id, is_full) VALUES",
            " ON DUPLICATE KEY UPDATE is_full = VALUES(is_full)",
        );
        commit_with_retries(writers, script, &[]).await?;
    }
    Ok(count)
}

fn optional_time(sql: Sql, time: Option<Timestamp>) -> Sql {
    match time {
        Some(time) => sql.integer(time.as_microsecond()),
        None => sql.push("NULL"),
    }
}
