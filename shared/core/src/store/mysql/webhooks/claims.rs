//! Claims due deliveries for a dispatcher, and records the outcomes of attempts.
//!
//! A query without locks finds the endpoints with due deliveries. Those deliveries are then locked through an index
//! that matches both filter and order, and rows that another dispatcher has locked are skipped. Each claim has a
//! number, which fences its record.

use std::{collections::HashMap, time::Duration};

use super::{endpoint_id, endpoints, health, micros};
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
        webhooks::{Attempt, AttemptOutcome, ClaimCapacity, Claimed, Recorded, health_after},
    },
    webhooks::{DeliveryId, DeliveryStatus, EndpointId},
};

/// Each enabled endpoint, when its first delivery is or was due, and the state of its circuit.
const DUE_ENDPOINTS: &str =
    "SELECT e.id, (SELECT d.next_attempt_at FROM webhook_deliveries d FORCE INDEX (webhook_deliveries_due)
        WHERE d.endpoint_id = e.id AND d.status = 'PENDING' ORDER BY d.next_attempt_at LIMIT 1),
        h.paused_until, h.failing_since
    FROM webhook_endpoints e FORCE INDEX (PRIMARY)
    LEFT JOIN webhook_health h FORCE INDEX (PRIMARY) ON h.endpoint_id = e.id
    WHERE e.id > '' AND e.disabled_at IS NULL";

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
        allotted.iter().map(|(endpoint, _)| endpoint.id),
        endpoint_id,
        || Sql::new(endpoints::ENDPOINTS).push("id IN "),
        "",
    );
    let probes: Vec<_> = allotted
        .iter()
        .map(|(endpoint, _)| endpoint.is_probe.then(|| script.add(probe(endpoint.id, lease, clock))))
        .collect();
    let deliveries: Vec<usize> =
        allotted.iter().map(|(endpoint, count)| script.add(due_of(endpoint.id, *count, clock))).collect();
    let now = script.add(Sql::new(CLOCK));
    let results = connection.run(script).await?;
    let now = clock_of(&results, now, clock)?;
    let mut to = HashMap::new();
    for place in receivers {
        to.extend(decode::receivers(rows(&results, place), now));
    }
    let mut claimed = Vec::new();
    for ((place, probe), (endpoint, _)) in deliveries.iter().zip(&probes).zip(&allotted) {
        // Another dispatcher probes it.
        if probe.is_some_and(|probe| affected(&results, probe) == 0) {
            continue;
        }
        for row in rows(&results, *place) {
            claimed.extend(decode::claimed(row, endpoint, &to)?);
        }
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

/// Reserves the probe of an endpoint whose circuit is half open: until the claim expires, its circuit is open for other
/// dispatchers.
fn probe(endpoint: EndpointId, lease: Duration, clock: &Clock) -> Sql {
    let sql = Sql::new("UPDATE webhook_health SET paused_until = ");
    let sql = micros(instant(sql, clock).push(" + "), lease).push(" WHERE paused_until <= ");
    endpoint_id(instant(sql, clock).push(" AND endpoint_id = "), endpoint)
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
    disable_after: Duration,
    clock: &Clock,
) -> Result<Recorded, StoreError> {
    if attempts.is_empty() {
        return Ok(Recorded::default());
    }
    let mut attempts: Vec<&Attempt> = attempts.iter().collect();
    // All dispatchers lock deliveries in this order.
    attempts.sort_by_key(|attempt| attempt.delivery);
    let mut unhealthy: Vec<EndpointId> =
        attempts.iter().filter(|attempt| attempt.changes_health()).map(|attempt| attempt.endpoint).collect();
    // And the health of endpoints after them, in this order.
    unhealthy.sort_unstable();
    unhealthy.dedup();
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let places: Vec<usize> = attempts.iter().map(|attempt| script.add(attempted(attempt, clock))).collect();
    let health = script.add_lists(&unhealthy, |sql, id| endpoint_id(sql, *id), health::locked, health::LOCK);
    let now = script.add(Sql::new(CLOCK));
    if unhealthy.is_empty() {
        script.add(Sql::new("COMMIT"));
    }
    let mut connection = TrackedConnection::open(writers).await?;
    let results = connection.run(script).await?;
    let counted: Vec<&Attempt> = (attempts.into_iter().zip(&places))
        .filter(|(_, place)| affected(&results, **place) > 0)
        .map(|(attempt, _)| attempt)
        .collect();
    let mut recorded = Recorded { recorded: counted.len() as u64, ..Recorded::default() };
    if !unhealthy.is_empty() {
        let stored = health.iter().flat_map(|place| rows(&results, *place)).map(decode::health);
        let stored = stored.collect::<Result<HashMap<_, _>, _>>()?;
        let concerned: Vec<&Attempt> =
            counted.into_iter().filter(|attempt| attempt.changes_health()).collect();
        let updates = health_after(&stored, &concerned, clock_of(&results, now, clock)?, disable_after);
        let mut script = Script::default();
        let disabled = health::write(&mut script, &updates, clock);
        script.add(Sql::new("COMMIT"));
        let results = connection.run(script).await?;
        for update in updates {
            let place = disabled.iter().find(|(endpoint, _)| *endpoint == update.endpoint);
            if place.is_some_and(|(_, place)| affected(&results, *place) > 0) {
                recorded.disabled.extend(update.disabled.map(|reason| (update.endpoint, reason)));
            }
            recorded.opened.extend(update.opened.then_some(update.endpoint));
        }
    }
    connection.mark_clean();
    Ok(recorded)
}

/// Records the outcome of an attempt, unless its delivery was claimed again since. The claim ends with it, so that a
/// second try, after the answer to the COMMIT was lost, changes nothing.
fn attempted(attempt: &Attempt, clock: &Clock) -> Sql {
    let status = match attempt.outcome {
        AttemptOutcome::Delivered => DeliveryStatus::Delivered,
        AttemptOutcome::Retry { .. } => DeliveryStatus::Pending,
        AttemptOutcome::GivenUp => DeliveryStatus::Failed,
    };
    let sql = Sql::new(
        "UPDATE webhook_deliveries FORCE INDEX (PRIMARY) SET attempts = attempts + 1, claim = claim + 1, status = ",
    );
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
