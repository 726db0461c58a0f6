//! Rows into records. A row that the engine could not have written is reported, never repaired.

use std::sync::Arc;

use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::StoreError;
use crate::engine::{
    Fingerprint, Fulfilment, Holder, IdempotencyKey, Item, Items, Metadata, Quantity, Reservation, Resource,
    ResourceId, Status, Timestamp, Token,
};

/// `id, total, available, version, fulfilment, created_at, updated_at`.
pub(super) fn resource(row: &SqliteRow) -> Result<Resource, StoreError> {
    let id: &str = row.try_get(0).map_err(unreadable)?;
    let wrong = |what: String| corrupt(format!("resource {id}: {what}"));
    Ok(Resource {
        id: ResourceId::new("id", id).map_err(|violation| wrong(violation.to_string()))?,
        total: unsigned(row, 1)?,
        available: unsigned(row, 2)?,
        version: unsigned(row, 3)?,
        fulfilment: Fulfilment::parse("fulfilment", row.try_get(4).map_err(unreadable)?)
            .map_err(|violation| wrong(violation.to_string()))?,
        created_at: timestamp(row, 5)?,
        updated_at: timestamp(row, 6)?,
    })
}

/// `token, item_no, resource_id, quantity, status, version, created_at, expires_at, updated_at, idempotency_key,
/// fingerprint, holder, metadata` of each item, in primary key order.
pub(super) fn reservations(rows: &[SqliteRow]) -> Result<Vec<Reservation>, StoreError> {
    let mut reservations = Vec::with_capacity(rows.len());
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let token = token(first)?;
        let mut count = 1;
        while let Some(next) = rest.get(count) {
            if self::token(next)? != token {
                break;
            }
            count += 1;
        }
        let (items, others) = rest.split_at(count);
        reservations.push(reservation(token, first, items)?);
        rest = others;
    }
    Ok(reservations)
}

fn reservation(token: Token, first: &SqliteRow, rows: &[SqliteRow]) -> Result<Reservation, StoreError> {
    let wrong = |what: String| corrupt(format!("reservation {token}: {what}"));
    let status: &str = first.try_get(4).map_err(unreadable)?;
    let key: &str = first.try_get(9).map_err(unreadable)?;
    let fingerprint: &[u8] = first.try_get(10).map_err(unreadable)?;
    let holder: Option<&str> = first.try_get(11).map_err(unreadable)?;
    let metadata: Option<String> = first.try_get(12).map_err(unreadable)?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(Item {
            resource_id: ResourceId::new("resource_id", row.try_get(2).map_err(unreadable)?)
                .map_err(|violation| wrong(violation.to_string()))?,
            quantity: Quantity::new("quantity", unsigned(row, 3)?)
                .map_err(|violation| wrong(violation.to_string()))?,
        });
    }
    Ok(Reservation {
        token,
        items: Items::from_stored(items).map_err(|violation| wrong(violation.to_string()))?,
        status: Status::parse(status).ok_or_else(|| wrong(format!("status {status:?}")))?,
        holder: holder.map(Holder::new).transpose().map_err(|violation| wrong(violation.to_string()))?,
        metadata: metadata
            .map(Metadata::from_canonical)
            .transpose()
            .map_err(|error| wrong(format!("metadata: {error}")))?
            .map(Arc::new),
        key: IdempotencyKey::new(key).map_err(|violation| wrong(violation.to_string()))?,
        fingerprint: Fingerprint::from_bytes(
            fingerprint.try_into().map_err(|_| wrong("fingerprint is not 16 bytes".to_owned()))?,
        ),
        version: unsigned(first, 5)?,
        created_at: timestamp(first, 6)?,
        expires_at: timestamp(first, 7)?,
        updated_at: timestamp(first, 8)?,
    })
}

/// The token in column 0.
pub(super) fn token(row: &SqliteRow) -> Result<Token, StoreError> {
    let bytes: &[u8] = row.try_get(0).map_err(unreadable)?;
    Uuid::from_slice(bytes).map(Token::from_uuid).map_err(|error| corrupt(format!("a token: {error}")))
}

pub(super) fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column).map_err(unreadable)?;
    u64::try_from(value).map_err(|_| corrupt(format!("a negative number in column {column}: {value}")))
}

pub(super) fn timestamp(row: &SqliteRow, column: usize) -> Result<Timestamp, StoreError> {
    micros(row.try_get(column).map_err(unreadable)?)
}

pub(super) fn micros(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt(format!("a time: {error}")))
}

fn corrupt(what: String) -> StoreError {
    StoreError::Corrupt { what }
}

fn unreadable(error: sqlx::Error) -> StoreError {
    StoreError::Corrupt { what: format!("a row does not have this version's shape: {error}") }
}
