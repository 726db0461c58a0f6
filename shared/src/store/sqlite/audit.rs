//! The audit: each query returns what breaks an invariant, with its id. All of them in one read transaction, so that
//! writers at work do not look like errors.

use sqlx::{Sqlite, SqlitePool, Transaction};

use super::{Audit, StoreError, error::failed};
use crate::store::Finding;

/// An invariant, and a query whose rows `(id, problem)` break it.
const CHECKS: [(&str, &str); 9] = [
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
        "SELECT e.event_key, format('was made with %d items and has %d', json_array_length(e.payload, '$.items'),
            (SELECT count(*) FROM reservations i WHERE i.token = unhex(replace(e.event_key, '-', ''))))
        FROM outbox e WHERE e.type = 'bespeak.reservation.held.v1'
            AND EXISTS (SELECT 1 FROM reservations i WHERE i.token = unhex(replace(e.event_key, '-', '')))
            AND json_array_length(e.payload, '$.items') <>
                (SELECT count(*) FROM reservations i WHERE i.token = unhex(replace(e.event_key, '-', '')))",
    ),
    (
        "I3",
        "SELECT event_key, format('ended %d times: %s', count(*), group_concat(type, ', ')) FROM outbox
        WHERE type IN ('bespeak.reservation.committed.v1', 'bespeak.reservation.released.v1',
            'bespeak.reservation.expired.v1')
        GROUP BY event_key HAVING count(*) > 1",
    ),
    (
        "I7",
        "SELECT lower(hex(i.token)), format('has version %d and %d events, %d of them distinct', i.version,
            count(e.key_version), count(DISTINCT e.key_version))
        FROM reservations i LEFT JOIN (SELECT unhex(replace(event_key, '-', '')) AS token, key_version FROM outbox
            WHERE type LIKE 'bespeak.reservation.%') e ON e.token = i.token
        WHERE i.item_no = 0 GROUP BY i.token
        HAVING count(e.key_version) <> i.version OR count(DISTINCT e.key_version) <> i.version
            OR max(e.key_version) <> i.version",
    ),
    (
        "I7",
        "SELECT lower(hex(i.token)), format('is %s, and its last event is %s', i.status, e.type)
        FROM outbox e JOIN reservations i ON i.token = unhex(replace(e.event_key, '-', '')) AND i.item_no = 0
            AND i.version = e.key_version
        WHERE e.type LIKE 'bespeak.reservation.%' AND e.type <> CASE i.status
            WHEN 'HELD' THEN CASE i.version WHEN 1 THEN 'bespeak.reservation.held.v1'
                ELSE 'bespeak.reservation.extended.v1' END
            ELSE 'bespeak.reservation.' || lower(i.status) || '.v1' END",
    ),
    (
        "I7",
        "SELECT DISTINCT e.event_key, 'has events but no record' FROM outbox e WHERE CASE
            WHEN e.type LIKE 'bespeak.stock.%' THEN NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = e.event_key)
            ELSE NOT EXISTS (SELECT 1 FROM reservations i WHERE i.token = unhex(replace(e.event_key, '-', ''))) END",
    ),
    (
        "I7",
        "SELECT r.id, format('has %d available, and its last edge is %s', r.available, e.type) FROM resources r
        JOIN (SELECT event_key, type, max(key_version) FROM outbox WHERE type LIKE 'bespeak.stock.%'
            GROUP BY event_key) e ON e.event_key = r.id
        WHERE (r.available = 0) <> (e.type = 'bespeak.stock.depleted.v1')",
    ),
];

pub(super) async fn audit(pool: &SqlitePool) -> Result<Audit, StoreError> {
    let mut view = pool.begin().await.map_err(failed)?;
    let mut audit = Audit {
        resources: count(&mut view, "SELECT count(*) FROM resources").await?,
        reservations: count(&mut view, "SELECT count(*) FROM reservations WHERE item_no = 0").await?,
        events: count(&mut view, "SELECT count(*) FROM outbox").await?,
        findings: Vec::new(),
    };
    for (invariant, sql) in CHECKS {
        let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut *view).await.map_err(failed)?;
        audit.findings.extend(rows.into_iter().map(|(id, problem)| Finding {
            invariant,
            id: hyphenated(id),
            problem,
        }));
    }
    view.rollback().await.map_err(failed)?;
    Ok(audit)
}

async fn count(view: &mut Transaction<'static, Sqlite>, sql: &'static str) -> Result<u64, StoreError> {
    let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&mut **view).await.map_err(failed)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// A token as clients know it, from the database's plain hexadecimal.
fn hyphenated(id: String) -> String {
    let plain = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { uuid::Uuid::try_parse(&id).map_or(id, |token| token.to_string()) } else { id }
}
