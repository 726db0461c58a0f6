//! Views: what readers see at an instant, overdue holds counted as given back (I6). Nothing here writes or locks.

use std::collections::HashMap;

use super::connect::Pool;

use super::{
    Clock, Due, Page, StoreError,
    session::{self, BY_KEY, BY_TOKEN, CLOCK, ITEMS_IN_ORDER, clock_of, rows},
    sql::{Script, Sql},
    wire::read,
};
use crate::{
    engine::{IdempotencyKey, Reservation, Resource, ResourceId, Timestamp, Token},
    store::decode,
};

/// The instant of a view, as an expression that is constant within its statement, so that an index can be searched by it.
pub(super) fn instant(sql: Sql, clock: &Clock) -> Sql {
    match clock {
        Clock::Own => sql.push("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"),
        Clock::Fixed(clock) => sql.integer(clock.now().as_microsecond()),
    }
}

/// The view of resources, up to its `WHERE`.
fn resource_view(clock: &Clock) -> Sql {
    let sql = Sql::new(
        "SELECT r.id, r.total, r.available + COALESCE((SELECT CAST(SUM(h.quantity) AS SIGNED)
            FROM reservations h FORCE INDEX (reservations_due_of_resource)
            WHERE h.resource_id = r.id AND h.due_at <= ",
    );
    instant(sql, clock)
        .push("), 0), r.version, r.fulfilment, r.created_at, r.updated_at FROM resources r FORCE INDEX (PRIMARY) WHERE ")
}

/// The clock.
pub(super) async fn now(pool: &Pool, clock: &Clock) -> Result<Timestamp, StoreError> {
    let mut script = Script::default();
    let place = script.add(Sql::new(CLOCK));
    clock_of(&read(pool, script).await?, place, clock)
}

pub(super) async fn resource(
    pool: &Pool,
    id: &ResourceId,
    clock: &Clock,
) -> Result<Option<Resource>, StoreError> {
    let mut script = Script::default();
    let place = script.add(resource_view(clock).push("r.id = ").text(id.as_str()));
    rows(&read(pool, script).await?, place).first().map(decode::resource).transpose()
}

pub(super) async fn resources(pool: &Pool, page: &Page, clock: &Clock) -> Result<Vec<Resource>, StoreError> {
    let after = page.after.as_ref().map_or("", ResourceId::as_str);
    let mut script = Script::default();
    let place = script.add(
        resource_view(clock)
            .push("r.id > ")
            .text(after)
            .push(" ORDER BY r.id LIMIT ")
            .integer(i64::from(page.limit)),
    );
    rows(&read(pool, script).await?, place).iter().map(decode::resource).collect()
}

pub(super) async fn reservation(
    pool: &Pool,
    token: Token,
    clock: &Clock,
) -> Result<Option<Reservation>, StoreError> {
    let mut script = Script::default();
    let places = script.add_lists([&token], session::token, || Sql::new(BY_TOKEN), ITEMS_IN_ORDER);
    let (found, now) = found(pool, script, &places, clock).await?;
    Ok(found.into_iter().next().map(|reservation| reservation.as_of(now)))
}

pub(super) async fn by_keys(
    pool: &Pool,
    keys: &[IdempotencyKey],
    clock: &Clock,
) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
    let mut script = Script::default();
    let places =
        script.add_lists(keys, |sql, key| sql.text(key.as_str()), || Sql::new(BY_KEY), ITEMS_IN_ORDER);
    found(pool, script, &places, clock).await
}

/// The reservations at some places of a script, and the clock when they were read.
async fn found(
    pool: &Pool,
    mut script: Script,
    places: &[usize],
    clock: &Clock,
) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
    let now = script.add(Sql::new(CLOCK));
    let answers = read(pool, script).await?;
    let mut found = Vec::new();
    for place in places {
        found.extend(decode::reservations(rows(&answers, *place))?);
    }
    Ok((found, clock_of(&answers, now, clock)?))
}

pub(super) async fn first_resources(
    pool: &Pool,
    tokens: &[Token],
) -> Result<HashMap<Token, ResourceId>, StoreError> {
    let mut script = Script::default();
    let head =
        "SELECT token, resource_id FROM reservations FORCE INDEX (PRIMARY) WHERE item_no = 0 AND token IN ";
    script.add_lists(tokens, session::token, || Sql::new(head), "");
    let answers = read(pool, script).await?;
    let rows = answers.iter().flat_map(|answer| &answer.rows);
    rows.map(|row| Ok((decode::token(row)?, decode::resource_id(row, 1)?))).collect()
}

/// Holds in the order in which they end.
fn due_holds(limit: u32) -> Sql {
    Sql::new(
        "SELECT token, due_at FROM reservations FORCE INDEX (reservations_due)
        WHERE due_at IS NOT NULL AND item_no = 0 ORDER BY due_at LIMIT ",
    )
    .integer(i64::from(limit))
}

pub(super) async fn due(pool: &Pool, limit: u32, clock: &Clock) -> Result<Due, StoreError> {
    let mut script = Script::default();
    let now = script.add(Sql::new(CLOCK));
    // One more than asked for: either it is overdue too, or it says when to look again.
    let holds = script.add(due_holds(limit.saturating_add(1)));
    let answers = read(pool, script).await?;
    decode::due(rows(&answers, holds), limit, clock_of(&answers, now, clock)?)
}
