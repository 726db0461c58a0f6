//! The audit. Each query returns the records that violate an invariant, with their ids. All of them run in one read
//! transaction, so that concurrent writers do not look like errors.

use sqlx::{AssertSqlSafe, Connection, Sqlite, Transaction};

use super::{Audit, StoreError, connect::Pool, error::failed};
use crate::{
    engine::ReportedStock,
    store::{
        AuditFinding,
        audit::{FINDINGS_MAX, hyphenated},
    },
};

/// An invariant, and a query whose rows `(id, problem)` violate it.
///
/// Events are checked only as far back as the outbox goes: a record whose first event is no longer there is compared
/// with the events that are. `?1` is the instant since which every event must be there. An event that was published
/// before it, and is there all the same because an operator had it published again, may have lost its successors.
const CHECKS: [(&str, &str); 14] = [
    (
        "I1",
        "SELECT r.id, format('total %d is not available %d + held and committed %d', r.total, r.available,
            coalesce(t.taken, 0))
        FROM resources r LEFT JOIN (SELECT resource_id, sum(quantity) AS taken FROM reservations
            WHERE status IN ('HELD', 'COMMITTED') GROUP BY resource_id) t ON t.resource_id = r.id
        WHERE r.available < 0 OR r.available + coalesce(t.taken, 0) <> r.total",
    ),
    (
        "I1",
        "SELECT DISTINCT i.resource_id, 'is reserved but does not exist'
        FROM reservations i WHERE NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = i.resource_id)",
    ),
    (
        "I2",
        "SELECT lower(hex(token)), format('its %d items are not of one state', count(*)) FROM reservations
        GROUP BY token HAVING min(status) <> max(status) OR min(version) <> max(version)
            OR min(expires_at) <> max(expires_at) OR max(item_no) + 1 <> count(*)",
    ),
    (
        "I2",
        "SELECT e.event_key, 'does not have the items that it was made with' FROM outbox e
        WHERE e.type = 'bespeak.reservation.held.v1'
            AND EXISTS (SELECT 1 FROM reservations i WHERE i.token = unhex(replace(e.event_key, '-', '')))
            AND (SELECT group_concat(v.value ->> 'resourceId' || '=' || (v.value ->> 'quantity'), ',' ORDER BY v.key)
                FROM json_each(e.payload, '$.items') v) IS NOT
                (SELECT group_concat(i.resource_id || '=' || i.quantity, ',' ORDER BY i.item_no) FROM reservations i
                WHERE i.token = unhex(replace(e.event_key, '-', '')))",
    ),
    (
        "I3",
        "SELECT event_key, format('ended %d times: %s', count(*), group_concat(type, ', ')) FROM outbox
        WHERE type IN ('bespeak.reservation.committed.v1', 'bespeak.reservation.released.v1',
            'bespeak.reservation.expired.v1')
        GROUP BY event_key HAVING count(*) > 1",
    ),
    (
        "I3",
        "SELECT e.event_key, format('%s came after %s', e.type, e.before) FROM (SELECT event_key, type,
            lag(type) OVER (PARTITION BY event_key ORDER BY key_version) AS before
            FROM outbox WHERE type LIKE 'bespeak.reservation.%'
                AND coalesce(published_at, first_published_at, 9223372036854775807) >= ?1) e
        WHERE e.before IS NOT NULL AND NOT CASE e.type
            WHEN 'bespeak.reservation.held.v1' THEN 0
            WHEN 'bespeak.reservation.cancelled.v1' THEN e.before = 'bespeak.reservation.committed.v1'
            ELSE e.before IN ('bespeak.reservation.held.v1', 'bespeak.reservation.extended.v1') END",
    ),
    (
        "I6",
        "SELECT lower(hex(token)), 'expired before its time' FROM reservations
        WHERE item_no = 0 AND status = 'EXPIRED' AND updated_at < expires_at",
    ),
    (
        "I6",
        "SELECT e.event_key, 'was committed when its time was over' FROM outbox e
        JOIN reservations i ON i.token = unhex(replace(e.event_key, '-', '')) AND i.item_no = 0
        WHERE e.type = 'bespeak.reservation.committed.v1' AND e.created_at >= i.expires_at",
    ),
    (
        "I7",
        // Materialized, so that the join goes by an index that SQLite makes; without it, it scans the outbox for each
        // hold.
        "WITH e AS MATERIALIZED (SELECT unhex(replace(event_key, '-', '')) AS token, key_version FROM outbox
            WHERE type LIKE 'bespeak.reservation.%'
                AND coalesce(published_at, first_published_at, 9223372036854775807) >= ?1)
        SELECT lower(hex(i.token)), format('has version %d, and its events are %s', i.version,
            coalesce(group_concat(e.key_version, ', ' ORDER BY e.key_version), 'none'))
        FROM reservations i LEFT JOIN e ON e.token = i.token
        WHERE i.item_no = 0 GROUP BY i.token
        HAVING count(e.key_version) <> count(DISTINCT e.key_version)
            OR count(e.key_version) <> i.version - coalesce(min(e.key_version), i.version + 1) + 1
            OR max(e.key_version) <> i.version
            OR (i.created_at >= ?1 AND count(e.key_version) <> i.version)
            OR (i.updated_at >= ?1 AND count(e.key_version) = 0)",
    ),
    (
        "I7",
        "SELECT lower(hex(i.token)), format('is %s, and its last event is %s of %s', i.status, e.type,
            coalesce(e.payload ->> 'status', 'nothing'))
        FROM outbox e JOIN reservations i ON i.token = unhex(replace(e.event_key, '-', '')) AND i.item_no = 0
            AND i.version = e.key_version
        WHERE e.type LIKE 'bespeak.reservation.%' AND (e.payload ->> 'status' IS NOT i.status OR e.type <> CASE i.status
            WHEN 'HELD' THEN CASE i.version WHEN 1 THEN 'bespeak.reservation.held.v1'
                ELSE 'bespeak.reservation.extended.v1' END
            ELSE 'bespeak.reservation.' || lower(i.status) || '.v1' END)",
    ),
    (
        "I7",
        "SELECT DISTINCT e.event_key, 'has events but no record' FROM outbox e WHERE CASE
            WHEN e.type LIKE 'bespeak.stock.%' THEN NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = e.event_key)
            ELSE e.created_at >= (SELECT kept_since FROM retention WHERE what = 'reservations') AND NOT EXISTS
                (SELECT 1 FROM reservations i WHERE i.token = unhex(replace(e.event_key, '-', ''))) END",
    ),
    (
        "I7",
        "SELECT r.id, format('has %d available, and its last edge is %s', r.available, coalesce(e.type, 'none'))
        FROM resources r LEFT JOIN (SELECT event_key, type, max(key_version) FROM outbox
            WHERE type LIKE 'bespeak.stock.%'
                AND coalesce(published_at, first_published_at, 9223372036854775807) >= ?1
            GROUP BY event_key) e ON e.event_key = r.id
        WHERE CASE WHEN e.type IS NULL THEN r.available = 0 AND r.total > 0 AND r.created_at >= ?1
            ELSE (r.available = 0) <> (e.type = 'bespeak.stock.depleted.v1') END",
    ),
    (
        "I7",
        "SELECT e.event_key, format('%s twice running, at version %d', e.type, e.key_version) FROM (SELECT event_key,
            type, key_version, lag(type) OVER (PARTITION BY event_key ORDER BY key_version) AS before
            FROM outbox WHERE type LIKE 'bespeak.stock.%'
                AND coalesce(published_at, first_published_at, 9223372036854775807) >= ?1) e
        WHERE e.type = e.before",
    ),
    (
        "I7",
        "SELECT e.event_key, format('has an edge at version %d and is at version %d', max(e.key_version), r.version)
        FROM outbox e JOIN resources r ON r.id = e.event_key WHERE e.type LIKE 'bespeak.stock.%'
        GROUP BY e.event_key HAVING max(e.key_version) > r.version",
    ),
];

/// Marks the check for stock events that do not alternate.
const REPEATS: &str = "twice running";

/// The condition of that check, beside its own: units may be given back twice in a row where each give-back is an
/// event.
fn exception_of(reported: ReportedStock) -> &'static str {
    match reported {
        ReportedStock::Edges => "",
        ReportedStock::EveryGiveBack => " AND e.type <> 'bespeak.stock.restored.v1'",
    }
}

/// The instant since which every event must be there: always, until the first published row was purged.
const KEPT_SINCE: &str = "SELECT kept_since FROM retention WHERE what = 'outbox'";

pub(super) async fn audit(pool: &Pool, reported: ReportedStock) -> Result<Audit, StoreError> {
    let mut connection = pool.acquire().await?;
    let mut view = connection.begin().await.map_err(failed)?;
    let mut audit = Audit {
        resources: count(&mut view, "SELECT count(*) FROM resources").await?,
        reservations: count(&mut view, "SELECT count(*) FROM reservations WHERE item_no = 0").await?,
        events: count(&mut view, "SELECT count(*) FROM outbox").await?,
        findings: Vec::new(),
    };
    let (kept,): (i64,) = sqlx::query_as(KEPT_SINCE).fetch_one(&mut *view).await.map_err(failed)?;
    for (invariant, sql) in CHECKS {
        let exception = if sql.contains(REPEATS) { exception_of(reported) } else { "" };
        let sql = AssertSqlSafe(format!("{sql}{exception} LIMIT {FINDINGS_MAX}"));
        let rows: Vec<(String, String)> =
            sqlx::query_as(sql).bind(kept).fetch_all(&mut *view).await.map_err(failed)?;
        audit.findings.extend(rows.into_iter().map(|(id, problem)| AuditFinding {
            invariant,
            id: hyphenated(id),
            problem,
        }));
    }
    view.rollback().await.map_err(failed)?;
    Ok(audit)
}

async fn count(view: &mut Transaction<'_, Sqlite>, sql: &'static str) -> Result<u64, StoreError> {
    let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&mut **view).await.map_err(failed)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
