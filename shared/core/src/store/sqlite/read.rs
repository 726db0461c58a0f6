//! Views: what readers see at an instant, with overdue holds counted as given back (I6). Nothing here writes.
//!
//! The clock is read when a connection is there: a time that was read before waiting for one would be stale.

use std::collections::HashMap;

use sqlx::{Sqlite, pool::PoolConnection};

use super::{
    Clock, Due, Page, StoreError, clock,
    connect::Pool,
    error::failed,
    json,
    session::{RESERVATIONS_BY_KEY, reservation_columns},
};
use crate::{
    engine::{IdempotencyKey, Reservation, Resource, ResourceId, Timestamp, Token},
    store::decode,
};

macro_rules! resource_view {
    () => {
        "SELECT r.id, r.total, r.available + coalesce((SELECT sum(h.quantity) FROM reservations h
            WHERE h.resource_id = r.id AND h.status = 'HELD' AND h.expires_at <= ?1), 0),
        r.version, r.fulfilment, r.created_at, r.updated_at FROM resources r "
    };
}

/// A connection, and the time since which the caller has it.
pub(super) async fn connected(
    pool: &Pool,
    clock: &Clock,
) -> Result<(PoolConnection<Sqlite>, Timestamp), StoreError> {
    let connection = pool.acquire().await?;
    Ok((connection, clock::now(clock)))
}

pub(super) async fn resource(
    pool: &Pool,
    id: &ResourceId,
    clock: &Clock,
) -> Result<Option<Resource>, StoreError> {
    let (mut connection, now) = connected(pool, clock).await?;
    sqlx::query(concat!(resource_view!(), "WHERE r.id = ?2"))
        .bind(now.as_microsecond())
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?
        .map(|row| decode::resource(&row))
        .transpose()
}

pub(super) async fn resources(pool: &Pool, page: &Page, clock: &Clock) -> Result<Vec<Resource>, StoreError> {
    let (mut connection, now) = connected(pool, clock).await?;
    sqlx::query(concat!(resource_view!(), "WHERE r.id > ?2 ORDER BY r.id LIMIT ?3"))
        .bind(now.as_microsecond())
        .bind(page.after.as_ref().map_or("", ResourceId::as_str))
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?
        .iter()
        .map(decode::resource)
        .collect()
}

pub(super) async fn reservation(
    pool: &Pool,
    token: Token,
    clock: &Clock,
) -> Result<Option<Reservation>, StoreError> {
    let (mut connection, now) = connected(pool, clock).await?;
    let rows = sqlx::query(concat!(
        "SELECT ",
        reservation_columns!("r"),
        " FROM reservations r WHERE r.token = ?1 ORDER BY r.item_no"
    ))
    .bind(token.uuid().as_bytes().as_slice())
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    Ok(decode::reservations(&rows)?.pop().map(|reservation| reservation.as_of(now)))
}

pub(super) async fn by_keys(
    pool: &Pool,
    keys: &[IdempotencyKey],
    clock: &Clock,
) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
    let (mut connection, now) = connected(pool, clock).await?;
    let rows = sqlx::query(RESERVATIONS_BY_KEY)
        .bind(json::keys_json(keys)?)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    Ok((decode::reservations(&rows)?, now))
}

pub(super) async fn first_resources(
    pool: &Pool,
    tokens: &[Token],
) -> Result<HashMap<Token, ResourceId>, StoreError> {
    let rows = sqlx::query(
        "SELECT r.token, r.resource_id FROM json_each(?1) j
        CROSS JOIN reservations r ON r.token = unhex(j.value) AND r.item_no = 0",
    )
    .bind(json::tokens_json(tokens)?)
    .fetch_all(&mut *pool.acquire().await?)
    .await
    .map_err(failed)?;
    Ok(decode::first_resources(&rows))
}

pub(super) async fn due(pool: &Pool, limit: u32, clock: &Clock) -> Result<Due, StoreError> {
    let (mut connection, now) = connected(pool, clock).await?;
    // One more than the limit: it is either overdue too, or its end is the time to look again.
    let rows = sqlx::query(
        "SELECT token, expires_at FROM reservations WHERE status = 'HELD' AND item_no = 0
        ORDER BY expires_at LIMIT ?1",
    )
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    decode::due(&rows, limit, now)
}
