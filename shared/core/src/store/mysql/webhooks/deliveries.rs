//! Deliveries for operators and the purge: listed, repeated, counted, deleted.

use std::collections::HashSet;

use super::endpoint_id;
use crate::{
    effects::NewDelivery,
    engine::Timestamp,
    store::{
        decode::{Columns, uuid as decode_uuid, webhooks as decode},
        mysql::{
            Clock, StoreError,
            connect::Pool,
            inbox,
            round_trip::{TrackedConnection, clock_of, commit_with_retries, read, rows},
            sql::{Script, Sql},
            statements::{CLOCK, instant},
        },
        webhooks::{DeliveryPage, PendingDeliveries, ReplayPage, Replayed},
    },
    webhooks::{DELETED, Delivery, DeliveryId, DeliveryStatus, EndpointId},
};

/// The columns that `decode::delivery` reads, up to the table.
const DELIVERIES: &str =
    "SELECT id, endpoint_id, event_id, type, event_at, status, attempts, next_attempt_at,
    last_status, last_error,
    created_at, updated_at FROM webhook_deliveries ";

/// Makes a delivery pending again, up to the time of its next attempt. Incrementing the claim keeps an attempt in
/// flight from recording its outcome.
const AGAIN: &str = "UPDATE webhook_deliveries FORCE INDEX (PRIMARY) SET status = 'PENDING',
    attempts = 0, finished_at = NULL,
    claim = claim + 1, next_attempt_at = ";

pub(super) async fn page(readers: &Pool, page: DeliveryPage) -> Result<Vec<Delivery>, StoreError> {
    let mut script = Script::default();
    // One query for each status, because within a status an index has the order of ids.
    for status in
        DeliveryStatus::ALL.into_iter().filter(|status| page.status.is_none_or(|only| only == *status))
    {
        let sql = Sql::new(DELIVERIES).push("FORCE INDEX (webhook_deliveries_listed) WHERE endpoint_id = ");
        let sql = endpoint_id(sql, page.endpoint).push(" AND status = ").text(status.as_str());
        let sql = sql.push(" AND id < ").integer(page.after.map_or(i64::MAX, DeliveryId::number));
        script.add(sql.push(" ORDER BY id DESC LIMIT ").integer(i64::from(page.limit)));
    }
    let results = read(readers, script).await?;
    let found = results.iter().flat_map(|result| &result.rows).map(decode::delivery);
    Ok(decode::page(found.collect::<Result<_, _>>()?, &page))
}

pub(super) async fn redeliver(
    writers: &Pool,
    endpoint: EndpointId,
    delivery: DeliveryId,
    clock: &Clock,
) -> Result<Option<Delivery>, StoreError> {
    let which = |sql: Sql| {
        endpoint_id(sql.push("WHERE id = ").integer(delivery.number()).push(" AND endpoint_id = "), endpoint)
    };
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let sql = instant(instant(Sql::new(AGAIN), clock).push(", updated_at = "), clock);
    script.add(which(sql.push(" ")));
    let found = script.add(which(Sql::new(DELIVERIES).push("FORCE INDEX (PRIMARY) ")));
    script.add(Sql::new("COMMIT"));
    let mut connection = TrackedConnection::open(writers).await?;
    let results = connection.run(script).await?;
    connection.mark_clean();
    rows(&results, found).first().map(decode::delivery).transpose()
}

pub(super) async fn replay(
    (writers, readers): (&Pool, &Pool),
    page: ReplayPage,
    clock: &Clock,
) -> Result<Replayed, StoreError> {
    let from = page.after.map_or(page.from, |(at, _)| at).as_microsecond();
    let mut script = Script::default();
    let sql = Sql::new(
        "SELECT id, event_at FROM webhook_deliveries FORCE INDEX (webhook_deliveries_replayed) WHERE endpoint_id = ",
    );
    let sql = endpoint_id(sql, page.endpoint).push(" AND event_at >= ").integer(from);
    let sql = sql.push(" AND event_at < ").integer(page.to.as_microsecond());
    let sql = match page.after {
        Some((_, id)) => {
            sql.push(" AND (event_at > ").integer(from).push(" OR id > ").integer(id.number()).push(")")
        }
        None => sql,
    };
    script.add(sql.push(" ORDER BY event_at, id LIMIT ").integer(i64::from(page.limit)));
    let results = read(readers, script).await?;
    let found = rows(&results, 0).iter().map(decode::place).collect::<Result<Vec<_>, _>>()?;
    let Some((last, at)) = found.last().copied() else { return Ok(Replayed::default()) };

    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let head =
        || instant(instant(Sql::new(AGAIN), clock).push(", updated_at = "), clock).push(" WHERE id IN ");
    let places = script.add_lists(&found, |sql, (id, _)| sql.integer(id.number()), head, "");
    let deliveries = commit_with_retries(writers, script, &places).await?;
    let next = (found.len() == page.limit as usize).then_some((at, last));
    Ok(Replayed { deliveries, next })
}

/// Enqueues deliveries for an endpoint that has none for these events yet.
pub(super) async fn backfill(
    writers: &Pool,
    endpoint: EndpointId,
    new: &[NewDelivery],
    clock: &Clock,
) -> Result<u64, StoreError> {
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let sql = endpoint_id(Sql::new("SELECT disabled_reason FROM webhook_endpoints WHERE id = "), endpoint);
    let exists = script.add(sql.push(" LOCK IN SHARE MODE"));
    let head = || {
        let sql = Sql::new(
            "SELECT event_id FROM webhook_deliveries FORCE INDEX (webhook_deliveries_event) WHERE endpoint_id = ",
        );
        endpoint_id(sql, endpoint).push(" AND event_id IN ")
    };
    let known =
        script.add_lists(new.iter().map(|new| new.event_id), |sql, id| sql.bytes(id.as_bytes()), head, "");
    let mut connection = TrackedConnection::open(writers).await?;
    let results = connection.run(script).await?;
    let exists = match rows(&results, exists).first() {
        Some(row) => row.optional_text(0)? != Some(DELETED),
        None => false,
    };
    let known = known.iter().flat_map(|place| rows(&results, *place)).map(|row| decode_uuid(row, 0));
    let known = known.collect::<Result<HashSet<_>, _>>()?;
    let missing: Vec<_> = new.iter().filter(|new| exists && !known.contains(&new.event_id)).collect();
    let mut script = Script::default();
    // A consumer may enqueue one of them meanwhile.
    inbox::enqueue(&mut script, missing.iter().copied(), clock);
    script.add(Sql::new("COMMIT"));
    connection.run(script).await?;
    connection.mark_clean();
    Ok(missing.len() as u64)
}

/// Deletes pending deliveries of endpoints that were disabled before `cutoff`, of events before it.
pub(super) async fn purge_disabled(
    (writers, readers): (&Pool, &Pool),
    cutoff: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let cutoff = cutoff.as_microsecond();
    let mut script = Script::default();
    let sql = Sql::new(
        "SELECT d.id FROM webhook_endpoints e FORCE INDEX (PRIMARY)
        STRAIGHT_JOIN webhook_deliveries d FORCE INDEX (webhook_deliveries_replayed)
            ON d.endpoint_id = e.id AND d.status = 'PENDING' AND d.event_at < ",
    );
    let sql = sql.integer(cutoff).push(" WHERE e.id > '' AND e.disabled_at < ").integer(cutoff);
    script.add(sql.push(" LIMIT ").integer(i64::from(limit)));
    let results = read(readers, script).await?;
    let ids = rows(&results, 0).iter().map(|row| row.integer(0)).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let head = || {
        Sql::new(
            "DELETE d FROM webhook_deliveries d FORCE INDEX (PRIMARY) WHERE d.status = 'PENDING' AND d.id IN ",
        )
    };
    let places = script.add_lists(ids, Sql::integer, head, "");
    commit_with_retries(writers, script, &places).await
}

pub(super) async fn purge(
    (writers, readers): (&Pool, &Pool),
    cutoff: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let cutoff = cutoff.as_microsecond();
    let mut script = Script::default();
    let sql = Sql::new(
        "SELECT id FROM webhook_deliveries FORCE INDEX (webhook_deliveries_finished) WHERE finished_at < ",
    );
    script.add(sql.integer(cutoff).push(" ORDER BY finished_at LIMIT ").integer(i64::from(limit)));
    let results = read(readers, script).await?;
    let ids = rows(&results, 0).iter().map(|row| row.integer(0)).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    // An operator may have made it pending again meanwhile.
    let head = || {
        Sql::new("DELETE d FROM webhook_deliveries d FORCE INDEX (PRIMARY) WHERE d.finished_at < ")
            .integer(cutoff)
            .push(" AND d.id IN ")
    };
    let places = script.add_lists(ids, Sql::integer, head, "");
    commit_with_retries(writers, script, &places).await
}

pub(super) async fn pending(readers: &Pool, clock: &Clock) -> Result<PendingDeliveries, StoreError> {
    let mut script = Script::default();
    let now = script.add(Sql::new(CLOCK));
    let counts = script.add(Sql::new(
        "SELECT disabled, COUNT(*), NULL FROM (
            SELECT e.disabled_at IS NOT NULL AS disabled FROM webhook_endpoints e FORCE INDEX (PRIMARY)
            STRAIGHT_JOIN webhook_deliveries d FORCE INDEX (webhook_deliveries_due)
                ON d.endpoint_id = e.id AND d.status = 'PENDING'
            WHERE e.id > '' LIMIT 100000) counted
        GROUP BY disabled",
    ));
    let due = script.add(Sql::new(
        "SELECT e.disabled_at IS NOT NULL, 0, (
            SELECT d.next_attempt_at FROM webhook_deliveries d FORCE INDEX (webhook_deliveries_due)
            WHERE d.endpoint_id = e.id AND d.status = 'PENDING' ORDER BY d.next_attempt_at LIMIT 1)
        FROM webhook_endpoints e FORCE INDEX (PRIMARY) WHERE e.id > ''",
    ));
    let results = read(readers, script).await?;
    let found = [counts, due].into_iter().flat_map(|place| rows(&results, place));
    let counts = found.map(decode::pending).collect::<Result<Vec<_>, _>>()?;
    Ok(PendingDeliveries::of(counts, clock_of(&results, now, clock)?))
}
