//! Parts of statements that several files use: the columns of records, the clock, ids as literals.

use super::{Clock, sql::Sql};
use crate::engine::{ResourceId, Token};

/// `id, total, available, version, fulfilment, created_at, updated_at`.
pub(super) const RESOURCES: &str =
    "SELECT id, total, available, version, fulfilment, created_at, updated_at FROM resources FORCE INDEX (PRIMARY)
    WHERE id IN ";

/// What `decode::reservations` reads.
macro_rules! reservation_columns {
    () => {
        "SELECT r.token, r.item_no, r.resource_id, r.quantity, r.status, r.version, r.created_at, r.expires_at,
        r.updated_at, r.idempotency_key, r.fingerprint, r.holder, r.metadata FROM "
    };
}

/// By token, in lock order.
pub(super) const BY_TOKEN: &str =
    concat!(reservation_columns!(), "reservations r FORCE INDEX (PRIMARY) WHERE r.token IN ");

/// By key: the key's index finds item 0, the primary key all items of its reservation.
pub(super) const BY_KEY: &str = concat!(
    reservation_columns!(),
    "reservations k FORCE INDEX (reservations_key)
    STRAIGHT_JOIN reservations r FORCE INDEX (PRIMARY) ON r.token = k.token
    WHERE k.scope = '' AND k.idempotency_key IN "
);

/// Microseconds since 1970, when this statement runs; sessions are in UTC. `NOW(6)` would be the time at which the
/// statement began to wait, and `UTC_TIMESTAMP(6)` with it.
pub(super) const CLOCK: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', SYSDATE(6))";

/// The items of one reservation side by side.
pub(super) const ITEMS_IN_ORDER: &str = " ORDER BY r.token, r.item_no";

/// The instant of a view, as an expression that is constant within its statement, so that an index can be searched by it.
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
