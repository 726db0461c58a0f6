//! The audit. Each query returns the records that violate an invariant, with their ids. All of them run in one
//! snapshot, so that concurrent writers do not look like errors. The checks are those of `sqlite/audit.rs`, in SQL
//! that MySQL and MariaDB share.

use std::time::Duration;

use super::{
    StoreError,
    connect::Pool,
    round_trip::{TrackedConnection, rows},
    sql::{Script, Sql},
};
use crate::{
    engine::ReportedStock,
    store::{
        Audit, AuditFinding,
        audit::{FINDINGS_MAX, hyphenated},
        decode::Columns,
    },
};

/// How long one check may take: it reads every row.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3_600);

/// An invariant, and a query whose rows `(id, problem)` violate it. If the query has several parts, the instant since
/// which every event must be there is written between them. An event that was published before it, and is there all the
/// same because an operator had it published again, may have lost its successors.
const CHECKS: [(&str, &[&str]); 14] = [
    (
        "I1",
        &["SELECT r.id, CONCAT('total ', r.total, ' is not available ', r.available, ' + held and committed ',
            COALESCE(t.taken, 0))
        FROM resources r LEFT JOIN (SELECT resource_id, SUM(quantity) AS taken FROM reservations
            WHERE status IN ('HELD', 'COMMITTED') GROUP BY resource_id) t ON t.resource_id = r.id
        WHERE r.available < 0 OR r.available + COALESCE(t.taken, 0) <> r.total"],
    ),
    (
        "I1",
        &["SELECT DISTINCT i.resource_id, 'is reserved but does not exist'
        FROM reservations i WHERE NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = i.resource_id)"],
    ),
    (
        "I2",
        &["SELECT LOWER(HEX(token)), CONCAT('its ', COUNT(*), ' items are not of one state') FROM reservations
        GROUP BY token HAVING MIN(status) <> MAX(status) OR MIN(version) <> MAX(version)
            OR MIN(expires_at) <> MAX(expires_at) OR MAX(item_no) + 1 <> COUNT(*)"],
    ),
    (
        "I2",
        &["SELECT e.event_key, 'does not have the items that it was made with'
        FROM (SELECT o.id, o.event_key,
                GROUP_CONCAT(v.resource_id, '=', v.quantity ORDER BY v.n SEPARATOR ',') AS made
            FROM outbox o LEFT JOIN JSON_TABLE(o.payload, '$.items[*]' COLUMNS (n FOR ORDINALITY,
                resource_id VARCHAR(128) PATH '$.resourceId', quantity BIGINT PATH '$.quantity')) v
            ON TRUE WHERE o.type = 'bespeak.reservation.held.v1' GROUP BY o.id, o.event_key) e
        JOIN (SELECT token, GROUP_CONCAT(resource_id, '=', quantity ORDER BY item_no SEPARATOR ',') AS has
            FROM reservations GROUP BY token) i ON i.token = UNHEX(REPLACE(e.event_key, '-', ''))
        WHERE NOT (CAST(e.made AS BINARY) <=> CAST(i.has AS BINARY))"],
    ),
    (
        "I3",
        &["SELECT event_key, CONCAT('ended ', COUNT(*), ' times: ', GROUP_CONCAT(type SEPARATOR ', ')) FROM outbox
        WHERE type IN ('bespeak.reservation.committed.v1', 'bespeak.reservation.released.v1',
            'bespeak.reservation.expired.v1')
        GROUP BY event_key HAVING COUNT(*) > 1"],
    ),
    (
        "I6",
        &["SELECT LOWER(HEX(token)), 'expired before its time' FROM reservations
        WHERE item_no = 0 AND status = 'EXPIRED' AND updated_at < expires_at"],
    ),
    (
        "I6",
        &["SELECT e.event_key, 'was committed when its time was over'
        FROM (SELECT event_key, created_at, UNHEX(REPLACE(event_key, '-', '')) AS token FROM outbox
            WHERE type = 'bespeak.reservation.committed.v1') e
        JOIN reservations i ON i.token = e.token AND i.item_no = 0 AND e.created_at >= i.expires_at"],
    ),
    (
        "I3",
        &["SELECT e.event_key, CONCAT(e.type, ' came after ', e.preceding) FROM (SELECT event_key, type,
            LAG(type) OVER (PARTITION BY event_key ORDER BY key_version) AS preceding
            FROM outbox WHERE type LIKE 'bespeak.reservation.%'
                AND COALESCE(published_at, first_published_at, 9223372036854775807) >= ", ") e
        WHERE e.preceding IS NOT NULL AND NOT CASE e.type
            WHEN 'bespeak.reservation.held.v1' THEN FALSE
            WHEN 'bespeak.reservation.cancelled.v1' THEN e.preceding = 'bespeak.reservation.committed.v1'
            ELSE e.preceding IN ('bespeak.reservation.held.v1', 'bespeak.reservation.extended.v1') END"],
    ),
    (
        "I7",
        &[
            "SELECT LOWER(HEX(i.token)), CONCAT('has version ', i.version, ', and its events are ',
            COALESCE(e.versions, 'none'))
        FROM reservations i LEFT JOIN (SELECT CAST(UNHEX(REPLACE(event_key, '-', '')) AS BINARY(16)) AS token,
                COUNT(*) AS events, COUNT(DISTINCT key_version) AS distinct_versions, MIN(key_version) AS lowest,
                MAX(key_version) AS highest, GROUP_CONCAT(key_version ORDER BY key_version SEPARATOR ', ') AS versions
            FROM outbox WHERE type LIKE 'bespeak.reservation.%'
                AND COALESCE(published_at, first_published_at, 9223372036854775807) >= ",
            " GROUP BY event_key) e ON e.token = i.token
        WHERE i.item_no = 0 AND (e.events <> e.distinct_versions OR e.events <> i.version - e.lowest + 1
            OR e.highest <> i.version
            OR (i.created_at >= ",
            " AND COALESCE(e.events, 0) <> i.version)
            OR (i.updated_at >= ",
            " AND e.events IS NULL))",
        ],
    ),
    (
        "I7",
        &["SELECT LOWER(HEX(i.token)), CONCAT('is ', i.status, ', and its last event is ', e.type, ' of ',
            COALESCE(e.recorded_status, 'nothing'))
        FROM (SELECT UNHEX(REPLACE(event_key, '-', '')) AS token, key_version, type,
                JSON_UNQUOTE(JSON_EXTRACT(payload, '$.status')) AS recorded_status
            FROM outbox WHERE type LIKE 'bespeak.reservation.%') e
        JOIN reservations i ON i.token = e.token AND i.item_no = 0 AND i.version = e.key_version
        WHERE NOT (e.recorded_status <=> i.status) OR e.type <> CASE i.status
            WHEN 'HELD' THEN CASE i.version WHEN 1 THEN 'bespeak.reservation.held.v1'
                ELSE 'bespeak.reservation.extended.v1' END
            ELSE CONCAT('bespeak.reservation.', LOWER(i.status), '.v1') END"],
    ),
    (
        "I7",
        &["SELECT DISTINCT e.event_key, 'has events but no record' FROM outbox e WHERE CASE
            WHEN e.type LIKE 'bespeak.stock.%' THEN NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = e.event_key)
            ELSE e.created_at >= (SELECT kept_since FROM retention WHERE what = 'reservations') AND NOT EXISTS
                (SELECT 1 FROM reservations i WHERE i.token = UNHEX(REPLACE(e.event_key, '-', ''))) END"],
    ),
    (
        "I7",
        &["SELECT r.id, CONCAT('has ', r.available, ' available, and its last edge is ', COALESCE(e.type, 'none'))
        FROM resources r LEFT JOIN (SELECT event_key, type, ROW_NUMBER() OVER (PARTITION BY event_key
            ORDER BY key_version DESC) AS n FROM outbox WHERE type LIKE 'bespeak.stock.%'
                AND COALESCE(published_at, first_published_at, 9223372036854775807) >= ", ") e
            ON e.event_key = r.id AND e.n = 1
        WHERE CASE WHEN e.type IS NULL THEN r.available = 0 AND r.total > 0 AND r.created_at >= ", "
            ELSE (r.available = 0) <> (e.type = 'bespeak.stock.depleted.v1') END"],
    ),
    (
        "I7",
        &["SELECT e.event_key, CONCAT(e.type, ' twice running, at version ', e.key_version) FROM (SELECT event_key,
            type, key_version, LAG(type) OVER (PARTITION BY event_key ORDER BY key_version) AS preceding
            FROM outbox WHERE type LIKE 'bespeak.stock.%'
                AND COALESCE(published_at, first_published_at, 9223372036854775807) >= ", ") e
        WHERE e.type = e.preceding"],
    ),
    (
        "I7",
        &["SELECT e.event_key, CONCAT('has an edge at version ', MAX(e.key_version), ' and is at version ', r.version)
        FROM outbox e JOIN resources r ON r.id = e.event_key WHERE e.type LIKE 'bespeak.stock.%'
        GROUP BY e.event_key, r.version HAVING MAX(e.key_version) > r.version"],
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
    let mut view = TrackedConnection::open(pool).await?;
    view.set_timeout(CHECK_TIMEOUT);
    let mut script = Script::default();
    script.add(Sql::new("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
    script.add(Sql::new("START TRANSACTION WITH CONSISTENT SNAPSHOT"));
    let resources = script.add(Sql::new("SELECT COUNT(*) FROM resources"));
    let reservations = script.add(Sql::new("SELECT COUNT(*) FROM reservations WHERE item_no = 0"));
    let events = script.add(Sql::new("SELECT COUNT(*) FROM outbox"));
    let kept = script.add(Sql::new(KEPT_SINCE));
    let results = view.run(script).await?;
    let number = |place| rows(&results, place).first().map_or(Ok(0), |row| row.integer(0));
    let count = |place| number(place).map(|count| u64::try_from(count).unwrap_or(0));
    let mut audit = Audit {
        resources: count(resources)?,
        reservations: count(reservations)?,
        events: count(events)?,
        findings: Vec::new(),
    };
    let kept = number(kept)?;
    for (invariant, parts) in CHECKS {
        let mut script = Script::default();
        let is_of_repeats = parts.iter().any(|part| part.contains(REPEATS));
        let exception = if is_of_repeats { exception_of(reported) } else { "" };
        let mut parts = parts.iter();
        let first = Sql::new(parts.next().copied().unwrap_or_default());
        let check = parts.fold(first, |sql, part| sql.integer(kept).push(part));
        script.add(check.push(exception).push(" LIMIT ").integer(i64::from(FINDINGS_MAX)));
        for row in rows(&view.run(script).await?, 0) {
            let (id, problem) = (hyphenated(row.text(0)?), row.text(1)?.to_owned());
            audit.findings.push(AuditFinding { invariant, id, problem });
        }
    }
    let mut script = Script::default();
    script.add(Sql::new("ROLLBACK"));
    view.run(script).await?;
    view.mark_clean();
    Ok(audit)
}
