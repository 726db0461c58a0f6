//! Selects the rows of the outbox that an operator wants to see.

use super::{Clock, sql::Sql, statements::instant};
use crate::store::{OutboxFilter, OutboxState};

/// The columns of an event, up to those that only operators see.
const EVENT: &str =
    "SELECT o.id, o.event_id, o.shard, o.event_key, o.key_version, o.type, o.payload, o.created_at,
    o.traceparent, b.attempts";

/// Selects the rows that an operator wants to see.
pub(super) fn filtered(filter: &OutboxFilter, clock: &Clock) -> Sql {
    let mut sql = Sql::new(EVENT)
        .push(
            ", o.published_at, b.parked, b.blocked_until, b.reason
            FROM outbox o LEFT JOIN outbox_blocked b ON b.event_key = o.event_key WHERE o.id > ",
        )
        .integer(filter.after);
    sql = match filter.state {
        None => sql,
        Some(OutboxState::Published) => sql.push(" AND o.published_at IS NOT NULL"),
        Some(OutboxState::Parked) => sql.push(" AND o.published_at IS NULL AND b.parked = 1"),
        Some(OutboxState::Blocked) => {
            let sql = sql.push(" AND o.published_at IS NULL AND b.parked = 0 AND b.blocked_until > ");
            instant(sql, clock)
        }
        Some(OutboxState::Waiting) => {
            let sql = sql.push(
                " AND o.published_at IS NULL AND (b.event_key IS NULL
                OR (b.parked = 0 AND b.blocked_until <= ",
            );
            instant(sql, clock).push("))")
        }
    };
    if let Some(key) = &filter.key {
        sql = sql.push(" AND o.event_key = ").text(key);
    }
    if let Some(event_id) = &filter.event_id {
        sql = sql.push(" AND o.event_id = ").bytes(event_id.as_bytes());
    }
    sql.push(" ORDER BY o.id LIMIT ").integer(i64::from(filter.limit))
}
