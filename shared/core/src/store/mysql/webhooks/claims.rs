//! Claims due deliveries for a dispatcher, and records the outcomes of attempts.
//!
//! A query without locks finds the endpoints with due deliveries. Those deliveries are then locked through an index
//! that matches both filter and order, and rows that another dispatcher has locked are skipped. Each claim has a
//! number, which fences its record.

use std::{collections::HashMap, time::Duration};

use super::{endpoint_id, endpoints, micros};
use crate::{
    store::{
        decode::webhooks as decode,
        mysql::{
            Clock, StoreError,
            connect::Pool,
            round_trip::{TrackedConnection, affected, clock_of, read, rows},
            sql::{Script, Sql},
            statements::{CLOCK, instant},
        },
        webhooks::{Attempt, AttemptOutcome, ClaimCapacity, Claimed, Recorded},
    },
    webhooks::{DeliveryId, DeliveryStatus, EndpointId},
};

/// Each enabled endpoint, and when its first delivery is or was due.
const DUE_ENDPOINTS: &str =
    "SELECT e.id, (SELECT d.next_attempt_at FROM webhook_deliveries d FORCE INDEX (webhook_deliveries_due)
        WHERE d.endpoint_id = e.id AND d.status = 'PENDING' ORDER BY d.next_attempt_at LIMIT 1)
    FROM webhook_endpoints e FORCE INDEX (PRIMARY) WHERE e.id > '' AND e.disabled_at IS NULL";

pub(super) async fn claim(
    (writers, readers): (&Pool, &Pool),
    room: &ClaimCapacity,
    lease: Duration,
    clock: &Clock,
) -> Result<Vec<Claimed>, StoreError> {
    let mut script = Script::default();
    let now = script.add(Sql::new(CLOCK));
    let due = script.add(Sql::new(DUE_ENDPOINTS));
    let results = read(readers, script).await?;
    let now = clock_of(&results, now, clock)?;
    let allotted = room.allot(decode::due(rows(&results, due), now)?);
    if allotted.is_empty() {
        return Ok(Vec::new());
    }

    let mut connection = TrackedConnection::open(writers).await?;
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let receivers = script.add_lists(
        allotted.iter().map(|(endpoint, _)| *endpoint),
        endpoint_id,
        || Sql::new(endpoints::ENDPOINTS).push("id IN "),
        "",
    );
    let deliveries: Vec<usize> =
        allotted.iter().map(|(endpoint, count)| script.add(due_of(*endpoint, *count, clock))).collect();
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let now = clock_of(&results, now, clock)?;
    let mut to = HashMap::new();
    for place in receivers {
        to.extend(decode::receivers(rows(&results, place), now));
    }
    let mut claimed = Vec::new();
    for row in deliveries.iter().flat_map(|place| rows(&results, *place)) {
        claimed.extend(decode::claimed(row, &to)?);
    }

    let mut script = Script::default();
    let head = || {
        let sql = Sql::new(
            "UPDATE webhook_deliveries FORCE INDEX (PRIMARY) SET claim = claim + 1, next_attempt_at = ",
        );
        micros(instant(sql, clock).push(" + "), lease).push(" WHERE id IN ")
    };
    script.add_lists(&claimed, |sql, claimed| sql.integer(claimed.delivery.number()), head, "");
    script.add(Sql::new("COMMIT"));
    connection.run(script).await?;
    connection.mark_clean();
    Ok(claimed)
}

/// Due deliveries of an endpoint, the oldest first, locked; rows that another dispatcher has locked are skipped.
fn due_of(endpoint: EndpointId, limit: u32, clock: &Clock) -> Sql {
    let sql = Sql::new(
        "SELECT id, claim, endpoint_id, event_id, payload, attempts, traceparent
        FROM webhook_deliveries FORCE INDEX (webhook_deliveries_due) WHERE endpoint_id = ",
    );
    let sql = endpoint_id(sql, endpoint).push(" AND status = 'PENDING' AND next_attempt_at <= ");
    instant(sql, clock)
        .push(" ORDER BY next_attempt_at LIMIT ")
        .integer(i64::from(limit))
        .push(" FOR UPDATE SKIP LOCKED")
}

pub(super) async fn record(
    writers: &Pool,
    attempts: &[Attempt],
    clock: &Clock,
) -> Result<Recorded, StoreError> {
    if attempts.is_empty() {
        return Ok(Recorded::default());
    }
    let mut attempts: Vec<&Attempt> = attempts.iter().collect();
    // All dispatchers lock deliveries in this order.
    attempts.sort_by_key(|attempt| attempt.delivery);
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let recorded: Vec<usize> = attempts.iter().map(|attempt| script.add(attempted(attempt, clock))).collect();
    let disabled: Vec<usize> = attempts
        .iter()
        .filter_map(|attempt| Some(script.add(disable(attempt, attempt.disables?, clock))))
        .collect();
    script.add(Sql::new("COMMIT"));
    let mut connection = TrackedConnection::open(writers).await?;
    let results = connection.run(script).await?;
    connection.mark_clean();
    let count = |places: &[usize]| places.iter().map(|place| affected(&results, *place)).sum();
    Ok(Recorded { recorded: count(&recorded), disabled: count(&disabled) })
}

/// Records the outcome of an attempt, unless its delivery was claimed again since.
fn attempted(attempt: &Attempt, clock: &Clock) -> Sql {
    let status = match attempt.outcome {
        AttemptOutcome::Delivered => DeliveryStatus::Delivered,
        AttemptOutcome::Retry { .. } => DeliveryStatus::Pending,
        AttemptOutcome::GivenUp => DeliveryStatus::Failed,
    };
    let sql =
        Sql::new("UPDATE webhook_deliveries FORCE INDEX (PRIMARY) SET attempts = attempts + 1, status = ");
    let sql = sql.text(status.as_str()).push(", next_attempt_at = ");
    let sql = match attempt.outcome {
        AttemptOutcome::Retry { after } => {
            micros(instant(sql, clock).push(" + "), after).push(", finished_at = NULL")
        }
        AttemptOutcome::Delivered | AttemptOutcome::GivenUp => {
            instant(sql.push("NULL, finished_at = "), clock)
        }
    };
    let sql = match attempt.status {
        Some(status) => sql.push(", last_status = ").integer(i64::from(status)),
        None => sql.push(", last_status = NULL"),
    };
    let sql = sql.push(", last_error = ").optional_text(attempt.error.as_deref());
    let sql = instant(sql.push(", updated_at = "), clock);
    sql.push(" WHERE id = ")
        .integer(attempt.delivery.number())
        .push(" AND claim = ")
        .integer(attempt.claim)
        .push(" AND status = 'PENDING'")
}

/// Disables an endpoint because of an attempt, if its claim is still valid.
fn disable(attempt: &Attempt, reason: &'static str, clock: &Clock) -> Sql {
    let sql = Sql::new("UPDATE webhook_endpoints e SET e.disabled_reason = ").text(reason);
    let sql = instant(sql.push(", e.disabled_at = "), clock);
    let sql = instant(sql.push(", e.updated_at = "), clock);
    endpoint_id(sql.push(" WHERE e.id = "), attempt.endpoint)
        .push(
            " AND e.disabled_at IS NULL AND EXISTS (SELECT 1 FROM webhook_deliveries d
            FORCE INDEX (PRIMARY) WHERE d.id = ",
        )
        .integer(attempt.delivery.number())
        .push(" AND d.claim = ")
        .integer(attempt.claim)
        .push(")")
}

pub(super) async fn give_back(
    writers: &Pool,
    claims: &[(DeliveryId, i64)],
    clock: &Clock,
) -> Result<(), StoreError> {
    if claims.is_empty() {
        return Ok(());
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    for (delivery, claim) in claims {
        let sql = Sql::new("UPDATE webhook_deliveries FORCE INDEX (PRIMARY) SET next_attempt_at = ");
        let sql = instant(sql, clock).push(" WHERE id = ").integer(delivery.number());
        script.add(sql.push(" AND claim = ").integer(*claim).push(" AND status = 'PENDING'"));
    }
    script.add(Sql::new("COMMIT"));
    let mut connection = TrackedConnection::open(writers).await?;
    connection.run(script).await?;
    connection.mark_clean();
    Ok(())
}
