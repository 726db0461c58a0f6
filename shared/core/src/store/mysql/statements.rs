//! Parts of statements that several files use: the columns of records, the clock, ids as literals.

use super::{Clock, sql::Sql};
use crate::engine::{ResourceId, Token};

/// Reads `id, total, available, version, fulfilment, created_at, updated_at` of resources.
pub(super) const RESOURCES: &str =
    "SELECT id, total, available, version, fulfilment, created_at, updated_at FROM resources FORCE INDEX (PRIMARY)
    WHERE id IN ";

/// The columns that `decode::reservations` reads.
macro_rules! reservation_columns {
    () => {
        "SELECT r.token, r.item_no, r.resource_id, r.quantity, r.status, r.version, r.created_at, r.expires_at,
        r.updated_at, r.idempotency_key, r.fingerprint, r.holder, r.metadata FROM "
    };
}

/// Reads reservations by token, in lock order.
pub(super) const BY_TOKEN: &str =
    concat!(reservation_columns!(), "reservations r FORCE INDEX (PRIMARY) WHERE r.token IN ");

/// Reads reservations by idempotency key: the key's index finds item 0, and the primary key finds all items of its
/// reservation.
pub(super) const BY_KEY: &str = concat!(
    reservation_columns!(),
    "reservations k FORCE INDEX (reservations_key)
    STRAIGHT_JOIN reservations r FORCE INDEX (PRIMARY) ON r.token = k.token
    WHERE k.scope = '' AND k.idempotency_key IN "
);

/// The time at which this statement runs, in microseconds since 1970; sessions are in UTC. `NOW(6)` and
/// `UTC_TIMESTAMP(6)` would return the time at which the statement began to wait.
pub(super) const CLOCK: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', SYSDATE(6))";

/// Puts the items of one reservation next to each other.
pub(super) const ITEMS_IN_ORDER: &str = " ORDER BY r.token, r.item_no";

/// The present instant as an expression that is constant within its statement, so that an index can be searched by
/// it.
pub(super) fn instant(sql: Sql, clock: &Clock) -> Sql {
    match clock {
        Clock::Own => sql.push("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"),
        Clock::Fixed(clock) => sql.integer(clock.now().as_microsecond()),
    }
}

pub(super) fn token(sql: Sql, token: &Token) -> Sql {
    sql.bytes(token.uuid().as_bytes())
}

pub(super) fn id(sql: Sql, id: &ResourceId) -> Sql {
    sql.text(id.as_str())
}
