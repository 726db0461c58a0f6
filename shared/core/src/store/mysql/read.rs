//! Views: what readers see at an instant, with overdue holds counted as given back (I6). Nothing here writes or
//! locks.

use std::collections::HashMap;

use super::{
    Clock, StoreError,
    connect::Pool,
    round_trip::{StatementResult, clock_of, read, rows},
    sql::{Script, Sql},
    statements::{self, BY_KEY, BY_TOKEN, CLOCK, ITEMS_IN_ORDER, instant},
};
use crate::{
    engine::{IdempotencyKey, Reservation, Resource, ResourceId, Timestamp, Token},
    store::{Due, Page, decode},
};

/// The view of resources, up to its condition.
fn resource_view(clock: &Clock) -> Sql {
    let sql = Sql::new(
        "SELECT r.id, r.total, r.available + COALESCE((SELECT CAST(SUM(h.quantity) AS SIGNED)
            FROM reservations h FORCE INDEX (reservations_due_of_resource)
            WHERE h.resource_id = r.id AND h.due_at <= ",
    );
    instant(sql, clock).push(
        "), 0), r.version, r.fulfilment, r.created_at, r.updated_at FROM resources r
            FORCE INDEX (PRIMARY) WHERE ",
    )
}

/// Reads the clock.
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
    let places = script.add_lists([&token], statements::token, || Sql::new(BY_TOKEN), ITEMS_IN_ORDER);
    let now = script.add(Sql::new(CLOCK));
    let (found, now) = found(&read(pool, script).await?, &places, now, clock)?;
    Ok(found.into_iter().next().map(|reservation| reservation.as_of(now)))
}

pub(super) async fn by_keys(
    pool: &Pool,
    keys: &[IdempotencyKey],
    clock: &Clock,
) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
    let mut script = Script::default();
    // A hold may be refused because no reservation has its key. A server that was made read-only may not have all
    // reservations, and it refuses to begin a transaction that may write.
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let places =
        script.add_lists(keys, |sql, key| sql.text(key.as_str()), || Sql::new(BY_KEY), ITEMS_IN_ORDER);
    let now = script.add(Sql::new(CLOCK));
    script.add(Sql::new("COMMIT"));
    found(&read(pool, script).await?, &places, now, clock)
}

/// Decodes the reservations at some places of results, and the time at the place `now`.
fn found(
    results: &[StatementResult],
    places: &[usize],
    now: usize,
    clock: &Clock,
) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
    let mut found = Vec::new();
    for place in places {
        found.extend(decode::reservations(rows(results, *place))?);
    }
    Ok((found, clock_of(results, now, clock)?))
}

pub(super) async fn first_resources(
    pool: &Pool,
    tokens: &[Token],
) -> Result<HashMap<Token, ResourceId>, StoreError> {
    let mut script = Script::default();
    let head =
        "SELECT token, resource_id FROM reservations FORCE INDEX (PRIMARY) WHERE item_no = 0 AND token IN ";
    script.add_lists(tokens, statements::token, || Sql::new(head), "");
    let results = read(pool, script).await?;
    let rows = results.iter().flat_map(|result| &result.rows);
    Ok(decode::first_resources(rows))
}

/// Selects holds in the order in which they end.
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
    // One more than the limit: it is either overdue too, or its end is the time to look again.
    let holds = script.add(due_holds(limit.saturating_add(1)));
    let results = read(pool, script).await?;
    decode::due(rows(&results, holds), limit, clock_of(&results, now, clock)?)
}
